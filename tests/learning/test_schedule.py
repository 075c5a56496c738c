"""The learning rate of RL, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config.schema import LearnerConfig
from orchestrator.learning.schedule import learning_rate_at


def rates(steps: int, **settings: Any) -> list[float]:
    learner = LearnerConfig(learning_rate=1.0, **settings)
    return [learning_rate_at(learner, step, steps) for step in range(steps)]


def test_without_a_schedule_the_peak_stays() -> None:
    assert rates(4, schedule="constant") == [1.0] * 4


def test_the_warm_up_ends_at_the_peak() -> None:
    """4 steps: a quarter more each."""
    assert rates(6, schedule="constant", warmup_steps=4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_a_line_from_the_peak_to_its_least_share() -> None:
    """From 1 to 0.2 in four equal steps of 0.2."""
    assert rates(5, schedule="linear", min_learning_rate_share=0.2) == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2])


def test_a_line_after_a_warm_up() -> None:
    """2 steps up (0.5, 1), then from 1 to 0 in four equal steps."""
    expected = [0.5, 1.0, 0.75, 0.5, 0.25, 0.0]
    assert rates(6, schedule="linear", warmup_steps=2, min_learning_rate_share=0) == pytest.approx(expected)


def test_a_cosine_from_the_peak_to_its_least_share() -> None:
    """0.1 + 0.9 (1 + cos x) / 2 at 0, 60, 90, 120, 180 degrees (steps 0, 2, 3, 4, 6 of 7): 1, 0.775, 0.55, 0.325, 0.1."""
    result = rates(7, schedule="cosine", min_learning_rate_share=0.1)
    assert [result[step] for step in (0, 2, 3, 4, 6)] == pytest.approx([1.0, 0.775, 0.55, 0.325, 0.1])


def test_more_steps_stretch_what_is_left() -> None:
    """Half way through 5 steps a line is at 0.5. Step 2 of 9 is a quarter of the way, so the rate goes up to 0.75."""
    learner = LearnerConfig(learning_rate=1.0, schedule="linear", min_learning_rate_share=0)
    assert learning_rate_at(learner, 2, 5) == pytest.approx(0.5)
    assert learning_rate_at(learner, 2, 9) == pytest.approx(0.75)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_short_runs_have_a_learning_rate_too(schedule: str) -> None:
    """One step is at the peak; a warm-up as long as the run, or longer, leaves nothing to fall."""
    assert rates(1, schedule=schedule) == [1.0]
    assert rates(2, schedule=schedule, warmup_steps=2) == [0.5, 1.0]
    assert rates(2, schedule=schedule, warmup_steps=4) == [0.25, 0.5]


@pytest.mark.stack
def test_a_resumed_run_goes_on_in_its_schedule(learned: dict[str, Any]) -> None:
    """After 3 of 5 steps the fourth is three quarters down from 0.01 to a tenth: 0.01 (1 - 0.9 * 3/4) = 0.00325."""
    assert learned["schedule"] == pytest.approx(0.00325)
