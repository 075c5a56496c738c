"""How a sweep stands, read from its folder by anyone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ConfigError
from orchestrator.records import log
from orchestrator.records.folder import RunFolder, is_taken, read_json
from orchestrator.records.standing import standing
from orchestrator.sweep.folder import PLACE, SweepFolder
from orchestrator.sweep.journal import LASTING, Journal, Tried, in_words


@dataclass(frozen=True, slots=True)
class SweepStanding:
    """status: "running", "finished", "has failures", or "broken off" (stopped or killed, to be resumed). trials: in the order in
    which they began. hours: for which the sweep was going on."""

    name: str
    status: str
    trials: tuple[Tried, ...]
    hours: float

    @property
    def done(self) -> int:
        return sum(one.outcome in LASTING for one in self.trials)


def sweeps_in(storage: Path) -> list[SweepFolder]:
    """The sweeps of a storage, by name."""
    return [SweepFolder(path.parent) for path in sorted((storage / PLACE).glob("*/sweep.yaml"))]


def find_sweep(name: str, storage: Path) -> SweepFolder | None:
    """A sweep by its name or folder; None where there is none."""
    found = (SweepFolder(path) for path in (Path(name), storage / PLACE / name))
    return next((folder for folder in found if folder.definition.is_file()), None)


def standing_of(folder: SweepFolder) -> SweepStanding:
    """How a sweep stands now."""
    journal = Journal(folder.journal)
    tried = tuple(journal.all())
    if is_taken(folder.path):
        status = "running"
    elif not folder.summary.is_file() or folder.stop.exists():
        status = "broken off"
    else:
        summary = read_json(folder.summary)
        status = "has failures" if to_mend(folder, tried) or summary["skipped"] else "finished"
    return SweepStanding(
        folder.name, status, tried, sum(journal.spent_h(name) for name in {one.stage for one in tried})
    )


def to_mend(folder: SweepFolder, tried: Sequence[Tried]) -> list[Tried]:
    """The trials that another start tries again. One that failed in a search that has a winner is part of what the search found."""
    closed, _ = folder.done()
    return [one for one in tried if one.outcome not in LASTING and one.stage not in closed]


def rows_of(folder: SweepFolder, found: SweepStanding) -> list[tuple[str, ...]]:
    """(stage, trial, arm, seed, point, run, state, step, score) of every trial, in words. What goes on is asked of its run."""
    rows: list[tuple[str, ...]] = []
    for one in found.trials:
        run = RunFolder(folder.storage / one.run)
        alive = standing(run) if not one.outcome and run.config.is_file() else None
        if alive and alive.status == "running":
            state = f"running: {alive.since}"
        else:
            state = one.outcome or ("starting" if found.status == "running" else "broken off")
        step = max(one.step, alive.step if alive else 0)
        score = f"{one.score:.3f}" if one.scores else ""
        rows.append(
            (
                one.stage,
                str(one.number),
                one.arm,
                str(one.seed),
                in_words(one.point),
                one.run,
                state,
                str(step),
                score,
            )
        )
    return rows


def ask_to_stop(folder: SweepFolder) -> None:
    """Have every run in flight write a checkpoint and end. Raises ConfigError where no process works on the sweep."""
    if not is_taken(folder.path):
        raise ConfigError(f"{folder.path} is not running ({standing_of(folder).status}): there is nothing to stop.")
    folder.stop.touch()


def lines(folder: SweepFolder, follow: bool = False) -> Iterator[str]:
    """What the sweep said, a line each. follow: go on until no process works on it."""
    return log.lines(folder.log, lambda: follow and is_taken(folder.path))
