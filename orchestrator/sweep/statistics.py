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
