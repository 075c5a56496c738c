"""Intervals for the numbers of a table. Every interval is a 95 % one."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
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


def difference_interval(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Interval:
    """Mean of the second less mean of the first, with an interval over runs and tasks (a hierarchical bootstrap).

    first, second: scores by run and task, [runs, tasks]; column t is the same task in both. Tasks are drawn once for all runs of
    a resample, which pairs the scores; runs are drawn anew, one fewer than there are, because as many would make the interval of
    a few runs too narrow (Rao & Wu 1988). A single run cannot be drawn: the interval is then over tasks of that run alone.
    n: runs of the smaller side, tasks where that is one. Raises ValueError for shapes that do not match or scores that are not
    finite.
    """
    if first.ndim != 2 or first.shape[1:] != second.shape[1:] or not first.size or not second.size:
        raise ValueError(
            f"difference_interval needs [runs, tasks] of the same tasks, got {first.shape}, {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise ValueError("difference_interval needs finite scores: leave out the tasks that have none")
    tasks, runs = first.shape[1], min(len(first), len(second))
    mean = float(second.mean() - first.mean())
    if runs == 1 and tasks == 1:
        return Interval(mean, math.nan, math.nan, 1)
    rng = np.random.default_rng(seed)
    means = [mean]
    while len(means) <= RESAMPLES:
        count = min(RESAMPLES + 1 - len(means), max(1, 10_000_000 // tasks))
        by_task = _shares(rng, len(second), count) @ second - _shares(rng, len(first), count) @ first
        share_of_task = rng.multinomial(tasks, np.full(tasks, 1 / tasks), count) / tasks
        means += (by_task * share_of_task).sum(1).tolist()
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(mean, float(low), float(high), runs if runs > 1 else tasks)


def _shares(rng: np.random.Generator, runs: int, count: int) -> np.ndarray:
    """The weight of each run in `count` resamples, [count, runs]."""
    drawn = max(1, runs - 1)
    return rng.multinomial(drawn, np.full(runs, 1 / runs), count) / drawn
