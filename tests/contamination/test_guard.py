"""What a run does with training data that stand in evaluation data."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import experiment
from orchestrator.config.compose import compose, to_values
from orchestrator.config.schema import RunConfig
from orchestrator.contamination import guard
from orchestrator.contamination.items import bare
from orchestrator.errors import ConfigError, DataError
from orchestrator.learning.starting import StartingModel
from orchestrator.records import trained_on
from orchestrator.records.folder import RunFolder, read_json, write_json
from orchestrator.records.headline import headline
from orchestrator.records.report import summarise
from orchestrator.sweep.keys import key_of
from orchestrator.values import Task
from workloads.base import Branch, Example, PolicyLesson

WORDS = (
    "alder",
    "birch",
    "cedar",
    "dogwood",
    "elm",
    "fir",
    "ginkgo",
    "hazel",
    "ironwood",
    "juniper",
    "larch",
    "maple",
    "nutmeg",
)
SOURCE = """
from workloads.base import BaseWorkload
from orchestrator.values import Task

def reward(episodes):
    return [0.0] * len(episodes)

class Workload(BaseWorkload):
    def tasks(self, split):
        texts = {"train": TRAIN, "eval": EVAL}[split]
        return [Task(f"{split}-{n}", ({"role": "user", "content": text},)) for n, text in enumerate(texts)]
"""


def text(number: int, end: str = "") -> str:
    """A text of six words that no other has side by side."""
    return (
        " ".join(WORDS[(number * 7 + place * (number % 5 + 1)) % len(WORDS)] + str(number) for place in range(6)) + end
    )


def task(name: str, prompt: str) -> Task:
    return Task(name, ({"role": "user", "content": prompt},))


class Held:
    """Tasks by split, and a lesson of the policy."""

    def __init__(self, train: Sequence[str], eval: Sequence[str], taught: Sequence[str] = ()) -> None:
        self.texts, self.taught = {"train": train, "eval": eval}, taught

    def tasks(self, split: str) -> Sequence[Task]:
        return [task(f"{split}-{number}", text) for number, text in enumerate(self.texts[split])]

    def lessons(self) -> Sequence[PolicyLesson]:
        branches = [Branch(({"role": "user", "content": text},), "Yes.") for text in self.taught]
        return [PolicyLesson([Example(f"g{number}", (branch,)) for number, branch in enumerate(branches)])]


HELD = Held([text(0), text(1), text(2), text(3)], [text(10), text(1, ", or not?"), text(12)], [text(4), text(12)])
"""The second training task and the second example stand in the evaluation."""


def config(*words: str) -> RunConfig:
    return compose("rlvr", ["rollout.prompts_per_step=2", *words])


def test_what_stands_in_the_evaluation_is_dropped_and_told() -> None:
    told: list[str] = []
    finding = guard.look(config(), HELD, told.append)
    assert finding.dropped == {"policy": ["1"], "tasks": ["train-1"]}
    assert told == [
        "in training and in evaluation data (eval): 1 of 2 examples that teach the policy, 1 of 4 training tasks; left out of training"
    ]
    left = guard.without(HELD, finding.dropped)
    assert [one.id for one in left.tasks("train")] == ["train-0", "train-2", "train-3"]
    assert [one.id for one in left.tasks("eval")] == ["eval-0", "eval-1", "eval-2"]
    (lesson,) = left.lessons()
    assert (lesson.role, [example.group for example in lesson.examples()]) == ("policy", ["g0"])
    assert {source: len(items) for source, items in finding.rest().items()} == {"tasks": 3, "policy": 1}
    row = next(row for row in finding.rows() if row["trained"] == "tasks")
    assert (row["id"], row["evaluation_id"], row["exact"]) == ("train-1", "eval-1", False)
    # Of the evaluation's letters the last 5 ("or not") are not the task's, and the shingle of 16 that ends with each of them.
    letters = len(bare(text(1)))
    assert row["similarity"] == round((letters - 15) / (letters + 5 - 15), 4)


def test_where_nothing_is_found_the_workload_is_itself() -> None:
    alone = Held([text(0), text(1)], [text(10), text(11)])
    finding = guard.look(config(), alone, pytest.fail)
    assert (finding.found, guard.without(alone, finding.dropped)) == ({}, alone)


def test_only_what_is_trained_on_is_looked_at() -> None:
    """Neither the tasks of a run without RL steps nor a lesson that nobody is taught."""
    assert list(guard.look(config("steps=0"), HELD, lambda line: None).dropped) == ["policy"]
    assert list(guard.look(config("model=hf:org/name"), HELD, lambda line: None).dropped) == ["tasks"]


def test_it_can_be_reported_or_refused() -> None:
    told: list[str] = []
    finding = guard.look(config("contamination.action=report"), HELD, told.append)
    assert (finding.dropped, finding.touched()["tasks"]) == ({}, ["train-1"])
    assert told[0].endswith("trained on all the same (contamination.action=report)")
    with pytest.raises(
        DataError, match=r"refused: the first is train-1, .* beside eval-1 of eval\. Take such data out"
    ):
        guard.look(config("contamination.action=refuse"), HELD, lambda line: None)


def test_a_run_that_has_nothing_left_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"none of the training tasks is left. Train on other data"):
        guard.look(config(), Held([text(1), text(2)], [text(1), text(2)]), lambda line: None)


def own_file(folder: Path, name: str, train: Sequence[str], evaluated: Sequence[str]) -> Path:
    (folder / name).write_text(f"TRAIN, EVAL = {list(train)!r}, {list(evaluated)!r}\n{SOURCE}")
    return folder / name


def test_other_evaluations_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own_file(tmp_path, "bench.py", [text(9)], [text(3), text(20)])
    (tmp_path / "bench.yaml").write_text("workload: bench.py\n")
    for named in ("bench.py", "bench.yaml"):
        settings = config(f"contamination.against={named}")
        assert settings.contamination.against == str(tmp_path / named)
        finding = guard.look(settings, HELD, lambda line: None)
        assert finding.dropped["tasks"] == ["train-1", "train-3"]
        assert {name: len(items) for name, items in finding.evaluated.items()} == {"eval": 3, "bench eval": 2}
    with pytest.raises(ConfigError, match=r"contamination.against=.*none.yaml"):
        guard.look(config("contamination.against=none.yaml"), HELD, lambda line: None)


def test_a_sweep_hands_its_runs_what_the_others_evaluate(tmp_path: Path) -> None:
    bench = own_file(tmp_path, "bench.py", [text(9)], [text(3), text(20)])
    other = compose(str(bench))
    file = tmp_path / "evaluations.json"
    # The second one evaluates the same, trained otherwise; and what the run itself evaluates is not asked twice.
    guard.written_for_runs(file, {"a": other, "b": compose(str(bench), ["steps=1"]), "c": config()})
    assert list(read_json(file)) == ["a", "c"]
    settings = config(f"contamination.sweep={file}")
    finding = guard.look(settings, HELD, lambda line: None)
    assert list(finding.evaluated) == ["eval", "a eval"]
    assert finding.dropped["tasks"] == ["train-1", "train-3"]
    # What else a sweep evaluates makes no other run of it; what a user names does.
    assert key_of(settings) == key_of(config()) != key_of(config("contamination.against=rlvr"))
    file.unlink()
    with pytest.raises(ConfigError, match=r"there is no such file. A sweep writes it; set contamination.sweep=null"):
        guard.look(settings, HELD, lambda line: None)


def test_the_models_that_a_run_begins_with_may_have_learned_its_held_out_tasks(tmp_path: Path) -> None:
    before = RunFolder.create(tmp_path, "rlvr", "first", to_values(config(f"storage={tmp_path}")))
    trained_on.keep(
        before, config(), guard.look(config("contamination.action=report"), HELD, lambda line: None).trained, None
    )
    (before.checkpoints / "step-000001" / "hf").mkdir(parents=True)
    (before.checkpoints / "LATEST").write_text("step-000001")
    settings = config(f"storage={tmp_path}")
    settings.model.name = "run:first"
    told: list[str] = []
    finding = guard.look(settings, Held([text(5), text(6)], [text(1), text(20)]), told.append)
    assert finding.inherited == [{"model": "run:first", "split": "eval", "tasks": 1, "of": 2, "run": "rlvr/first"}]
    assert told == ["run:first was trained on 1 of the 2 eval tasks (rlvr/first)"]


# --- in a run ---


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Runs up to their learner. What each rank would train on, which makes the workload anew, a line a run."""
    seen: list[list[str]] = []

    def execute(config: RunConfig, folder: RunFolder, models: Any, servers: Any, checkpoint: Any, display: Any) -> str:
        ranks = [guard.recall(experiment.find_workload(config.workload).workload(config), folder) for _ in range(2)]
        first, second = ([one.id for one in rank.tasks("train")] for rank in ranks)
        assert first == second
        seen.append(first)
        return "finished"

    def nothing(*arguments: Any) -> Any:
        return None

    for name in ("check_fit", "nodes_of_cluster", "wait_for_room", "remote_fleets", "show", "joins"):
        monkeypatch.setattr(experiment, name, nothing)
    monkeypatch.setattr(experiment, "connected", lambda cluster: nullcontext())
    monkeypatch.setattr(experiment, "preflight", lambda config: SimpleNamespace(without=nothing))
    monkeypatch.setattr(experiment, "starting_models", lambda *arguments: list[StartingModel]())
    monkeypatch.setattr(experiment, "execute", execute)
    return seen


def test_ranks_a_resumed_run_and_a_fork_have_the_same_drops(tmp_path: Path, begun: list[list[str]]) -> None:
    own = own_file(tmp_path, "own.py", [text(0), text(1), text(2), text(3)], [text(10), text(1), text(12)])
    words = ["rollout.prompts_per_step=2", "steps=4", f"storage={tmp_path}", "name=a"]
    assert experiment.run(compose(str(own), words)) == 0
    folder = RunFolder(tmp_path / "own" / "a")
    assert read_json(folder.contamination)["dropped"] == {"tasks": ["train-1"]}
    assert len(read_json(folder.trained_on)["runs"]["own/a"]["tasks"]) == 3
    checkpoint = folder.checkpoints / "step-000002"
    checkpoint.mkdir()
    (folder.checkpoints / "LATEST").write_text("step-000002")
    experiment.resume(folder.path, [])
    experiment.fork(folder.path, None, ["seed=1"])
    assert begun == [["train-0", "train-2", "train-3"]] * 3
    # What was decided stays decided: a resumed run does not look again.
    write_json(folder.contamination, read_json(folder.contamination) | {"dropped": {"tasks": ["train-0"]}})
    experiment.resume(folder.path, [])
    assert begun[-1] == ["train-1", "train-2", "train-3"]


def test_a_run_of_before_the_guard_goes_on_with_all_of_its_data(tmp_path: Path, begun: list[list[str]]) -> None:
    own = own_file(tmp_path, "own.py", [text(0), text(1)], [text(1)])
    settings = compose(str(own), ["rollout.prompts_per_step=1", f"storage={tmp_path}"])
    folder = RunFolder.create(tmp_path, "own", "old", to_values(settings))
    assert experiment.run(settings, folder=folder) == 0
    assert begun == [["train-0", "train-1"]]
    assert not folder.contamination.exists()


def test_the_summary_and_its_lines_say_what_was_dropped(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", to_values(config()))
    finding = guard.look(config(), HELD, lambda line: None)
    guard.keep(folder, finding)
    summary = summarise(folder)
    assert summary["contamination"] == {
        "action": "drop", "trained": {"tasks": 4, "policy": 2}, "evaluated": {"eval": 3}, "inherited": [],
        "touched": {"policy": 1, "tasks": 1},
    }  # fmt: skip
    lines = [(line.label, line.value) for section in headline(summary) for line in section]
    assert ("in evaluation data: training tasks, dropped", "1 of 4") in lines
    assert ("in evaluation data: examples for the policy, dropped", "1 of 2") in lines
