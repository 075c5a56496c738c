"""Rank 0's side of rollouts that run ahead: what overlaps, what is recorded, and that nothing does where it must not."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from fakes.answerers import FakeAnswerer
from test_director import Make, fakes, make, spoken  # noqa: F401 the fixture

from orchestrator.director import Director
from orchestrator.errors import RunError
from orchestrator.records import episodes as episode_files
from orchestrator.records import jsonl, metrics
from orchestrator.values import Answer, Call, Fault, LogitAnswer, Turn

# ruff: noqa: F811 the fixture is an argument

DEADLINE_S = 10


def learn(director: Director, step: int) -> None:
    """What follows the rollouts of a step, up to its row."""
    queries = director.play(step)
    director.batch(step, [LogitAnswer(0.0, 0.0, 0, 1) for _ in queries])
    director.close_step(step, {})


def test_the_next_step_is_played_while_this_one_is_learned(make: Make) -> None:
    """Weights of version 0 play step 1, and step 2 while step 1 is learned; step 3 is played by those of version 1. The answers to
    step 2 are held until the learner has begun to wait for them, and 0.2 s longer.
    """
    director = make(staleness=1, steps=3)
    version, asked_by, begun, held = 0, {}, threading.Event(), threading.Event()

    def speaks(call: Call, attempt: int) -> Answer:
        step = int(call.key.split("/")[1])
        asked_by[step] = threading.current_thread().name
        if step == 2:
            begun.set()
            assert held.wait(DEADLINE_S)
        turn = spoken(call, attempt)
        assert isinstance(turn, Turn)
        return replace(turn, weight_version=version)

    director.fleets["policy"] = FakeAnswerer(speaks)
    director.synced(0)
    learn(director, 1)
    # Step 1 is over, with its row: step 2 was begun beside it, and no more than that.
    assert begun.wait(DEADLINE_S)
    assert fakes(director)["judge"].asked == [f"1/{task.id}/{n}" for task in director.tasks_of(1) for n in range(4)]
    threading.Timer(0.2, held.set).start()
    learn(director, 2)
    version = 1
    director.synced(1)
    learn(director, 3)
    director.close()
    rows = metrics.read(director.folder.metrics_log)
    assert [row["episodes/staleness"] for row in rows] == [0, 1, 1]
    assert rows[1]["time/wait_s"] > 0.1
    assert all(name.startswith("rollouts") for name in asked_by.values())
    # Each episode once, in the order of its step.
    stored = episode_files.read(director.folder, "train").to_pylist()
    assert [line["step"] for line in stored] == [1] * 8 + [2] * 8 + [3] * 8
    ledger = [line for line in jsonl.read(director.folder.ledger_log) if line["step"] == 2]
    seconds = {line["phase"]: line["seconds"] for line in ledger}
    assert {"rollout (ahead)", "judge (ahead)", "wait"} <= seconds.keys()
    assert not {"rollout", "judge"} & seconds.keys()
    # It was waited for; what ran beside takes nothing from the step.
    assert seconds["rollout (ahead)"] >= seconds["wait"] - 0.05
    assert rows[1]["time/rollout_s"] == pytest.approx(seconds["rollout (ahead)"])
    step = sum(value for phase, value in seconds.items() if not phase.endswith("(ahead)"))
    assert rows[1]["time/step_s"] == pytest.approx(step)


def test_what_goes_wrong_ahead_ends_the_step_that_it_belongs_to(make: Make) -> None:
    """Step 2 cannot be played; step 1 is learned all the same."""
    director = make(staleness=1, steps=3)
    director.fleets["policy"] = FakeAnswerer(
        lambda call, n: Fault("gone") if call.key.startswith("train/2/") else spoken(call, n)
    )
    director.synced(0)
    learn(director, 1)
    with pytest.raises(RunError, match=r"policy fleet, call train/2/.*gone"):
        director.play(2)
    director.close()


def test_rollouts_that_are_not_to_run_ahead_run_in_no_thread_of_their_own(make: Make) -> None:
    director = make()
    asked_by = set()

    def speaks(call: Call, attempt: int) -> Answer:
        asked_by.add(threading.current_thread())
        return spoken(call, attempt)

    director.fleets["policy"] = FakeAnswerer(speaks)
    director.synced(0)
    assert fakes(director)["policy"].batches == []
    learn(director, 1)
    director.close()
    assert asked_by == {threading.main_thread()}
    phases = {line["phase"] for line in jsonl.read(director.folder.ledger_log)}
    assert {"rollout", "judge"} <= phases
    assert not [phase for phase in phases if phase == "wait" or "ahead" in phase]


def test_a_resumed_run_plays_ahead_from_the_step_after_its_weights(make: Make) -> None:
    """Weights of version 2, of 4 steps: 3 and 4 are played at once. The same tasks and seeds as in a run without a break."""
    played = []
    for first in (0, 2):
        director = make(staleness=1, steps=4)
        director.synced(first)
        for step in range(first + 1, 5):
            learn(director, step)
            director.synced(step)
        director.close()
        calls = [call for batch in fakes(director)["policy"].batches for call in batch]
        played.append([(call.key, call.seed) for call in calls])
    assert len(played[1]) == 16
    assert played[1] == played[0][16:]
