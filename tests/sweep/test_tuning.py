"""What a stage tells Ray Tune of trials that were tried before, and when the stage's pool is opened."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.sweep import driver
from orchestrator.sweep.journal import Tried
from orchestrator.sweep.spec import Node, Range, Stage, Tuning
from orchestrator.sweep.tuning import Next, scheduler_of


def course(tuning: Tuning, stored: int = 0, *ranges: Range) -> Any:
    """A stage of three trials, the first of which are stored: all that is asked of it before Tune begins."""
    node = Node("policy", "rlvr", {"steps": 8}, {"": {}}, (), ranges, tuning)
    trials = [
        (Tried("policy search", number, "", 0, {}, ""), SimpleNamespace(token=str(number))) for number in range(3)
    ]
    left = iter(trials)
    return SimpleNamespace(
        stage=Stage(node, ""), tuning=tuning, is_population=tuning.scheduler == "pbt", over=lambda: "",
        config=SimpleNamespace(steps=8), sweep=SimpleNamespace(metric="eval/oracle", mode="max"),
        next=lambda: next(left, None), twin=lambda tried: None,
        take_stored=lambda tried, work: [{"step": 8, "eval/oracle": 0.5}] if tried.number < stored else None,
    )  # fmt: skip


@pytest.mark.parametrize("stored", [1, 3])
def test_a_population_goes_on_without_the_members_that_finished(stored: int) -> None:
    going = course(Tuning(scheduler="pbt"), stored)
    searcher = Next(going, scheduler_of(going))
    assert searcher.is_idle == (stored == 3)
    assert [work.token for work in searcher.everything()] == [str(number) for number in range(stored, 3)]


def test_asha_compares_with_what_is_stored() -> None:
    going = course(Tuning(scheduler="asha", grace_steps=2), 1)
    scheduler: Any = scheduler_of(going)
    assert not Next(going, scheduler).is_idle
    # Rungs at 2 and 2 x 3 steps, and step 8 is above both.
    (bracket,) = scheduler._brackets
    assert [dict(recorded) for _, recorded in bracket._rungs] == [{"stored-0": 0.5}, {}]


@pytest.mark.parametrize(
    ("ranges", "most"),
    [
        ((), 8),
        ((Range("learner.learning_rate", "uniform", low=0, high=20),), 8),
        ((Range("steps", "choice", (4, 16)),), 16),
        ((Range("steps", "int", low=4, high=12),), 12),
    ],
)
def test_the_longest_trial_ends_by_itself(ranges: tuple[Range, ...], most: int) -> None:
    scheduler: Any = scheduler_of(course(Tuning(scheduler="asha"), 0, *ranges))
    assert scheduler._max_t == most


@pytest.mark.parametrize("tuner", [None, SimpleNamespace(fit=lambda: None)])
def test_the_pool_is_opened_only_where_something_is_left_to_do(monkeypatch: pytest.MonkeyPatch, tuner: Any) -> None:
    opened = []
    monkeypatch.setattr(driver, "tuner_of", lambda course, body: tuner)
    monkeypatch.setattr(driver, "_holding_pools", lambda course: opened.append(course) or nullcontext())
    going = course(Tuning())
    driver._follow(going, lambda: 0)
    assert opened == ([going] if tuner else [])
