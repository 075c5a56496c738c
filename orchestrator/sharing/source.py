"""What someone means who names a run, a sweep or a model: the folder of weights, and the run that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from orchestrator.config.references import ModelReference, find_run, resolve
from orchestrator.errors import ConfigError
from orchestrator.records.folder import plain, step_of
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.journal import Journal, Tried, best_point, winner_of
from orchestrator.sweep.standing import find_sweep
from orchestrator.sweep.statistics import Block, Interval, combined_interval
from orchestrator.values import POLICY

MODELS = ("path:", "hf:", "run:")
"""How a reference to a model with weights of its own begins."""
WITHOUT = ("mini", "http://", "https://")
"""How one begins that names no weights."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model and where it is from.

    reference: canonical, as `run:WORKLOAD/NAME@60`. folder: the model's folder, or a hub id. role: what it is in its run ("policy" of a
    checkpoint); "" of a model without one. run: its folder; step: of its checkpoint, None of a model that the run began with.
    """

    reference: str
    folder: str
    role: str
    run: Path | None
    step: int | None


@dataclass(frozen=True, slots=True)
class Best:
    """The best run of a sweep. of: how many runs it is the best of. mean: of its arm's runs, `runs` of them, with the interval over
    runs."""

    sweep: str
    metric: str
    mode: str
    tried: Tried
    of: int
    mean: Interval
    runs: int


def find_source(target: str, storage: Path) -> Source:
    """The model that a target names: RUN (its newest checkpoint), RUN@STEP, RUN@ROLE (a model that the run began RL with), SWEEP (its
    best run, see `best_of`) or a reference (`path:FOLDER`, `hf:ID`, `run:…`).

    Raises ConfigError where there is none, or a name is both a run's and a sweep's.
    """
    if target == WITHOUT[0] or target.startswith(WITHOUT[1:]):
        raise ConfigError(f"{target} names no weights: give a run, a sweep, path:FOLDER or hf:ID.")
    if target.startswith(MODELS):
        return _of_reference(ModelReference.parse(target), storage)
    sweep = find_sweep_alone(target, storage)
    if sweep is None:
        if (Path(target) / "config.json").is_file():
            raise ConfigError(f"{target} is a model folder, not a run: write path:{target}")
        return _of_reference(ModelReference.parse(f"run:{target}"), storage)
    best = best_of(sweep)
    if best is None:
        raise ConfigError(
            f"No run of the sweep {sweep.name} has finished with a score. `orchestrate status {sweep.name}` says how it stands."
        )
    return _of_reference(ModelReference("run", str(sweep.storage / best.tried.run)), sweep.storage)


def find_sweep_alone(name: str, storage: Path) -> SweepFolder | None:
    """A sweep by its name or folder; None where there is none. Raises ConfigError where a run has the name too."""
    sweep = find_sweep(name, storage)
    runs = [
        path for path in (Path(name), storage / name, *storage.glob(f"*/{name}")) if (path / "config.yaml").is_file()
    ]
    if sweep and runs:
        run = f"{runs[0].parent.name}/{runs[0].name}"
        raise ConfigError(
            f"{name} is both a run and a sweep. Name the run as {run}, the sweep by its folder {sweep.path}."
        )
    return sweep


def _of_reference(reference: ModelReference, storage: Path) -> Source:
    found = resolve(reference, storage)
    folder = str(found.absolute()) if isinstance(found, Path) else found
    if reference.kind != "run":
        written = f"path:{folder}" if reference.kind == "path" else str(reference)
        return Source(written, folder, "", None, None)
    run = find_run(reference.value, storage).absolute()
    step = None if reference.role else step_of(Path(folder).parent)
    canonical = ModelReference("run", f"{run.parent.name}/{run.name}", step, reference.role)
    return Source(str(canonical), folder, reference.role or POLICY, run, step)


def best_of(sweep: SweepFolder) -> Best | None:
    """The best finished run of a sweep by its declared metric and mode; None where none has finished.

    Of the last node of its definition that has a finished run. Where the node's runs by seed are there, of the arm with the best mean
    the run with the best last score; else the best of the winners of its arms' searches.
    """
    definition = plain(OmegaConf.load(sweep.definition))
    metric, mode = str(definition["metric"]), str(definition["mode"])
    finished = [one for one in Journal(sweep.journal).all() if winner_of([one], mode)]
    for node in reversed(definition["nodes"]):
        # The stages of a node: its name, and before it one a search, "NODE ARM search".
        mine = [one for one in finished if one.stage.split(" ")[0] == node]
        by_seed = [one for one in mine if one.stage == node]
        if not mine:
            continue
        arms = (
            _together(by_seed, "arm") if by_seed else [best_point(trials, mode) for trials in _together(mine, "stage")]
        )
        means = [_mean(arm) for arm in arms]
        mean = (max if mode == "max" else min)(means, key=lambda interval: interval.mean)
        arm = arms[means.index(mean)]
        return Best(sweep.name, metric, mode, _best(arm, mode), len(by_seed or mine), mean, len(arm))
    return None


def _together(tried: Sequence[Tried], name: str) -> list[list[Tried]]:
    """Trials that have the same value of an attribute, in their order."""
    values = dict.fromkeys(getattr(one, name) for one in tried)
    return [[one for one in tried if getattr(one, name) == value] for value in values]


def _mean(tried: Sequence[Tried]) -> Interval:
    """Of their scores, over runs."""
    # Each run's score is one number already: as if of one task.
    scores = np.array([[one.score] for one in tried])
    return combined_interval([(1.0, Block(scores, tuple(one.run for one in tried), ("score",)))])


def _best(tried: Sequence[Tried], mode: str) -> Tried:
    best = winner_of(tried, mode)
    assert best is not None
    return best
