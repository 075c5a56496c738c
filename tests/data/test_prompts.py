"""From rows to tasks: fields, splits, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator import data as prompts
from orchestrator.data import TableConfig, answers_of, as_text, same_prompt, tasks_of
from orchestrator.data.tables import Row
from orchestrator.errors import ConfigError, DataError
from orchestrator.values import Task


def table(folder: Path, *rows: dict[str, Any], **settings: Any) -> TableConfig:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return TableConfig(path=str(path), **settings)


def many(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"question {number}", **fields} for number in range(count)]


def ids(tasks: list[Task]) -> list[str]:
    return [task.id for task in tasks]


def test_prompts_messages_and_further_fields(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "床前明月光？", "name": "x"}]
    rows = [
        {"id": 7, "prompt": "Why?", "answer": "So.", "topic": "a", "split": "Train"},
        {"id": "b", "messages": chat, "split": "validation"},
    ]
    tasks = tasks_of(table(tmp_path, *rows, system="Be kind."))
    (why,), (poem,) = tasks["train"], tasks["eval"]
    assert why.id == "7"
    assert why.messages == ({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"})
    assert why.reference == {"row": {"answer": "So.", "topic": "a"}, "where": f"{tmp_path}/p.jsonl row 0 (line 1)"}
    # its own system prompt stays, and what is not role or content goes
    assert poem.messages == (chat[0], {"role": "user", "content": "床前明月光？"})
    assert as_text(poem.messages) == "system: Be brief.\n\nuser: 床前明月光？"
    assert same_prompt(why.messages) == same_prompt([{"role": "user", "content": " why?\n"}]) == "why?"


def test_fields_may_have_other_names_and_a_csv_holds_messages_as_json(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    chat = json.dumps([{"role": "user", "content": "Hello?"}]).replace('"', '""')
    path.write_text(f'question,messages,gold,split\n,"{chat}",,train\nWho?,,me,test\n', encoding="utf-8")
    config = TableConfig(path=str(path), prompt_field="question", answer_field="gold")
    tasks = tasks_of(config)
    assert [as_text(task.messages) for split in ("train", "eval") for task in tasks[split]] == ["Hello?", "Who?"]
    assert [answers_of(task, config) for split in ("train", "eval") for task in tasks[split]] == [[], ["me"]]


def test_rows_and_tables_whose_texts_may_not_be_passed_on(tmp_path: Path) -> None:
    """Only the row that says so, or all of a table that the settings say it of; a word that is neither yes nor no is named."""
    rows = [
        *many(2, split="eval"),
        {"prompt": "secret", "restricted": "Yes", "split": "train"},
        {"prompt": "open", "restricted": 0, "split": "train"},
    ]
    tasks = tasks_of(table(tmp_path, *rows))
    assert [task.restricted for task in (*tasks["eval"], *tasks["train"])] == [False, False, True, False]
    assert "restricted" not in tasks["train"][0].reference["row"]
    tasks = tasks_of(table(tmp_path, *rows, restricted=True))
    assert all(task.restricted for split in tasks.values() for task in split)
    with pytest.raises(
        DataError, match=r"row 0 \(line 1\): field 'restricted' is 'perhaps': it must be one of true, yes, 1"
    ):
        tasks_of(table(tmp_path, {"prompt": "a", "restricted": "perhaps"}))


def test_a_share_is_held_out_by_hash(tmp_path: Path) -> None:
    """A tenth of 40 is 4; it does not depend on the order of the rows, but on data.seed."""
    rows = many(40)
    tasks = tasks_of(table(tmp_path, *rows))
    assert (len(tasks["train"]), len(tasks["eval"])) == (36, 4)
    backwards = tasks_of(table(tmp_path, *rows[::-1]))
    assert sorted(ids(backwards["eval"])) == sorted(ids(tasks["eval"]))
    assert sorted(ids(tasks_of(table(tmp_path, *rows, seed=1))["eval"])) != sorted(ids(tasks["eval"]))
    # at least one, and at most all but one
    assert len(tasks_of(table(tmp_path, *many(3)))["eval"]) == 1
    assert len(tasks_of(table(tmp_path, *many(3), eval_share=0.999))["eval"]) == 2


def test_groups_stay_together_and_both_sides_have_a_limit(tmp_path: Path) -> None:
    """Ten authors of four rows: three tenths of the authors are three, twelve rows; of two groups, eight."""
    rows = [{"prompt": f"question {number}", "author": number % 10} for number in range(40)]
    tasks = tasks_of(table(tmp_path, *rows, group_field="author", eval_share=0.3))
    sides = [{task.reference["row"]["author"] for task in tasks[split]} for split in ("train", "eval")]
    assert [len(side) for side in sides] == [7, 3]
    assert not sides[0] & sides[1]
    few = tasks_of(table(tmp_path, *rows, group_field="author", eval_share=0.3, eval_groups=2, train_groups=1))
    assert (len(few["train"]), len(few["eval"])) == (4, 8)
    assert set(ids(few["eval"])) < set(ids(tasks["eval"]))


def test_prompts_without_an_id_are_named_by_content(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "answer": "1"}, {"prompt": "a", "answer": "2"}, *many(9)]
    tasks = tasks_of(table(tmp_path, *rows))
    assert len(set(ids(tasks["train"] + tasks["eval"]))) == 11
    again = tasks_of(table(tmp_path, *rows[::-1]))
    assert set(ids(again["train"])) == set(ids(tasks["train"]))
    # rows of one prompt are on one side
    sides = [sum(as_text(task.messages) == "a" for task in tasks[split]) for split in ("train", "eval")]
    assert sorted(sides) == [0, 2]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "x"},
            r"p\.jsonl row 1 \(line 2\): field 'prompt' is missing \(there: text\): add it, or 'messages', or name",
        ),
        ({"prompt": " \n"}, r"row 1 \(line 2\): field 'prompt' is ' \\n': it must be a text that is not empty"),
        ({"prompt": 3}, r"field 'prompt' is 3"),
        ({"prompt": "x", "messages": []}, r"fields 'prompt' and 'messages' are both there"),
        ({"messages": []}, r"field 'messages' is \[\]: it must be a list"),
        ({"messages": "[{"}, r"field 'messages' is a text that is not JSON"),
        ({"messages": ["x"]}, r"field 'messages\[0\]' is 'x'"),
        (
            {"messages": [{"role": "bot", "content": "x"}]},
            r"field 'messages\[0\]\.role' is 'bot': .* system, user, assistant",
        ),
        ({"messages": [{"role": "user", "content": ""}]}, r"field 'messages\[0\]\.content' is ''"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
            r"ends with a message of the assistant.*data\.answer_field",
        ),
        ({"prompt": "x", "id": True}, r"field 'id' is True"),
        ({"prompt": "x", "id": ""}, r"field 'id' is ''"),
        ({"prompt": "x", "id": "first"}, r"row 1 .*field 'id' is 'first', as in .* row 0 \(line 1\): each row needs"),
        ({"prompt": "x", "split": "holdout"}, r"field 'split' is 'holdout': it must be one of train, .*test"),
        (
            {"prompt": "x", "split": "test"},
            r"row 0 \(line 1\): field 'split' is missing, and .*row 1 \(line 2\) has one",
        ),
    ],
)
def test_what_is_wrong_in_a_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tasks_of(table(tmp_path, {"id": "first", "prompt": "fine"}, row))


def test_what_is_wrong_between_rows_is_named(tmp_path: Path) -> None:
    twice = [{"prompt": "Same  prompt?", "split": "train"}, {"prompt": "same prompt?", "split": "eval"}]
    with pytest.raises(DataError, match=r"row 1 \(line 2\): is held out and has the same prompt as .*row 0 \(line 1\)"):
        tasks_of(table(tmp_path, *twice))
    # a system prompt of its own does not make it another prompt
    hidden = {
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "same prompt?"}],
        "split": "eval",
    }
    with pytest.raises(DataError, match=r"row 1 .* the same prompt as"):
        tasks_of(table(tmp_path, twice[0], hidden))
    with pytest.raises(DataError, match=r"row 1 \(line 2\): repeats .*row 0 \(line 1\) word for word"):
        tasks_of(table(tmp_path, *many(1), *many(2)))
    groups = [{"prompt": "a", "by": "x", "split": "train"}, {"prompt": "b", "by": "x", "split": "dev"}]
    with pytest.raises(DataError, match=r"row 1 .*field 'by' is 'x', held out here and trained on in .*row 0"):
        tasks_of(table(tmp_path, *groups, group_field="by"))
    with pytest.raises(DataError, match=r"row 0 .*field 'by' is missing, and data\.group_field names it"):
        tasks_of(table(tmp_path, *many(2), group_field="by"))
    with pytest.raises(DataError, match="holds one group: one is held out"):
        tasks_of(table(tmp_path, *many(1)))
    with pytest.raises(DataError, match="the field 'split' leaves no eval row"):
        tasks_of(table(tmp_path, *many(2, split="train")))
    with pytest.raises(ConfigError, match=r"data\.path is not set"):
        tasks_of(TableConfig())


def test_answers_are_texts(tmp_path: Path) -> None:
    task = tasks_of(table(tmp_path, *many(2, answer=["a", "b"])))["train"][0]
    assert answers_of(task, TableConfig()) == ["a", "b"]
    for wrong in (3, [""], [1]):
        task = tasks_of(table(tmp_path, *many(2, answer=wrong)))["train"][0]
        with pytest.raises(DataError, match=r"row \d \(line \d\): field 'answer' is"):
            answers_of(task, TableConfig())


def test_a_data_set_of_the_hub_has_splits_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def rows(name: str, config: str, split: str) -> list[Row]:
        return [Row(f"{name} {config}/{split} row {n}", {"prompt": f"{split} {n}", "split": "odd"}) for n in range(3)]

    monkeypatch.setattr(prompts, "hub_rows", rows)
    config = TableConfig(path="hf:org/name", hub_config="en", hub_split="a", hub_eval_split="b")
    tasks = tasks_of(config)
    assert [as_text(task.messages) for task in tasks["train"]] == ["a 0", "a 1", "a 2"]
    assert tasks["eval"][1].reference["where"] == "org/name en/b row 1"
