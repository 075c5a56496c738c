"""Questions to train on: rows of many spellings, Hi-ToM's file, splits by story, and what is refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.data.tables import Row
from orchestrator.errors import ConfigError, DataError
from workloads.social_r1.benchmarks.columns import BENCHMARKS
from workloads.social_r1.data import SocialDataConfig, check_data, questions_of, read_questions, reference_of, split
from workloads.social_r1.hitom import read_hitom
from workloads.social_r1.questions import Question, question_of

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PLAIN = {"story": "Ann left.", "question": "Where is Ann?", "options": ["out", "in"], "answer": "A"}


def row(**values: Any) -> Row:
    return Row("f.jsonl row 3 (line 4)", {name: value for name, value in values.items() if value is not None})


@pytest.mark.parametrize(
    "values",
    [
        PLAIN,
        {"STORY": "Ann left.", "QUESTION": "Where is Ann?", "OPTION-A": "A. out", "OPTION-B": "B. in", "OPTION-C": "", "ANSWER": "A."},
        {"context": "Ann left.", "question": "Where is Ann?", "choices": {"text": ["out", "in"]}, "label": "(A)"},
        {"Story": "Ann left.", "Question": "Where is Ann?", "options": {"B": "in", "A": "out"}, "gold": "Out"},
        {"scenario": "Ann left.", "question": "Where is Ann?", "options": '["A. out", "B. in"]', "answer": "[[A]]"},
        {"story": "Ann left.", "question": "Where is Ann?", "A": "out", "B": "in", "correct_answer": "a"},
    ],
)  # fmt: skip
def test_the_usual_spellings_are_one_question(values: Mapping[str, Any]) -> None:
    found = question_of(row(**values))
    assert (found.story, found.question, found.options, found.letter) == (
        "Ann left.",
        "Where is Ann?",
        ("out", "in"),
        "A",
    )
    assert found.group == "ann left."


def test_empty_cells_are_absent() -> None:
    """A table's blank group is no group that all stories share; an option may say "None"."""
    found = question_of(row(**PLAIN | {"group": "", "id": " ", "ability": "nan", "options": ["out", "None", ""]}))
    assert (found.group, found.ability, found.options) == ("ann left.", "", ("out", "None"))
    assert found.id == question_of(row(**PLAIN | {"options": ["out", "None"]})).id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"story": None}, r"row 3 \(line 4\): field 'story' is missing \(there: 'question'"),
        ({"question": " "}, "field 'question' is ' ': it must be a text"),
        ({"options": ["out"]}, "field 'options' has .*give two different texts"),
        ({"options": ["out", "out"]}, "field 'options' has"),
        ({"options": "out or in"}, "field 'options' is 'out or in': it must be a list"),
        ({"options": 3}, "field 'options' is 3"),
        ({"options": ["out", "", "in"]}, "field 'options' has .*without gaps"),
        ({"answer": "C"}, "field 'answer' is 'C': it must be a letter from A to B"),
        ({"answer": 1}, "field 'answer' is 1"),
        ({"answer": None}, "field 'answer' is missing"),
    ],
)
def test_a_row_that_will_not_do_is_named(change: Mapping[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        question_of(row(**{**PLAIN, **change}))


def written(path: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(
                {name: json.dumps(v) if isinstance(v, list) else v for name, v in one.items()} for one in rows
            )
    else:
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    return str(path)


def rows_of(stories: int) -> list[dict[str, Any]]:
    """Two questions a story."""
    return [
        {**PLAIN, "story": f"Story {n}.", "question": question} for n in range(stories) for question in ("Who?", "Why?")
    ]


@pytest.mark.parametrize("name", ["q.jsonl", "q.csv", "q.parquet"])
def test_stories_are_held_out_whole(tmp_path: Path, name: str) -> None:
    """Of eight stories two for evaluation (a quarter is the most), one for the test, at most four to learn from."""
    data = SocialDataConfig(
        source="table", path=written(tmp_path / name, rows_of(8)), train_groups=4, eval_groups=48, test_groups=1
    )
    sides = questions_of(data)
    groups = {side: {question.group for question in questions} for side, questions in sides.items()}
    assert {side: len(questions) for side, questions in sides.items()} == {"train": 8, "eval": 4, "test": 2}
    assert {side: len(found) for side, found in groups.items()} == {"train": 4, "eval": 2, "test": 1}
    assert (
        not (groups["train"] & groups["eval"]) | (groups["train"] & groups["test"]) | (groups["eval"] & groups["test"])
    )
    assert questions_of(data) == sides


def test_too_few_stories_are_refused() -> None:
    questions = [Question("a", "one", "s", "q", ("x", "y"), 0)]
    with pytest.raises(DataError, match="holds 1 story or stories"):
        split(questions, {"train": 1, "eval": 1, "test": 0}, 0)


def test_a_table_of_held_out_questions(tmp_path: Path) -> None:
    train = written(tmp_path / "train.jsonl", rows_of(4))
    other = written(tmp_path / "val.jsonl", [{**PLAIN, "story": "New."}])
    sides = questions_of(SocialDataConfig(source="social_r1", path=train, eval_path=other))
    assert [question.story for question in sides["eval"]] == ["New."]
    assert len(sides["train"]) == 8
    shared = written(tmp_path / "shared.jsonl", [{**PLAIN, "story": "story  2."}])
    with pytest.raises(DataError, match=r"shared\.jsonl row 0 .* has the story of .*train\.jsonl row 5"):
        questions_of(SocialDataConfig(source="social_r1", path=train, eval_path=shared))


def test_a_question_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "q.jsonl", [PLAIN, PLAIN])
    with pytest.raises(DataError, match=r"row 1 .*field 'id' is .*as in .*row 0"):
        read_questions(path, SocialDataConfig(source="table", path=path))


@pytest.mark.parametrize(
    "source", ["tombench", "ToMBench", "motivebench", "social_iqa", "simpletom", "EmoBench", "tactful-tom"]
)
def test_benchmarks_are_refused_by_name(source: str) -> None:
    if source == "tactful-tom":
        source = "TactfulToM"
    with pytest.raises(ConfigError, match=r"data\.source=.* is .*, a benchmark that models are compared on"):
        check_data(SocialDataConfig(source=source, path="x.jsonl"))


@pytest.mark.parametrize(
    "path", ["data/ToMBench/False_Belief_Task.jsonl", "SimpleToM.csv", "hf:Jincenzi/ToMBench", "hf:allenai/social_i_qa"]
)
def test_benchmarks_are_refused_by_the_files_name(path: str) -> None:
    with pytest.raises(ConfigError, match="a benchmark that models are compared on"):
        check_data(SocialDataConfig(source="table", path=path))


def test_the_papers_training_set_is_no_benchmark() -> None:
    check_data(SocialDataConfig(source="social_r1", path="hf:Jincenzi/ToMBench_Hard"))


@pytest.mark.parametrize(
    "columns",
    [
        {"能力\nABILITY": "Belief", "STORY": "s"},
        {"Motivation Reasoning Question": "q"},
        {"context": "c", "answerA": "a", "answerB": "b", "answerC": "c", "label": "1"},
        {"story": "s", "choices": ["a", "b"], "answerKey": "A"},
    ],
)
def test_benchmarks_are_refused_by_their_columns(tmp_path: Path, columns: Mapping[str, Any]) -> None:
    path = written(tmp_path / "mine.jsonl", [columns])
    with pytest.raises(ConfigError, match="a benchmark that models are compared on"):
        read_questions(path, SocialDataConfig(source="table", path=path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (SocialDataConfig(source="nothing"), "data.source=nothing: use one of mini, table, social_r1, hitom"),
        (SocialDataConfig(source="table"), "needs data.path"),
        (SocialDataConfig(source="mini", path="x.jsonl"), r"holds its own stories out: leave data\.path out"),
        (SocialDataConfig(source="hitom", path="x.json", eval_path="y.jsonl"), "leave data.eval_path out"),
    ],
)
def test_settings_that_cannot_be_are_refused(data: SocialDataConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_data(data)


def hitom(**change: Any) -> dict[str, Any]:
    return {
        "prompting_type": "CoTP", "deception": False, "story_length": 1, "question_order": 2, "sample_id": 7,
        "story": "1 Ann entered.\n2 Ann left.\n***\n", "question": "Where does Ben think Ann is?",
        "choices": "A. red_box, B. blue_bag, C. green_pan", "answer": "blue_bag",
    } | change  # fmt: skip


def test_hitoms_rows(tmp_path: Path) -> None:
    """VP repeats what CoTP asks; a story with and without its line of stars is one group."""
    path = tmp_path / "h.json"
    again = hitom(question_order=3, sample_id=27, story="1 Ann entered.\n2 Ann left.\n")
    path.write_text(json.dumps({"data": [hitom(), hitom(prompting_type="VP"), again]}))
    first, second = (one.as_question for one in read_hitom(str(path)))
    assert (first.id, first.options, first.letter, first.order) == (
        "hitom-plain-1-7",
        ("red_box", "blue_bag", "green_pan"),
        "B",
        2,
    )
    assert first.group == second.group
    assert reference_of(first)["order"] == 2
    # Of VP alone the line of instruction is left out; training and the benchmark read the same.
    asked = hitom(prompting_type="VP", story=f"Read and answer.\n{hitom()['story']}")
    path.write_text(json.dumps({"data": [asked]}))
    (one,), (item,) = read_hitom(str(path)), BENCHMARKS["hitom"].items(str(path), ["en"])
    assert (one.story, one.as_question.group) == (first.story, first.group)
    assert (item.story, item.unit, item.asked[0].gold) == (first.story, first.group, {1})


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ("[", "is not JSON"),
        ("[]", "must hold a list of records"),
        (json.dumps({"data": [hitom(answer="pink_hat")]}), "row 0: field 'answer' is 'pink_hat'"),
        (json.dumps({"data": [hitom(question_order="two")]}), "row 0: fields 'question_order' and 'sample_id' must be"),
        (json.dumps({"data": [{"story": "s"}]}), "row 0: field 'prompting_type' is missing"),
        (json.dumps({"data": [hitom(prompting_type="x")]}), "no row of the prompting types CoTP or VP"),
        (json.dumps({"data": [hitom(choices="red, blue")]}), "row 0: field 'choices' must be written as A. x, B. y"),
    ],
)
def test_another_file_is_not_hitom(tmp_path: Path, held: str, message: str) -> None:
    path = tmp_path / "h.json"
    path.write_text(held)
    with pytest.raises(DataError, match=message):
        read_hitom(str(path))


@pytest.mark.skipif(not (SHARED / "hitom").is_dir(), reason="the published Hi-ToM file is not here")
def test_the_published_hitom() -> None:
    """600 distinct questions about 120 stories, five orders each."""
    questions = [one.as_question for one in read_hitom(str(SHARED / "hitom" / "Hi-ToM_data.json"))]
    assert len(questions) == len({question.id for question in questions}) == 600
    assert len({question.group for question in questions}) == 120
    assert {len(question.options) for question in questions} == {15}
    assert [sum(question.order == order for question in questions) for order in range(5)] == [120] * 5


@pytest.mark.skipif(not (SHARED / "tombench").is_dir(), reason="the published ToMBench files are not here")
def test_the_published_tombench_is_refused_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text((SHARED / "tombench" / "False_Belief_Task.jsonl").read_text())
    with pytest.raises(ConfigError, match="is ToMBench, a benchmark"):
        read_questions(str(path), SocialDataConfig(source="table", path=str(path)))
