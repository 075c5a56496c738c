"""Intervals for the numbers of a table. Every interval is a 95 % one."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

RESAMPLES = 9999
"""Bootstrap resamples; with the observed sample itself they make 10,000."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval. n: independent units (groups where there are groups, else values).

    One unit says nothing about the spread: then low and high are NaN.
    """

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float], groups: Sequence[Hashable] | None = None, seed: int = 0) -> Interval:
    """Mean of the values with a percentile-bootstrap interval (Efron 1979).

    groups: one label a value (a task, a run). Values of one group are not independent, so whole groups are resampled
    (the cluster bootstrap, Davison & Hinkley 1997, section 3.8); the mean stays the mean of all values.
    Raises ValueError for no values, values that are not finite, or as many labels as there are not values.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(
            f"mean_interval needs finite values, got {array.size} with {np.isnan(array).sum()} NaN: mask them first"
        )
    if groups is None:
        sums: np.ndarray = array
        counts: np.ndarray = np.ones_like(array)
    else:
        if len(groups) != array.size:
            raise ValueError(f"mean_interval got {array.size} values and {len(groups)} group labels: give one a value")
        number: dict[Hashable, int] = {}
        index = [number.setdefault(group, len(number)) for group in groups]
        sums, counts = np.bincount(index, weights=array), np.bincount(index, weights=np.ones_like(array))
    n = len(sums)
    mean = float(array.mean())
    if n == 1:
        return Interval(mean, math.nan, math.nan, 1)
    result = stats.bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=max(1, 10_000_000 // n),  # bounds memory to about 80 MB an array
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high), n)


def sums_interval(
    rows: ArrayLike, groups: Sequence[Hashable], statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0
) -> Interval:
    """A function of sums over rows (an F1, Cohen's kappa) with a percentile-bootstrap interval; whole groups are resampled.

    rows: [rows, K]. groups: one label a row. statistic: of sums [..., K], gives [...]; resamples where it is NaN are left out.
    """
    array = np.asarray(rows, dtype=np.float64)
    number: dict[Hashable, int] = {}
    index = [number.setdefault(group, len(number)) for group in groups]
    sums = np.zeros((len(number), array.shape[1]))
    np.add.at(sums, index, array)
    n, value = len(sums), float(statistic(sums.sum(0)))
    if n == 1:
        return Interval(value, math.nan, math.nan, 1)
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    resampled = statistic(drawn @ sums)
    there = resampled[np.isfinite(resampled)]
    low, high = np.percentile(there, [2.5, 97.5]).tolist() if there.size else (math.nan, math.nan)
    return Interval(value, low, high, n)


@dataclass(frozen=True, slots=True)
class Block:
    """Scores of runs on tasks. scores: [runs, tasks], NaN where a run has no score of a task; each run has one at least.

    runs, tasks: their names. What has one name in two blocks is the same run, or the same task.
    """

    scores: np.ndarray
    runs: tuple[Hashable, ...]
    tasks: tuple[Hashable, ...]

    @property
    def means(self) -> np.ndarray:
        """Of each run over its tasks, [runs]."""
        return np.asarray(np.nanmean(self.scores, axis=1))

    @property
    def mean(self) -> float:
        """Over tasks within a run, then over runs."""
        return float(self.means.mean())


def combined_interval(terms: Sequence[tuple[float, Block]], confidence: float = 0.95) -> Interval:
    """The sum of weight times mean of some blocks, with an interval over runs and tasks.

    One block of weight 1 is a cell of a table; two of weights 1 and -1 a difference, K of weight 1/K an average.

    A run moves the sum by its own mean's distance from the mean of the runs, a task by its scores' distance from the means of
    their runs; in how many blocks it is, so many times, which pairs what is the same in two of them. The interval is the mean ±
    the root of sum (t s)² over runs and over tasks, where s is the standard error from one of the two, and t Student's quantile
    (97.5 % at a confidence of 0.95) for as many as there are. So a few runs count as few: where all spread is between n runs it
    is the t interval of their means. A block of one run does not say how runs spread: it is taken to spread as the runs of the
    block do that spread most. Where no block has a second run the interval is over tasks alone, and too narrow for what another
    seed would give. Else it covers 95 % or more where runs of all blocks spread alike, and is somewhat too wide where runs and
    tasks do; a percentile bootstrap of three runs over many tasks covers 80 % in place of 95.
    n: runs of the smallest block, tasks where that is one.
    """
    by_run: dict[Hashable, tuple[float, int]] = {}
    by_task: dict[Hashable, tuple[float, int]] = {}
    alone: dict[Hashable, float] = {}
    for weight, block in terms:
        means, runs = block.means, len(block.runs)
        if runs == 1:  # what one run does in several blocks may be the same luck, so its weights add up
            alone[block.runs[0]] = alone.get(block.runs[0], 0.0) + abs(weight)
        each = weight * (means - means.mean()) / runs
        _add(by_run, block.runs, each, runs)
        scored = np.isfinite(block.scores).sum(1, keepdims=True)
        moved = weight * np.nansum((block.scores - means[:, None]) / scored, axis=0) / runs
        _add(by_task, block.tasks, moved, len(block.tasks))
    mean = sum(weight * block.mean for weight, block in terms)
    runs = min(len(block.runs) for _, block in terms)
    tasks = min(len(block.tasks) for _, block in terms)
    squares = [
        moved**2 * _student(count - 1, confidence) ** 2 * count / (count - 1)
        for moved, count in (*by_run.values(), *by_task.values())
        if count > 1
    ]
    several = [block.means for _, block in terms if len(block.runs) > 1]
    spread = max(
        (_student(len(means) - 1, confidence) ** 2 * float(means.var(ddof=1)) for means in several), default=0.0
    )
    squares += [weight**2 * spread for weight in alone.values() if several]
    half = math.sqrt(sum(squares)) if squares else math.nan
    return Interval(mean, mean - half, mean + half, runs if runs > 1 else tasks)


@cache
def _student(freedom: int, confidence: float) -> float:
    """The quantile of Student's t that bounds a two-sided interval."""
    return float(stats.t.ppf((1 + confidence) / 2, freedom))


def _add(moves: dict[Hashable, tuple[float, int]], names: Sequence[Hashable], each: np.ndarray, count: int) -> None:
    """Add how much each of a block's runs or tasks moves the sum. Kept beside it: of how many it is one, in the smallest block
    of several."""
    for name, moved in zip(names, each.tolist(), strict=True):
        before, fewest = moves.get(name, (0.0, count))
        moves[name] = (before + moved, min((n for n in (fewest, count) if n > 1), default=1))
