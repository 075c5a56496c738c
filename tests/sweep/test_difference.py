"""The interval of a difference between two arms of runs on the same tasks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.sweep.statistics import difference_interval, mean_interval


def test_one_run_an_arm_is_the_paired_bootstrap_over_tasks() -> None:
    """Tasks of very different difficulty, a difference of 0.1 ± 0.05 on each: pairing takes the difficulty out.

    The standard error of 40 differences is 0.05/√40 = 0.0079, so the interval is about ±0.0155; unpaired it would be ten times
    as wide.
    """
    noise = np.random.default_rng(0)
    first = noise.uniform(0, 1, (1, 40))
    second = first + 0.1 + 0.05 * noise.choice([-1.0, 1.0], (1, 40))
    found, paired = difference_interval(first, second), mean_interval((second - first)[0])
    assert found.n == 40
    assert found.mean == pytest.approx(paired.mean)
    assert found.low == pytest.approx(paired.low, abs=2e-3)
    assert found.high == pytest.approx(paired.high, abs=2e-3)
    assert found.high - found.low == pytest.approx(2 * 0.0155, rel=0.15)


def test_several_runs_are_the_units() -> None:
    """Runs at 0.4 and 0.6 against runs at 0.5 and 0.7, the same on all tasks: the mean differs by 0.1.

    Drawing one run of two a side gives -0.1, 0.1, 0.1, 0.3: the interval is from the smallest to the largest, though tasks alone
    would give no spread at all. The true standard error is √(0.02/2 + 0.02/2) = 0.14.
    """
    first, second = (np.repeat([[low], [high]], 30, axis=1) for low, high in ((0.4, 0.6), (0.5, 0.7)))
    found = difference_interval(first, second)
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, -0.1, 0.3))
    assert found.n == 2


def test_the_spread_of_few_runs_is_not_too_small() -> None:
    """Three runs an arm with standard deviation s: the variance of the difference is 2 s²/3. Drawing two of three runs has just
    this variance in the mean; drawing three of three would have 2/3 of it."""
    first = np.repeat([[0.0], [0.3], [0.6]], 50, axis=1)  # s² = 0.09
    noise = np.random.default_rng(1)
    second = np.repeat(noise.normal(1, 0.3, (3, 1)), 50, axis=1)
    variance = first[:, 0].var(ddof=1) / 3 + second[:, 0].var(ddof=1) / 3
    found = difference_interval(first, second)
    # nine equally likely means a side are far from normal: the width is only roughly that of ±1.96 standard errors
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.25)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="same tasks"):
        difference_interval(np.zeros((1, 3)), np.zeros((1, 4)))
    with pytest.raises(ValueError, match="finite"):
        difference_interval(np.zeros((1, 2)), np.array([[0.0, math.nan]]))
    alone = difference_interval(np.array([[0.25]]), np.array([[0.75]]))
    assert alone.mean == 0.5
    assert math.isnan(alone.low)
