"""Points of a search, and how a population moves them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.sweep.course import FACTORS, Points, moved_point
from orchestrator.sweep.spec import Range, Tuning
from orchestrator.sweep.trial import Origin, Work

RATE = Range("lr", "loguniform", low=1e-4, high=1e-2)
BETA = Range("beta", "choice", (5, 10, 15), when={"algorithm": "flowrl"})


def points(tuning: Tuning, known: dict[int, dict[str, float]] | None = None) -> Points:
    return Points((RATE, BETA), {"algorithm": "flowrl"}, tuning, "max", known or {})


def test_random_points_are_the_same_after_a_restart() -> None:
    first, second = (points(Tuning(trials=4, searcher="random", seed=3)).listed for _ in range(2))
    assert first == second
    assert len(first) == 4
    assert all(1e-4 <= point["lr"] <= 1e-2 and point["beta"] in (5, 10, 15) for point in first)


def test_tpe_gives_known_trials_their_points_again_and_others_new_ones() -> None:
    tuning = Tuning(trials=4, seed=3)
    first = points(tuning)
    asked = [first.ask(number) for number in range(3)]
    again = points(tuning, dict(enumerate(asked)))
    assert [again.ask(number) for number in range(3)] == asked
    assert again.ask(3) not in asked
    for number in range(3):
        again.tell(number, 0.5 if number else float("nan"))


def test_tpe_goes_where_the_scores_are() -> None:
    search = points(Tuning(trials=60, seed=0))
    asked = []
    for number in range(60):
        point = search.ask(number)
        asked.append(point["lr"])
        search.tell(number, -abs(point["lr"] - 1e-3))
    # Half of the log-uniform draws lie within a factor 3.2 of the best; of what was learned more.
    near = [3.2e-4 < rate < 3.2e-3 for rate in asked]
    assert sum(near[30:]) > 20


@pytest.mark.parametrize("seed", range(20))
def test_a_moved_point_stays_in_its_ranges(seed: int) -> None:
    random.seed(seed)
    moved = moved_point((RATE, BETA), {"algorithm": "flowrl"}, {"lr": 9e-3, "beta": 5})
    assert RATE.low <= moved["lr"] <= RATE.high
    assert moved["beta"] in (5, 10, 15)
    assert moved_point((RATE, BETA), {"algorithm": "grpo"}, {"lr": 1e-3}).keys() == {"lr"}


def test_a_moved_number_is_multiplied_and_a_listed_value_steps_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.sweep.course.RESAMPLED", 0.0)
    random.seed(0)
    for _ in range(10):
        moved = moved_point((RATE, BETA), {"algorithm": "flowrl"}, {"lr": 1e-3, "beta": 10})
        assert moved["lr"] in [1e-3 * factor for factor in FACTORS]
        assert moved["beta"] in (5, 15)


def test_a_member_goes_on_in_its_own_run_and_copies_into_another(tmp_path: Path) -> None:
    mine = Work("", 0, {}, "0123456789", {}, str(tmp_path / "policy-0123456789"), token="0").apart(None)
    assert mine.run != str(tmp_path / "policy-0123456789")
    pointer = {"run": mine.run, "step": 10, "token": "0", "origin": None}
    assert mine.handed(pointer) == mine
    other = Work("", 0, {}, "0123456789", {}, str(tmp_path / "policy-0123456789"), token="x", copies=True)
    copy = other.handed(pointer)
    assert copy.origin == Origin(mine.run, 10)
    assert copy.run not in (mine.run, other.run)
    # After a pause it is handed its own checkpoint.
    assert other.handed({"run": copy.run, "step": 20, "token": "x", "origin": copy.origin}) == copy
