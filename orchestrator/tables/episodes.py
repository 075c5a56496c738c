"""The stored episodes of a run as metrics are given them, and what a metric comes to on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestrator.config.compose import from_values
from orchestrator.config.own_code import own_code
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError, RunError
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder, sha256
from orchestrator.rollouts.evaluation import proxy_of
from orchestrator.tables.declare import LAST, Checkpoint, Column, Measured, Row
from orchestrator.values import Scored, Unscored


@dataclass(frozen=True, slots=True)
class Played:
    """One stored file of held-out episodes. file: from the storage on. digest: SHA-256 of its content."""

    run: str
    step: int
    file: str
    digest: str
    episodes: tuple[Measured, ...]


@dataclass(frozen=True, slots=True)
class Scores:
    """A metric on one file. by_task: the mean of each task that has any value, by its id and prompt. episodes: with a value;
    unscored: without one, because a fault kept them from being scored."""

    by_task: Mapping[Hashable, float]
    episodes: int
    unscored: int


class TooFewAnswers(RunError):
    """Fewer answers of a task were stored than a cell is of."""


class Reader:
    """Reads each file of episodes, and each run's config.yaml, once."""

    def __init__(self) -> None:
        self._read: dict[tuple[Path, str, int], Played] = {}
        self._settings: dict[Path, dict[str, Any]] = {}

    def settings(self, folder: RunFolder) -> dict[str, Any]:
        """All settings of a run, with `versions`."""
        if folder.path not in self._settings:
            self._settings[folder.path] = folder.settings()
        return self._settings[folder.path]

    def read(self, folder: RunFolder, split: str, checkpoint: Checkpoint) -> Played | None:
        """The evaluation of a run at a checkpoint; None where there is none."""
        step = int(self.settings(folder)["steps"]) if checkpoint == LAST else checkpoint
        if (split, step) not in episodes.parts(folder):
            return None
        at = (folder.path, split, step)
        if at not in self._read:
            self._read[at] = _read(folder, split, step, _proxy(self.settings(folder)))
        return self._read[at]


def _read(folder: RunFolder, split: str, step: int, proxy: Callable[[Scored], float]) -> Played:
    groups = episodes.read_groups(folder, split, step)
    pairs = [pair for group in groups for pair in zip(group.episodes, group.verdicts, strict=True)]
    truths = episodes.read(folder, split, [step], ["gold", "gold_verdicts"]).to_pylist()
    measured = [
        Measured(episode, verdict, row["gold"], dict(row["gold_verdicts"] or ()), proxy)
        for (episode, verdict), row in zip(pairs, truths, strict=True)
    ]
    path = episodes.path_of(folder, split, step)
    run = f"{folder.workload}/{folder.name}"
    return Played(run, step, f"{run}/{folder.episodes.name}/{path.name}", sha256(path), tuple(measured))


def _proxy(settings: Mapping[str, Any]) -> Callable[[Scored], float]:
    """The proxy of a run's own workload, which is made when it is first asked: most tables do without."""

    @cache
    def of_run() -> Callable[[Scored], float]:
        values = {key: value for key, value in settings.items() if key not in ("versions", "format", "files")}
        config = from_values(values)
        return proxy_of(config, find_workload(config.workload).workload(config)).of

    return lambda verdict: of_run()(verdict)


def counted(row: Row, column: Column, played: Played) -> Iterator[Measured]:
    """The answers of one file that count in a cell: all of them, each task's first so many, or the best of those by reward.

    Of equal rewards the earlier one; a task of which no answer was scored has no best one. Raises TooFewAnswers where a task has
    fewer answers than are asked for.
    """
    wanted = row.best_of or column.samples
    if wanted is None:
        yield from played.episodes
        return
    by_task: dict[Hashable, list[Measured]] = {}
    for measured in played.episodes:
        by_task.setdefault(_name(measured), []).append(measured)
    for answers in by_task.values():
        if len(answers) < wanted:
            raise TooFewAnswers(
                f"{played.file} has {len(answers)} answers of the task {answers[0].episode.task.id}, and {wanted} are asked for "
                "(eval.test_samples_per_task; eval.samples_per_task, eval.best_of)"
            )
        first = sorted(answers, key=lambda measured: measured.episode.sample)[:wanted]
        if row.best_of is None:
            yield from first
            continue
        scored = [(measured.verdict.reward, measured) for measured in first if isinstance(measured.verdict, Scored)]
        if scored:
            yield max(scored, key=lambda pair: pair[0])[1]


def scores_of(row: Row, column: Column, played: Played, only: Set[Hashable] | None = None) -> Scores:
    """A column's metric on what counts of one file. only: the tasks that count, by name; None: all.

    Raises ConfigError where the metric raises, or gives what is no number; TooFewAnswers.
    """
    by_task: dict[Hashable, list[float]] = {}
    unscored = 0
    for measured in counted(row, column, played):
        if only is not None and _name(measured) not in only:
            continue
        with own_code(f"the metric of the column {column.name!r} on {played.file}", column.metric):
            value = column.metric(measured)
        if value is None:
            unscored += isinstance(measured.verdict, Unscored)
            continue
        if isinstance(value, str) or not math.isfinite(value):
            raise ConfigError(
                f"the metric of the column {column.name!r} gives {value!r} for the episode {measured.episode.id} of "
                f"{played.file}: return a number, or None where there is none."
            )
        by_task.setdefault(_name(measured), []).append(float(value))
    return Scores({task: fmean(found) for task, found in by_task.items()}, sum(map(len, by_task.values())), unscored)


def _name(measured: Measured) -> Hashable:
    """Whatever has it is the same task: the same words under the same id."""
    task = measured.episode.task
    return task.id, tuple(message["content"] for message in task.messages)


def names_of(scores: Sequence[Scores]) -> list[Hashable]:
    """The tasks of several runs, each once, in the order in which they come."""
    return list(dict.fromkeys(task for one in scores for task in one.by_task))
