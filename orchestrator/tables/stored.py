"""Which stored runs a sweep's definition stands for. Starts nothing and looks at no number of theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.records.folder import RunFolder
from orchestrator.sweep.folder import PLACE, SweepFolder, definition_of
from orchestrator.sweep.graph import MissingRunError, runs_of, stages
from orchestrator.sweep.keys import find_by_key, is_finished
from orchestrator.sweep.spec import Done, Node, Stage, Sweep


@dataclass(frozen=True, slots=True)
class Stored:
    """The runs of a node and arm. runs: those that finished, by seed. missing: what is the matter with each of the others.

    chosen: whether the one run is the winner of a search.
    """

    runs: Mapping[int, RunFolder]
    missing: tuple[str, ...] = ()
    chosen: bool = False


def folder_of(sweep: Sweep, storage: Path) -> SweepFolder:
    """Where a sweep of this name lies in a storage, whether it is there or not."""
    return SweepFolder((storage / PLACE / sweep.name).resolve())


def stored_runs(sweep: Sweep, storage: Path) -> dict[tuple[str, str], Stored]:
    """By node and arm. What the sweep's folder has as done is taken from there, everything else is looked for by its key, whichever
    sweep began it. Raises ConfigError where the sweep's folder is of another definition."""
    folder = folder_of(sweep, storage)
    closed: Mapping[str, str] = {}
    known: Sequence[Done] = ()
    if folder.definition.is_file():
        folder.check(definition_of(sweep), resume=True)
        closed, known = folder.done()
    found: dict[tuple[str, str], Stored] = {}
    done: list[Done] = []
    for stage in stages(sweep):
        if stage.name in closed:
            mine = [one for one in known if _is_of(one, stage)]
            done += mine
            runs = [(one.arm, one.seed, one.run, folder.storage / one.run) for one in mine]
            found |= _by_arm(stage, runs)
        elif stage.arm is not None:
            reason = f"the search of {' '.join(filter(None, (stage.node.name, stage.arm)))} has not ended"
            found[stage.node.name, stage.arm] = Stored({}, (reason,), chosen=True)
        else:
            found |= _planned(sweep, stage, done, storage)
    return found


def _is_of(one: Done, stage: Stage) -> bool:
    searched = stage.arm is not None
    return one.node == stage.node.name and one.winner == searched and stage.arm in (None, one.arm)


def _planned(sweep: Sweep, stage: Stage, done: list[Done], storage: Path) -> dict[tuple[str, str], Stored]:
    """The runs of a stage that is not done, as far as they are there; adds what finished to `done`."""
    try:
        planned = runs_of(sweep, stage, done, storage)
    except MissingRunError as error:
        return {(stage.node.name, arm): Stored({}, (str(error).rstrip("."),)) for arm in stage.node.arms}
    runs = []
    for run in planned:
        folder = find_by_key(storage, run.key)
        runs.append((run.arm, run.seed, run.name, folder.path if folder else None))
        if folder and is_finished(folder):
            done.append(Done(run.node, run.arm, run.seed, f"{folder.workload}/{folder.name}"))
    return _by_arm(stage, runs)


def _by_arm(stage: Stage, runs: Sequence[tuple[str, int, str, Path | None]]) -> dict[tuple[str, str], Stored]:
    """runs: (arm, seed, name, folder) of each."""
    found = {}
    for arm in stage.node.arms if stage.arm is None else (stage.arm,):
        finished, missing = {}, []
        for _, seed, name, path in (run for run in runs if run[0] == arm):
            folder = RunFolder(path) if path else None
            if folder is None or not folder.config.is_file():
                missing.append(f"run {name} is not there")
            elif not is_finished(folder):
                missing.append(f"run {name} is not finished")
            else:
                finished[seed] = folder
        found[stage.node.name, arm] = Stored(finished, tuple(missing), chosen=stage.arm is not None)
    return found


def arm_of(node: Node, arm: str) -> str:
    """The arm of a node that a row means: its only one where the row names none of its."""
    return arm if arm in node.arms else next(iter(node.arms))
