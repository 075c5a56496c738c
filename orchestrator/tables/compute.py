"""A table's cells, each computed from stored episodes and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config.keys import keys_of
from orchestrator.config.schema import RunConfig
from orchestrator.records.folder import RunFolder
from orchestrator.sweep.graph import configs_of
from orchestrator.sweep.spec import Sweep
from orchestrator.sweep.statistics import combined_interval
from orchestrator.tables.claims import Assessed, assess
from orchestrator.tables.declare import AnyColumn, Average, Column, Difference, Published, Row, Table
from orchestrator.tables.episodes import Played, Reader, Scores, TooFewAnswers, scores_of
from orchestrator.tables.find import Named
from orchestrator.tables.parts import Found, average, block_of, difference, quotient
from orchestrator.tables.stored import Stored, arm_of, stored_runs

FREE = ("preset", "name", "seeds")
"""Settings of the command line that leave a table at paper scale, beside those that change no result."""
SAMPLING = (
    ("rollout", "temperature"), ("rollout", "max_completion_tokens"), ("eval", "samples_per_task"), ("eval", "best_of"),
)  # fmt: skip
"""Settings, by group and name, that say how held-out episodes were sampled."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell. mean None: not run, and reason says why; so it does where only some of the `asked` runs are there.

    runs, tasks, episodes: what the mean is over; unscored: episodes that a fault kept out of it. most: runs of its largest part
    (a difference and an average have several), `runs` of its smallest. unpaired: tasks left out of a difference because not all
    runs of both sides have a score of them. blank: nothing belongs here. published: where all of its runs are at paper scale.
    chosen: of the winner of a search. files: of the episodes, from the storage on.
    """

    row: str
    column: str
    mean: float | None = None
    low: float = math.nan
    high: float = math.nan
    runs: int = 0
    asked: int = 0
    tasks: int = 0
    episodes: int = 0
    unscored: int = 0
    reason: str = ""
    blank: bool = False
    chosen: bool = False
    published: Published | None = None
    files: tuple[str, ...] = ()
    most: int = 0
    unpaired: int = 0

    @property
    def whole(self) -> bool:
        """Whether all of its runs are in it."""
        return self.mean is not None and not self.reason


@dataclass(frozen=True, slots=True)
class Computed:
    """A table with its figures. overrides: settings of the command line. files: run, step and digest of all episodes that were
    read, by file; runs: preset, seed, sampling and versions of their runs. presets: of all runs. claims: what came of testing them."""

    named: Named
    sweep: str
    overrides: tuple[str, ...]
    cells: tuple[Cell, ...]
    files: Mapping[str, Mapping[str, Any]]
    runs: Mapping[str, Mapping[str, Any]]
    presets: tuple[str, ...]
    at_scale: bool
    claims: tuple[Assessed, ...] = ()

    @property
    def table(self) -> Table:
        return self.named.table

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(cell.row for cell in self.cells))

    def cell(self, row: str, column: str) -> Cell:
        return next(cell for cell in self.cells if (cell.row, cell.column) == (row, column))


def compute(named: Named, sweep: Sweep, storage: Path, overrides: Sequence[str] = ()) -> Computed:
    """Every cell of a table. overrides: settings that `sweep` was read with. Raises ConfigError where a metric fails."""
    return _Computation(named, sweep, storage, tuple(overrides)).result()


class _Computation:
    def __init__(self, named: Named, sweep: Sweep, storage: Path, overrides: tuple[str, ...]) -> None:
        self.named, self.table, self.sweep, self.overrides = named, named.table, sweep, overrides
        self._nodes = {node.name: node for node in sweep.nodes}
        self._stored = stored_runs(sweep, storage)
        self._presets = {
            (node, arm): config.preset
            for node, arms in configs_of(sweep, storage).items()
            for arm, config in arms.items()
        }
        self._reader = Reader()
        self._found: dict[tuple[str, str], Found] = {}
        self._files: dict[str, dict[str, Any]] = {}
        self._runs: dict[str, dict[str, Any]] = {}

    def result(self) -> Computed:
        everything = [self._of(row.name, column.name) for row in self.table.rows for column in self.table.columns]
        presets = frozenset().union(*(found.presets for found in everything))
        at_scale = self.table.paper in presets and not _deciding(self.overrides)
        rows = [row for row in self.table.rows if row.node or at_scale]
        cells = [self._cell(row, column, at_scale) for row in rows for column in self.table.columns]
        return Computed(
            self.named, self.sweep.name, self.overrides, tuple(cells), dict(sorted(self._files.items())),
            dict(sorted(self._runs.items())), tuple(sorted(presets)), at_scale,
            tuple(assess(claim, self._of) for claim in self.table.claims),
        )  # fmt: skip

    def _at(self, row: Row, node: str | None) -> tuple[str, str]:
        assert node is not None
        return node, arm_of(self._nodes[node], row.arm)

    def _cell(self, row: Row, column: AnyColumn, at_scale: bool) -> Cell:
        found = self._of(row.name, column.name)
        published = self.table.published.get((row.name, column.name))
        here = at_scale and found.presets <= {self.table.paper}
        cell = Cell(
            row.name, column.name, asked=found.asked, reason="; ".join(dict.fromkeys(found.reasons)), blank=found.blank,
            chosen=found.chosen, published=published if here else None, files=tuple(dict.fromkeys(found.files)),
            unpaired=found.unpaired,
        )  # fmt: skip
        if found.value is None:
            return cell
        spread = combined_interval(found.terms)
        return replace(
            cell,
            mean=found.value,
            low=found.value + spread.low - spread.mean,
            high=found.value + spread.high - spread.mean,
            runs=min(len(block.runs) for _, block in found.terms),
            most=max(len(block.runs) for _, block in found.terms),
            tasks=len({task for _, block in found.terms for task in block.tasks}),
            episodes=sum(scores.episodes for scores in found.seen),
            unscored=sum(scores.unscored for scores in found.seen),
        )

    def _of(self, row: str, column: str) -> Found:
        """A cell by its names, computed once."""
        if (row, column) not in self._found:
            self._found[row, column] = self._find(self.table.row(row), self.table.column(column))
        return self._found[row, column]

    def _find(self, row: Row, column: AnyColumn) -> Found:
        if row.node is None:
            return Found(blank=True)
        if isinstance(column, Average):
            return average([self._of(row.name, name) for name in column.of])
        if isinstance(column, Difference):
            baseline = self.table.baseline_of(row)
            assert baseline is not None
            if baseline == row.name:
                return Found(blank=True, presets=self._of(row.name, column.of).presets)
            return difference(self._of(row.name, column.of), self._of(baseline, column.of), column.relative)
        return self._measure(row, column)

    def _measure(self, row: Row, column: Column) -> Found:
        if column.below:
            above, below = (replace(column, metric=metric, below=None) for metric in (column.metric, column.below))
            return quotient(self._measure(row, above), self._measure(row, below))
        if row.best_of and (column.samples or 1) > 1:  # of one answer there is no mean over several
            return Found(blank=True)
        at = self._at(row, column.node or row.node)
        stored = self._stored.get(at, Stored({}))
        found = Found(reasons=list(stored.missing), asked=len(stored.runs) + len(stored.missing), chosen=stored.chosen)
        found.presets = frozenset({self._presets[at]})
        checkpoint, only = self.table.checkpoint_of(row, column), self._half(column)
        if only is not None and not only:
            assert column.half is not None
            found.reasons.append(f"no run of {column.half.row} is there, by which the tasks are halved")
            return found
        scored: dict[int, Scores] = {}
        for seed, folder in stored.runs.items():
            played = self._reader.read(folder, column.split, checkpoint)
            if played is None:
                found.reasons.append(f"run {folder.name} has no {column.split} episodes of step {checkpoint}")
                continue
            self._remember(folder, played, column.split)
            try:
                scores = scores_of(row, column, played, only)
            except TooFewAnswers as error:
                found.reasons.append(str(error))
                continue
            found.files.append(played.file)
            found.seen.append(scores)
            if scores.by_task:
                scored[seed] = scores
            else:
                found.reasons.append(f"run {folder.name} has no value in any episode of step {played.step}")
        if scored:
            assert row.node is not None
            block = block_of(row.node, scored)
            found.value, found.terms = block.mean, [(1.0, block)]
        return found

    def _half(self, column: Column) -> frozenset[Hashable] | None:
        """The tasks that alone count in a column; None: all."""
        if column.half is None:
            return None
        half = column.half
        terms = self._measure(
            self.table.row(half.row), replace(column, metric=half.metric, below=None, half=None)
        ).terms
        if not terms:
            return frozenset()
        (_, block) = terms[0]
        means = np.nanmean(block.scores, axis=0)
        upper = means > np.median(means)
        return frozenset(task for task, above in zip(block.tasks, upper, strict=True) if above == half.upper)

    def _remember(self, folder: RunFolder, played: Played, split: str) -> None:
        self._files[played.file] = {"run": played.run, "split": split, "step": played.step, "sha256": played.digest}
        if played.run not in self._runs:
            settings = self._reader.settings(folder)
            about = {name: settings.get(name) for name in ("preset", "seed", "versions")}
            self._runs[played.run] = about | {"sampling": {name: settings[group][name] for group, name in SAMPLING}}


def _deciding(overrides: Sequence[str]) -> list[str]:
    """Those of the command line's settings with which the runs are not the paper's any more."""
    keys = keys_of(RunConfig)
    return [
        text
        for text in overrides
        if (name := text.partition("=")[0]) not in FREE and not (name in keys and keys[name].is_indifferent)
    ]


def runs_there(named: Named, sweep: Sweep, storage: Path) -> tuple[int, int]:
    """(cells whose runs are all there, cells that have runs), without reading an episode."""
    stored, nodes = stored_runs(sweep, storage), {node.name: node for node in sweep.nodes}
    there = asked = 0
    for row in (row for row in named.table.rows if row.node):
        for column in (column for column in named.table.columns if isinstance(column, Column)):
            node = column.node or row.node
            assert node is not None
            found = stored.get((node, arm_of(nodes[node], row.arm)), Stored({}))
            asked += 1
            there += bool(found.runs) and not found.missing
    return there, asked
