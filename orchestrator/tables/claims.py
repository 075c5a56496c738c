"""Claims about a table, tested so that they can fail: is the best of some rows not worse than another one by more than a margin?

The row is chosen on validation tasks, the test is on others; the margin is declared before any run. Runs are the unit, as in every
cell (`combined_interval`). Where the truth is minus the margin in every cell, one cell or another is called better in 2.5 % of studies
at most (Holm 1979), and in fewer: the interval is somewhat too wide. The row is chosen by the very runs that it is tested with, and
what was luck of a run on one split is luck on the other: of four rows that are alike, with a correlation of 0.9 between splits, that
is 2 % over four columns, and 5 % where there is only one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from scipy import optimize, stats

from orchestrator.sweep.statistics import Block, combined_interval
from orchestrator.tables.declare import Claim
from orchestrator.tables.parts import Found, difference

LEVEL = 0.025
"""One-sided, as the lower end of a 95 % interval is."""
POWER = 0.8
SURE = 1 - 1e-12
"""Highest confidence at which an interval is looked at: a smaller p is told as this one."""

Outcome = Literal["holds", "fails", "open"]


@dataclass(frozen=True, slots=True)
class AssessedCell:
    """One column of a claim. difference: of the chosen row less the other, with its 95 % interval. p: that it is as low as minus the
    margin or lower, corrected over the cells. detectable: how far above minus the margin the truth must lie for the test to see it
    with 80 % power. at_equal_length: the difference with the length held equal, over runs; NaN where lengths do not tell.
    outcome: holds (not worse by more than the margin), fails (worse by more), or open: the runs cannot tell."""

    column: str
    difference: float
    low: float
    high: float
    runs: int
    p: float
    detectable: float
    outcome: Outcome
    at_equal_length: float = math.nan
    at_equal_length_low: float = math.nan
    at_equal_length_high: float = math.nan


@dataclass(frozen=True, slots=True)
class Assessed:
    """A claim with what came of it. chosen: the row that stands for it, chosen_by: in which column it was the best of several.
    reason: why it could not be tested, else empty."""

    claim: str
    than: str
    margin: float
    chosen: str = ""
    chosen_by: str = ""
    cells: tuple[AssessedCell, ...] = field(default=())
    reason: str = ""

    @property
    def outcome(self) -> Outcome | Literal["not run"]:
        """It holds in all cells, or fails in one; else it is open."""
        outcomes = {cell.outcome for cell in self.cells}
        if not outcomes:
            return "not run"
        return "fails" if "fails" in outcomes else "open" if "open" in outcomes else "holds"


Cells = Callable[[str, str], Found]
"""What a cell is made of, by row and column."""


def assess(claim: Claim, cells: Cells) -> Assessed:
    """Choose, compare, correct. A claim of whose rows some run is missing is not tested."""
    looked_at = {row: (*claim.columns, *([claim.chosen_by] if row != claim.than else ())) for row in _rows(claim)}
    reasons = [
        reason for row, columns in looked_at.items() for column in columns for reason in _missing(cells(row, column))
    ]
    assessed = Assessed(claim.name, claim.than, claim.margin)
    if reasons:
        return replace(assessed, reason="; ".join(dict.fromkeys(reasons)))
    chosen = max(claim.of, key=lambda row: cells(row, claim.chosen_by).value or 0.0)
    assessed = replace(assessed, chosen=chosen, chosen_by=claim.chosen_by if len(claim.of) > 1 else "")
    pairs = {name: difference(cells(chosen, name), cells(claim.than, name), False) for name in claim.columns}
    if unpaired := [name for name, found in pairs.items() if found.value is None]:
        return replace(assessed, reason=f"no common tasks in {', '.join(unpaired)}")
    worse = {name: p_above(found.terms, -claim.margin) for name, found in pairs.items()}
    better = {name: 1 - p for name, p in worse.items()}
    corrected, opposite = holm(worse), holm(better)
    tested = []
    for name, found in pairs.items():
        interval = combined_interval(found.terms)
        outcome: Outcome = "holds" if corrected[name] < LEVEL else "fails" if opposite[name] < LEVEL else "open"
        equal = _at_equal_length(claim, chosen, name, cells) if claim.length else (math.nan,) * 3
        detectable = _half(found.terms, 1 - 2 * LEVEL / len(pairs)) + _half(found.terms, 2 * POWER - 1)
        tested.append(
            AssessedCell(
                name, interval.mean, interval.low, interval.high, interval.n, corrected[name], detectable, outcome, *equal
            )
        )  # fmt: skip
    return replace(assessed, cells=tuple(tested))


def _rows(claim: Claim) -> Iterator[str]:
    yield from (*claim.of, claim.than)


def _missing(found: Found) -> Iterator[str]:
    yield from found.reasons
    if not found.reasons and all(len(block.runs) < 2 for _, block in found.terms):
        yield "a single run says nothing of others: give it seeds"


def _half(terms: Sequence[tuple[float, Block]], confidence: float) -> float:
    """Half the width of the interval at a confidence."""
    interval = combined_interval(terms, confidence)
    return interval.high - interval.mean


def p_above(terms: Sequence[tuple[float, Block]], bound: float) -> float:
    """One-sided p of the hypothesis that the sum of the terms is `bound` or less, by the interval that every cell has.

    It is half of 1 less the confidence at which the interval ends at the bound; 0.5 where the mean lies on it.
    """
    distance = combined_interval(terms).mean - bound
    if _half(terms, SURE) < abs(distance):
        confidence = SURE
    else:
        confidence = optimize.brentq(lambda level: _half(terms, level) - abs(distance), 0.0, SURE, xtol=1e-14)
    return float((1 - confidence) / 2 if distance > 0 else (1 + confidence) / 2)


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Each p corrected for being one of several (Holm 1979): the smallest times their number, the next times one less, never below
    the one before."""
    corrected: dict[str, float] = {}
    least = 0.0
    for rank, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[name]))
        corrected[name] = least
    return corrected


def _at_equal_length(claim: Claim, chosen: str, column: str, cells: Cells) -> tuple[float, float, float]:
    """The difference with the length as a covariate: least squares of the runs' means on row and mean length, 95 % t interval.

    NaN where there are no more than three runs, or lengths that row and length cannot be told apart by.
    """
    assert claim.length is not None
    scores, rows, lengths = [], [], []
    for row in (chosen, claim.than):
        for _, block in cells(row, column).terms:
            scores += list(block.means)
            rows += [float(row == chosen)] * len(block.runs)
        for _, block in cells(row, claim.length).terms:
            lengths += list(block.means)
    nothing = (math.nan, math.nan, math.nan)
    if len(lengths) != len(scores) or len(scores) < 4:
        return nothing
    design = np.column_stack([np.ones(len(scores)), rows, lengths])
    if np.linalg.matrix_rank(design) < 3:
        return nothing
    weights, *_ = np.linalg.lstsq(design, np.array(scores), rcond=None)
    freedom = len(scores) - 3
    spread = float(((np.array(scores) - design @ weights) ** 2).sum()) / freedom
    error = math.sqrt(spread * float(np.linalg.inv(design.T @ design)[1, 1]))
    half = float(stats.t.ppf(1 - LEVEL, freedom)) * error
    return float(weights[1]), float(weights[1]) - half, float(weights[1]) + half
