"""The runs that teach a rater of social reasoning alone: who writes, who labels, what is refused; the fleets are functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.gathering import gathered

from orchestrator.config.compose import compose
from orchestrator.errors import DataError, RunError
from orchestrator.values import Answer, Call, Choice, Turn
from workloads import social_r1
from workloads.social_r1 import content, judge
from workloads.social_r1.gathered import read_labels
from workloads.social_r1.raters import ContentLesson

SMALL = [
    "data.train_groups=9", "data.eval_groups=9", "warmup.steps=2", "judge.training.steps=2", "content.training.steps=2"
]  # fmt: skip


def workload(*words: str) -> social_r1.Workload:
    return social_r1.Workload(compose("social_r1", [*SMALL, *words]))


@pytest.fixture(scope="module")
def made() -> social_r1.Workload:
    return workload()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gathered is kept under runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)


def turn(text: str) -> Turn:
    return Turn("policy", (), (), (), text, "stop", 1.0, 0, 0)


def judging(*words: str) -> judge.Workload:
    return judge.Workload(compose("social_r1.judge", [*SMALL, *words]))  # type: ignore[arg-type]


def comparing(*words: str) -> content.Workload:
    return content.Workload(compose("social_r1.content", [*SMALL, *words]))  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["judge", "content"])
def test_a_raters_own_run_teaches_what_the_workload_would(made: social_r1.Workload, role: str) -> None:
    """So that what one run taught the other finds; and what a run gathered another one reads."""
    first, second = (judging, judging) if role == "judge" else (comparing, comparing)
    own: Any = first("seed=3")
    found, fleet = gathered(own)
    assert fleet.asked == []
    assert {name: one.seed for name, one in own.config.roles().items()} == {role: 3}
    (mine,), (theirs,) = own.lessons(), [lesson for lesson in made.lessons() if lesson.role == role]
    assert mine.examples() == theirs.examples()
    assert mine.exam() == theirs.exam()
    assert mine.grading == theirs.grading
    Path("labels.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in found.rows))
    again: Any = second("data.labels=labels.jsonl")
    gathered(again)
    (read,) = again.lessons()
    assert read.examples() == mine.examples()
    assert again.config.gathers() == {}


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A reference to a folder that passes for a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return f"path:{folder}"


def test_models_write_and_the_oracle_scores(model: str) -> None:
    """Of two reasonings a question the second has no format and is left out: 18 pairs of twins, one row a question."""

    def wrote(call: Call, attempt: int) -> Answer:
        return turn("B" if call.key.endswith("/1") else "<think> so : inside box B . </think> <Answer> B </Answer>")

    made = judging(f"answers.writers={model}", "answers.per_question=2")
    found, fleet = gathered(made, wrote)
    assert len(fleet.asked) == 72
    assert [row["score"] for row in found.rows] == [0.2] * 36
    with pytest.raises(RunError, match="wrote no answer of the form"):
        gathered(judging(f"answers.writers={model}", "rollout.temperature=0.5"), lambda *_: turn("B"))


# The teacher says A of goals, whatever stands there, nothing of minds, and else prefers the longer one: pairs of goals and minds are
# left out, and of the others the better is what it said both times.
def test_a_teacher_is_asked_in_both_orders(model: str) -> None:
    def said_by(call: Call, attempt: int) -> Answer:
        text = call.messages[0]["content"]
        first, second = (text.split(f"[Reasoning {letter}]\n")[1].split("\n")[0] for letter in "AB")
        if first.startswith("goal") and "so :" not in first:
            return Choice({"A": 0.9, "B": 0.1})
        if first.startswith("mind") and "so :" not in first:
            return Choice({"A": 0.1, "B": 0.1})
        return Choice({"A": 0.8, "B": 0.2} if (len(first), first) > (len(second), second) else {"A": 0.2, "B": 0.7})

    words = (f"teacher={model}", "teacher.retries=1", "judge.max_unscored_share=0.6")
    found, fleet = gathered(comparing(*words), said_by)
    assert all((len(row["better"]), row["better"]) > (len(row["worse"]), row["worse"]) for row in found.rows)
    assert not any(row["better"].startswith(("goal", "mind")) and "so :" not in row["better"] for row in found.rows)
    assert "that it orders by place" in found.told
    assert "P(A)+P(B) is 0.20, less than teacher.min_mass=0.5" in found.told
    assert sum(key.endswith("/1") for key in fleet.asked) > 0
    with pytest.raises(RunError, match=r"more than judge\.max_unscored_share=0\.01: look at the teacher"):
        gathered(comparing(f"teacher={model}", "teacher.retries=0", "judge.max_unscored_share=0.01"), said_by)


def test_pairs_of_real_text_need_no_questions() -> None:
    rows = [{"story": f"Story {n}.", "question": "Why?", "better": f"good {n}", "worse": "bad"} for n in range(40)]
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    made = comparing("data.source=table", "data.labels=pairs.jsonl")
    found, _ = gathered(made)
    (lesson,) = made.lessons()
    assert isinstance(lesson, ContentLesson)
    assert len(lesson.examples()) + len(lesson.held_out()) == len(found.rows) == 40
    assert {example.group for example in lesson.examples()} & {example.group for example in lesson.held_out()} == set()
    assert len(made.tasks("train")) == len(lesson.examples())
    assert "good 0" in " ".join(made.tokenizer_texts()[1]) or "good 0" in str(lesson.held_out())


def test_labels_hold_groups_out_whole() -> None:
    """Twins are different stories of one group: without `split` they go to one side, and no file may put them on two."""
    rows = [
        {"story": f"Story {n} {side}.", "group": f"g{n}", "question": "Why?", "better": "good", "worse": "bad"}
        for n in range(40)
        for side in "ab"
    ]
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = read_labels("pairs.jsonl", content.Workload.fields, 0)
    assert {row["split"] for row in found} == {"train", "eval"}
    assert all(one["split"] == other["split"] for one, other in zip(found[::2], found[1::2], strict=True))
    sides = [{**row, "split": split} for row, split in zip(rows[:2], ("train", "test"), strict=True)]
    Path("pairs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in sides))
    with pytest.raises(DataError, match="'g0' is in rows to learn from and in rows to examine with"):
        read_labels("pairs.jsonl", content.Workload.fields, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"better": ""}, r"row 0 \(line 1\): field 'better' is ''"),
        ({"worse": 3}, "field 'worse' is 3: it must be a text"),
        ({"split": "some"}, "field 'split' is 'some': it must be one of"),
        ({}, "leaves no row to learn from, or none to examine with"),
    ],
)
def test_a_row_of_labels_that_will_not_do_is_named(change: dict[str, Any], message: str) -> None:
    row = {"story": "s", "question": "q", "better": "b", "worse": "w"} | change
    Path("pairs.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=message):
        gathered(comparing("data.source=table", "data.labels=pairs.jsonl"))
