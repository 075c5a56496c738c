"""Leak scores and velocity."""

from __future__ import annotations

import pytest

from workloads.cdi.judged import ItemsShared
from workloads.cdi.leaks import item_score, item_scores, leak_score, velocity


def leaks(*actions: set[int]) -> tuple[ItemsShared, ...]:
    return tuple(ItemsShared(frozenset(), frozenset(items)) for items in actions)


# ln l / (ln l + 1): ln 2 = 0.693147 -> 0.409384;
# ln 3 = 1.098612 -> 0.523495; ln 5 = 1.609438 -> 0.616776; ln 10 = 2.302585 -> 0.697207.
@pytest.mark.parametrize(
    ("action", "rounded", "exact"),
    [(1, 0.0, 0.0), (2, 0.41, 0.409384), (3, 0.52, 0.523495), (5, 0.62, 0.616776), (10, 0.70, 0.697207)],
)
def test_the_score_of_an_item(action: int, rounded: float, exact: float) -> None:
    assert item_score(action) == rounded
    assert item_score(action, rounded=False) == pytest.approx(exact, abs=1e-6)


def test_the_first_leak_of_an_item_counts() -> None:
    """Item 1 in the second action and again later, item 2 in the third, item 3 never."""
    verdicts = leaks(set(), {0}, {0, 1}, {0})
    assert item_scores(verdicts, 3) == (0.41, 0.52, 1.0)
    assert leak_score(verdicts, 3) == pytest.approx((0.41 + 0.52 + 1) / 3)
    assert leak_score(verdicts, 3, rounded=False) == pytest.approx((0.409384 + 0.523495 + 1) / 3, abs=1e-6)


def test_silence_and_all_at_once_are_the_ends() -> None:
    assert leak_score((), 3) == 1.0
    assert leak_score(leaks({0, 1, 2}), 3) == 0.0


# Scores 1, 0.4, 0.7: velocity (0 + 0.6 + 0.3) / 3.
def test_velocity_is_a_mean_over_runs() -> None:
    assert velocity([1.0, 0.4, 0.7]) == pytest.approx(0.3)
