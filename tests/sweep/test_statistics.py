from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.sweep.statistics import mean_interval


# Two values 0 and 1: the resampled mean is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4, so the 2.5 % and 97.5 %
# percentiles are 0 and 1.
def test_two_values_span_their_range() -> None:
    interval = mean_interval([0.0, 1.0])
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.5, 0.0, 1.0, 2)


# 400 values of standard deviation 1: the standard error is 1/20, the interval ± 1.96/20 = ± 0.098.
def test_many_values_agree_with_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(size=400)
    values = (values - values.mean()) / values.std()
    interval = mean_interval(list(values))
    assert interval.mean == pytest.approx(0, abs=1e-12)
    assert interval.low == pytest.approx(-0.098, abs=0.006)
    assert interval.high == pytest.approx(0.098, abs=0.006)


# 100 groups of 25 equal values are 100 independent units: as wide as for the 100 values alone (standard error 1/10,
# ± 0.196), not five times narrower (± 0.039) as for 2,500 values.
def test_groups_are_resampled_whole() -> None:
    centres = np.random.default_rng(2).normal(size=100)
    centres = (centres - centres.mean()) / centres.std()
    interval = mean_interval(list(np.repeat(centres, 25)), [f"task{i}" for i in np.repeat(np.arange(100), 25)])
    assert interval.n == 100
    assert interval.high - interval.low == pytest.approx(2 * 0.196, abs=0.02)


# Groups {1, 1, 1} and {0}: the mean of all values is 3/4; a resample of twice the same group has mean 1 or 0.
def test_unequal_groups_keep_the_mean_of_all_values() -> None:
    interval = mean_interval([1, 1, 1, 0], ["a", "a", "a", "b"])
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.75, 0.0, 1.0, 2)


def test_equal_values_have_an_interval_of_no_width_and_one_unit_has_none() -> None:
    assert mean_interval([0.3, 0.3, 0.3]).low == pytest.approx(0.3)
    assert math.isnan(mean_interval([0.3]).low)
    assert math.isnan(mean_interval([0.3, 0.9], ["a", "a"]).high)


def test_the_same_seed_gives_the_same_interval() -> None:
    values = [0.1, 0.5, 0.2, 0.9, 0.4]
    assert mean_interval(values) == mean_interval(values)


def test_values_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="1 NaN"):
        mean_interval([0.1, math.nan])
    with pytest.raises(ValueError, match="finite"):
        mean_interval([])
    with pytest.raises(ValueError, match="2 values and 1 group"):
        mean_interval([0.1, 0.2], ["a"])
