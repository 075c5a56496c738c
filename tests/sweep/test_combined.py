"""The interval of a table's cell, of a difference and of an average, by hand and by how often it holds the truth.

Student's 97.5 % quantiles: 12.7062 for 1 degree of freedom, 4.30265 for 2.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.sweep.statistics import Block, combined_interval, mean_interval


def block(scores: list[list[float]], runs: str, tasks: str) -> Block:
    return Block(np.array(scores, dtype=float), tuple(runs), tuple(tasks))


def test_runs_that_differ_on_no_task_have_the_t_interval_of_their_means() -> None:
    """0.4, 0.5, 0.6: standard error 0.1/√3, times 4.30265 is 0.24841."""
    found = combined_interval([(1, block([[0.4] * 4, [0.5] * 4, [0.6] * 4], "xyz", "abcd"))])
    assert (found.mean, found.high - found.mean, found.mean - found.low, found.n) == pytest.approx(
        (0.5, 0.24841, 0.24841, 3), abs=1e-5
    )


def test_one_run_has_the_t_interval_of_its_tasks() -> None:
    """0.3, 0.5, 0.7 on three tasks: standard error 0.2/√3, times 4.30265 is 0.49683. Many tasks: as the bootstrap."""
    found = combined_interval([(1, block([[0.3, 0.5, 0.7]], "x", "abc"))])
    assert (found.mean, found.high, found.n) == pytest.approx((0.5, 0.5 + 0.49683, 3), abs=1e-5)
    values = np.random.default_rng(0).normal(size=300)
    many = combined_interval([(1, Block(values[None], ("x",), tuple(range(300))))])
    other = mean_interval(list(values))
    assert (many.low, many.high) == pytest.approx((other.low, other.high), abs=0.01)


def test_runs_and_tasks_add_up() -> None:
    """Runs at 0.4 and 0.6, tasks at 0.4 and 0.6: each part has standard error 0.1 and 12.7062; together √2 of that, 1.79693."""
    found = combined_interval([(1, block([[0.3, 0.5], [0.5, 0.7]], "xy", "ab"))])
    assert (found.mean, found.high) == pytest.approx((0.5, 0.5 + 1.79693), abs=1e-4)


def test_a_difference_is_paired_by_task_and_by_run() -> None:
    """0.1 more on each task, however hard it is, by one run of each: tasks say that it is exact. Runs that both begin at their own
    level and gain 0.2 and 0.4: apart they spread, paired they are 0.3 ± 12.7062 x 0.1."""
    hard = block([[0.1, 0.5, 0.9]], "x", "abc")
    easier = block([[0.2, 0.6, 1.0]], "y", "abc")
    found = combined_interval([(1, easier), (-1, hard)])
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    before = block([[0.1, 0.1], [0.5, 0.5]], "xy", "ab")
    after = block([[0.3, 0.3], [0.9, 0.9]], "xy", "ab")
    found = combined_interval([(1, after), (-1, before)])
    assert (found.mean, found.high) == pytest.approx((0.3, 0.3 + 1.27062), abs=1e-4)
    apart = combined_interval([(1, block([[0.3, 0.3], [0.9, 0.9]], "uv", "ab")), (-1, before)])
    # Standard errors 0.3 and 0.2 of the two sides: √0.13 x 12.7062 = 4.58129.
    assert apart.high - apart.mean == pytest.approx(4.58129, abs=1e-4)


def test_an_average_of_two_columns_of_the_same_runs() -> None:
    """Two benchmarks on which the same two runs are at 0.4 and 0.6, and at 0.6 and 0.8: the average is 0.5 of one and 0.7 of the
    other run, 0.6 ± 12.7062 x 0.1. Were the runs others on the second, their luck would even out: ± 12.7062 x 0.1/√2."""
    first, second = block([[0.4, 0.4], [0.6, 0.6]], "xy", "ab"), block([[0.6, 0.6], [0.8, 0.8]], "xy", "cd")
    found = combined_interval([(0.5, first), (0.5, second)])
    assert (found.mean, found.high) == pytest.approx((0.6, 0.6 + 1.27062), abs=1e-4)
    others = Block(second.scores, ("u", "v"), second.tasks)
    found = combined_interval([(0.5, first), (0.5, others)])
    assert found.high - found.mean == pytest.approx(1.27062 / math.sqrt(2), abs=1e-4)


def test_a_task_that_a_run_has_no_score_of_is_left_out_of_that_run() -> None:
    """Run means 0.2 (of one task) and 0.6: 0.4."""
    found = combined_interval([(1, block([[0.2, math.nan], [0.4, 0.8]], "xy", "ab"))])
    assert found.mean == pytest.approx(0.4)
    assert math.isfinite(found.high)


def test_a_single_score_says_nothing_of_its_spread() -> None:
    found = combined_interval([(1, block([[0.4]], "x", "a"))])
    assert (found.mean, found.n) == (0.4, 1)
    assert math.isnan(found.low)


@pytest.mark.parametrize(("by_run", "by_task", "by_both"), [(0.05, 0.15, 0.1), (0.02, 0.15, 0.1), (0.0, 0.0, 0.2)])
@pytest.mark.parametrize("runs", [2, 3])
def test_it_holds_the_truth_as_often_as_it_says(runs: int, by_run: float, by_task: float, by_both: float) -> None:
    """400 made-up cells of 200 tasks whose true mean is 0: 95 % or more of the intervals hold it (± 1.1 % by chance)."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        scores = rng.normal(0, by_run, (runs, 1)) + rng.normal(0, by_task, 200) + rng.normal(0, by_both, (runs, 200))
        found = combined_interval([(1, Block(scores, tuple(range(runs)), tuple(range(200))))])
        held += found.low <= 0 <= found.high
    assert held / 400 >= 0.94


def test_a_single_run_is_taken_to_spread_as_the_runs_beside_it() -> None:
    """0.4, 0.5, 0.6 have variance 0.01; against one run at 0.3 the difference is 0.2 ± 4.30265 x √(0.01/3 + 0.01) = 0.49683. That it
    is one run in two columns adds up: the average of twice the same is the same."""
    three, one = block([[0.4] * 2, [0.5] * 2, [0.6] * 2], "xyz", "ab"), block([[0.3] * 2], "u", "ab")
    found = combined_interval([(1, three), (-1, one)])
    assert (found.mean, found.high - found.mean, found.n) == pytest.approx((0.2, 0.49683, 2), abs=1e-5)
    twice = combined_interval([(0.5, three), (0.5, three), (-0.5, one), (-0.5, one)])
    assert (twice.low, twice.high) == pytest.approx((found.low, found.high))


def _held(first: int, second: int, by_run: float) -> float:
    """How often the interval of a difference that is 0 holds it, of 400 of 200 tasks: each run has luck of its own, on all tasks
    and on each, and a task is as hard for all."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(400):
        hard = rng.normal(0, 0.15, 200)
        mine, other = (
            rng.normal(0, by_run, (runs, 1)) + hard + rng.normal(0, 0.1, (runs, 200)) for runs in (first, second)
        )
        one = Block(mine, tuple(range(first)), tuple(range(200)))
        two = Block(other, tuple(range(first, first + second)), tuple(range(200)))
        found = combined_interval([(1, one), (-1, two)])
        held += found.low <= 0 <= found.high
    return held / 400


@pytest.mark.parametrize(("first", "second"), [(3, 3), (2, 1), (3, 1), (5, 1), (1, 5)])
def test_a_difference_holds_the_truth_as_often_as_it_says(first: int, second: int) -> None:
    """Also against a single run; 95 % or more (± 1.1 % by chance)."""
    assert _held(first, second, by_run=0.05) >= 0.94


def test_of_one_run_each_the_interval_is_over_tasks_alone() -> None:
    """It holds the truth where runs do not differ, and far too seldom where they do: nothing there could say so."""
    assert _held(1, 1, by_run=0.0) >= 0.93
    assert _held(1, 1, by_run=0.05) < 0.6
