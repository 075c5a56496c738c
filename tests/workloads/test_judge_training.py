"""The judge's own run: who writes, who labels, what is refused; the fleets are functions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.gathering import gathered

from orchestrator.cluster.plan import make_plan
from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError, DataError, RunError
from orchestrator.sweep.keys import key_of
from orchestrator.values import Answer, Call, Choice, Fault, Turn, Unscored
from workloads import rlvr
from workloads.lessons import JudgeLesson
from workloads.rlvr.judge import Workload
from workloads.rlvr.judge.labels import LabelledAnswer, read_labels
from workloads.rlvr.judge.teacher import verdict_of

SMALL = ["data.train_groups=6", "data.eval_groups=3", "judge.training.steps=2"]


def workload(*words: str) -> Workload:
    return Workload(compose("rlvr.judge", [*SMALL, *words]))  # type: ignore[arg-type]


def lesson_of(made: rlvr.Workload) -> JudgeLesson:
    (found,) = [lesson for lesson in made.lessons() if lesson.role == "judge"]
    assert isinstance(found, JudgeLesson)
    return found


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is gathered is kept under runs/ of the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A reference to a folder that passes for a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (folder / name).write_text("{}")
    return f"path:{folder}"


@pytest.mark.parametrize("flaw", ["none", "phrase"])
def test_the_miniatures_judge_is_that_of_rlvr(flaw: str) -> None:
    """The same examples and the same exam, so that what one run taught the other finds."""
    own = workload(f"data.judge_flaw={flaw}")
    gathered(own)
    other = rlvr.Workload(compose("rlvr", [*SMALL, f"data.judge_flaw={flaw}"]))
    mine, theirs = lesson_of(own), lesson_of(other)
    assert mine.examples() == theirs.examples()
    assert mine.exam() == theirs.exam()
    assert own.chat_template("judge") == other.chat_template("judge")


def test_there_is_a_judge_and_no_policy() -> None:
    config = compose("rlvr.judge", ["seed=3"])
    assert {name: role.seed for name, role in config.roles().items()} == {"judge": 3}
    assert [bundle.role for bundle in make_plan(config).bundles] == ["driver", "learner", "judge"]
    assert "no policy and no RL: the judge is taught, served and examined" in make_plan(config).facts
    with pytest.raises(ConfigError, match=r"steps=5: rlvr\.judge has no policy.*steps=0"):
        compose("rlvr.judge", ["steps=5"])


def test_what_a_run_gathered_another_one_reads(tmp_path: Path) -> None:
    """As a colleague would: the same lesson from the file, and no writer or teacher."""
    first = workload()
    found, _ = gathered(first)
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in found.rows))
    second = workload(f"data.labels={path}")
    again, fleet = gathered(second)
    assert again.rows == found.rows
    assert fleet.asked == []
    assert lesson_of(second).examples() == lesson_of(first).examples()
    assert second.config.gathers() == {}


def test_parquet_holds_labels_as_a_map_a_struct_or_json(tmp_path: Path) -> None:
    known = workload().known
    ids = [criterion["id"] for criterion in known["train-0"][1].reference["rubric"]][:2]
    maps = pa.map_(pa.string(), pa.string())
    columns = [
        pa.array([[(ids[0], "yes"), (ids[1], "no")]], maps),
        pa.array([{ids[0]: "Yes", ids[1]: "no", "other": None}]),
        pa.array([json.dumps({ids[0]: True, ids[1]: False})]),
    ]
    for labels in columns:
        table = pa.table({"dilemma": ["train-0"], "model": ["m"], "response": ["r"], "labels": labels})
        pq.write_table(table, tmp_path / "labels.parquet")
        (answer,) = read_labels(str(tmp_path / "labels.parquet"), known)
        assert answer == LabelledAnswer("train-0", "m", "r", {ids[0]: 1.0, ids[1]: 0.0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dilemma": "train-77"}, r"row 1 \(line 2\): field 'dilemma' is 'train-77': the data have no such dilemma"),
        ({"model": None}, "field 'model' is None: it must be a text"),
        ({"response": 3}, "field 'response' is 3: it must be a text"),
        ({"labels": "perhaps"}, "field 'labels' is 'perhaps': it must map criteria's ids to yes or no"),
        ({"labels": {"harm-ben": "perhaps"}}, "field 'labels' has 'perhaps' for the criterion 'harm-ben'"),
        ({"labels": {"greed-ben": "yes"}}, "field 'labels' names the criterion 'greed-ben', which is none of the dilemma's"),
        ({"labels": {"harm-ben": "no"}}, r"field 'labels' and .* row 0 \(line 1\) differ on 'harm-ben' of the same answer"),
    ],
)  # fmt: skip
def test_a_row_that_will_not_do_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    row = {"dilemma": "train-0", "model": "m", "response": "we may hurt ben .", "labels": {"harm-ben": "yes"}}
    path = tmp_path / "labels.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row | change)}\n")
    with pytest.raises(DataError, match=message):
        read_labels(str(path), workload().known)


def test_labels_of_one_side_alone_teach_nothing(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text(
        json.dumps({"dilemma": "train-0", "model": "m", "response": "x", "labels": {"harm-ben": "no"}}) + "\n"
    )
    made = workload(f"data.labels={path}")
    gathered(made)
    with pytest.raises(ConfigError, match="no labelled answer to a dilemma of eval"):
        made.lessons()


def test_models_write_in_turn_and_the_oracle_labels(model: str) -> None:
    """Six training and three held-out dilemmas, two answers each; training answers have labels of further criteria too."""

    def written(call: Call, attempt: int) -> Answer:
        assert call.sampling is not None
        return Turn("x", (), (), (), f"we may hurt ben . {call.seed}", "stop", 1.0, 0, call.seed)

    made = workload(f"answers.writers=grammar,{model}", "answers.per_dilemma=2")
    found, fleet = gathered(made, written)
    mine = [row for row in found.rows if row["model"] == model]
    assert len(mine) == 18
    assert len({row["response"] for row in mine}) == 18
    assert {call.role for batch in fleet.batches for call in batch} == {"writer-1"}
    for row in mine:
        own = {criterion["id"] for criterion in made.known[row["dilemma"]][1].reference["rubric"]}
        assert (row["labels"].keys() > own) == row["dilemma"].startswith("train")
        assert {name: value for name, value in row["labels"].items() if name.startswith("harm")} == {
            name: "yes" if name == "harm-ben" else "no" for name in row["labels"] if name.startswith("harm")
        }
    assert len(lesson_of(made).exam()) > 0
    with pytest.raises(RunError, match=rf"answers.writers: {model} could not answer: too long"):
        gathered(
            workload(f"answers.writers={model}", "rollout.temperature=0.5"), lambda *_: Fault("too long", lasting=True)
        )


def asks_teacher(model: str, *words: str) -> Workload:
    return workload(f"teacher={model}", "judge.training.examples_per_step=2", *words)


def test_what_a_teacher_leaves_open_is_asked_again_and_counted(model: str) -> None:
    """It says yes of harms; of duties it says neither the first time; of shortcuts never. retries=1: each duty and shortcut is
    asked twice, all else once."""

    def taught(call: Call, attempt: int) -> Answer:
        criterion, again = call.key.split("/")[2], call.key.endswith("/1")
        mass = 0.1 if criterion.startswith("shortcut") or (criterion.startswith("duty") and not again) else 1.0
        share = 0.9 if criterion.startswith("harm") else 0.2
        return Choice({"yes": share * mass, "no": (1 - share) * mass})

    made = asks_teacher(model, "teacher.retries=1")
    found, fleet = gathered(made, taught)
    plain = workload("judge.training.examples_per_step=2")
    questions = [(row["dilemma"], name) for row in gathered(plain)[0].rows for name in row["labels"]]
    asked = sum(2 if name.startswith(("shortcut", "duty")) else 1 for _, name in questions)
    assert len(fleet.asked) == asked
    for row in found.rows:
        assert all(value == ("yes" if name.startswith("harm") else "no") for name, value in row["labels"].items())
        assert all(name.startswith("shortcut") for name in row.get("unscored", {}))
    lost = sum(len(row.get("unscored", {})) for row in found.rows)
    assert lost == sum(name.startswith("shortcut") for _, name in questions)
    assert "P(yes)+P(no) is 0.10, less than teacher.min_mass=0.5" in found.told
    assert f"{lost:,} questions without a verdict" in found.told
    lesson = lesson_of(made)
    report = lesson.report([Choice({"yes": 0.1, "no": 0.9})] * len(lesson.exam()))
    assert (report["labels"], report["unlabelled"]) == (len(questions) - lost, lost)
    with pytest.raises(RunError, match=r"more than judge\.max_unscored_share=0\.01: look at the teacher"):
        gathered(asks_teacher(model, "teacher.retries=1", "judge.max_unscored_share=0.01"), taught)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("Yes", 1.0),
        ("The answer names ben, so it is met.\nVerdict: no.\n\n", 0.0),
        ("<think>yes yes</think>\nNO", 0.0),
        ("It cannot be known.", None),
        ("yes, or no", None),
        ("", None),
    ],
)
def test_a_teachers_words_are_read_by_their_last_line(text: str, verdict: float | None) -> None:
    found = verdict_of(Turn("teacher", (), (), (), text, "stop", 1.0, 0, 0), 0.5)
    assert found == verdict if verdict is not None else isinstance(found, Unscored)


def test_a_fault_of_the_teacher_is_no_label() -> None:
    assert verdict_of(Fault("gone"), 0.5) == Unscored("gone")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["answers.writers=site"], "site is there with data.source=morebench_site alone"),
        (["answers.writers=grammar,grammar"], "each writer once"),
        (["answers.writers=somebody"], "is not a model reference"),
        (["answers.writers=mini"], "has nothing to say"),
        (["reward=my.py:score"], "teaches a judge of its own"),
        (["data.source=morebench", "answers.writers=hf:a/b"], "nobody knows the truth about models' answers"),
    ],
)
def test_settings_that_cannot_be_are_refused(words: Sequence[str], message: str) -> None:
    Path("my.py").write_text("def score(episodes):\n    return [0] * len(episodes)\n")
    Path("d.csv").write_text("")
    path = ["data.path=d.csv"] if "data.source=morebench" in words else []
    with pytest.raises(ConfigError, match=message):
        compose("rlvr.judge", [*words, *path])


def test_a_key_knows_several_writers_by_what_they_are(model: str, tmp_path: Path) -> None:
    """The same weights in another folder are the same writer, other weights another one."""
    twin = tmp_path / "twin"
    twin.mkdir()
    for path in (tmp_path / "model").iterdir():
        (twin / path.name).write_text(path.read_text())

    def key(reference: str) -> str:
        return key_of(compose("rlvr.judge", [f"answers.writers=grammar,{reference}"]))

    assert key(f"path:{twin}") == key(model)
    (twin / "model.safetensors").write_text("other")
    assert key(f"path:{twin}") != key(model)
