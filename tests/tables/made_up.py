"""A workload with a paper's preset, a sweep of it, and its runs as if they had been run: the numbers are chosen by the test."""

from __future__ import annotations

import atexit
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp

from orchestrator.config.compose import compose, to_values
from orchestrator.config.workloads import find_workload
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder, write_json
from orchestrator.sweep.graph import runs_of, stages
from orchestrator.sweep.reading import read_sweep
from orchestrator.sweep.spec import Done, Sweep
from orchestrator.tables import Column, Difference, Published, Row, Table, judged, truth
from orchestrator.tables.find import Named
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored, Verdict

WORLD = """
from workloads.base import BaseWorkload


class Workload(BaseWorkload):
    def tasks(self, split):
        return ()

    def reward(self):
        return None

    def proxy(self, verdict):
        return verdict.components["official"]
"""
SWEEP = """
target: world.py
settings: {steps: 4}
runs:
  base: {settings: {steps: 0}}
  policy: {arms: {grpo: {algorithm: grpo}, flowrl: {algorithm: flowrl}}, seeds: 0..1}
"""

Scores = Mapping[str, Sequence[float | None]]
"""The truth of each answer by task; None: a fault kept it from being scored."""

BASE: Scores = {"a": [0.1], "b": [0.3]}
GRPO: tuple[Scores, Scores] = ({"a": [0.2, 0.4], "b": [0.5]}, {"a": [0.5], "b": [0.7]})
"""Task means 0.3, 0.5 and 0.5, 0.7: run means 0.4 and 0.6, so that runs and tasks each have a standard error of 0.1."""
FLOWRL: tuple[Scores, Scores] = ({"a": [0.6], "b": [0.8]}, {"a": [0.6], "b": [0.8]})


def make_world(folder: Path) -> None:
    """world.py, its presets mini and paper, and sweep.yaml, in the current folder."""
    (folder / "world.py").write_text(WORLD)
    (folder / "sweep.yaml").write_text(SWEEP)
    for preset, rate in (("mini", 1e-3), ("paper", 1e-6)):
        path = folder / "world" / "presets" / f"{preset}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"learner: {{learning_rate: {rate}}}\n")


def table(**parts: object) -> Table:
    """Truth and judge of two methods and what they begin with; FlowRL's truth and gain are published."""
    given: dict[str, object] = {
        "title": "Methods",
        "sweep": "sweep.yaml",
        "rows": (Row("Base", "base"), Row("GRPO", "policy", "grpo"), Row("FlowRL", "policy", "flowrl")),
        "columns": (Column("truth", truth), Column("judge", judged), Difference("gain", "truth")),
        "baseline": "Base",
        "paper": "paper",
        "tolerance": 0.05,
        "published": {
            ("GRPO", "truth"): Published(0.52, "paper", "Table 1"),
            ("FlowRL", "truth"): Published(0.61, "secondary", "Table 1", n=8),
        },
    }
    return Table(**{**given, **parts})  # type: ignore[arg-type]


def named(made: Table) -> Named:
    return Named("tables.mine", "tables.py:mine", made, made.sweep)


def stored(storage: Path, begins: str) -> RunFolder:
    """The run whose name begins so."""
    (found,) = storage.glob(f"*/{begins}-*")
    return RunFolder(found)


def make_stage(storage: Path, sweep: Sweep, scores: Mapping[tuple[str, str, int], Scores]) -> None:
    """Make the runs of a sweep that has no search, each finished, with one evaluation at its last step. scores: by node, arm, seed."""
    done: list[Done] = []
    for stage in stages(sweep):
        for run in runs_of(sweep, stage, done, storage):
            make_run(storage, run.target, run.overrides, scores[run.node, run.arm, run.seed])


def make_run(storage: Path, target: str, overrides: Sequence[str], scores: Scores) -> RunFolder:
    """The folder of a run that did all its steps."""
    config = compose(target, overrides)
    folder = RunFolder.create(storage, find_workload(config.workload).name, str(config.name), to_values(config))
    write_evaluation(folder, config.steps, scores)
    write_json(folder.summary, {"status": "finished"})
    return folder


def write_evaluation(folder: RunFolder, step: int, scores: Scores, split: str = "eval") -> None:
    """The judge says 0.1 more than the truth; answer n of a task has n + 1 tokens, and the first is cut off."""
    groups, truth_of = [], {}
    for task, values in scores.items():
        made: list[tuple[Episode, Verdict]] = []
        for number, value in enumerate(values):
            tokens, ended = tuple(range(number + 1)), "stop" if number else "length"
            turn = Turn("policy", (1,), tokens, (-1.0,) * len(tokens), "words", ended, 1.0, step, 0)
            episode = Episode(Task(task, ({"role": "user", "content": f"{task}?"},)), step, number, (turn,))
            made.append((episode, Unscored("lost") if value is None else Scored(2 * value, {"official": value + 0.1})))
            truth_of[episode.id] = value
        groups.append(Group(*map(tuple, zip(*made, strict=True))))
    episodes.write_step(folder, step, groups, {}, split, truth_of)


_made: dict[tuple[str, ...], Path] = {}


def make_runs(storage: Path, overrides: Sequence[str] = ()) -> None:
    """All runs of the sweep. They are made once and copied from then on."""
    at = tuple(overrides)
    if at not in _made:
        scores = {("base", "", 0): BASE}
        scores |= {("policy", "grpo", seed): GRPO[seed] for seed in (0, 1)}
        scores |= {("policy", "flowrl", seed): FLOWRL[seed] for seed in (0, 1)}
        _made[at] = Path(mkdtemp()) / "runs"
        atexit.register(shutil.rmtree, _made[at].parent)
        make_stage(_made[at], read_sweep("sweep.yaml", list(overrides)), scores)
    shutil.copytree(_made[at], storage, dirs_exist_ok=True)
