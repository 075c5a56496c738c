"""Rank 0's side of dynamic sampling: rounds, bounds and what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_director import Make, make  # noqa: F401 the fixture

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.director import Director
from orchestrator.records import episodes as episode_files
from orchestrator.records import metrics
from orchestrator.rollouts.dynamic import Refill
from orchestrator.values import Answer, Call, Choice, LogitAnswer

# ruff: noqa: F811 the fixture is an argument


def with_refills(director: Director, step: int = 1) -> tuple[Any, list[list[str]]]:
    """The batch of a step, as the loop gets it, and the tasks of each round."""
    rounds: list[list[str]] = []
    batch: Any = Refill(0)
    while isinstance(batch, Refill):
        queries = director.play(step, "train", len(rounds))
        rounds.append(list(dict.fromkeys(episode.task.id for episode in director._played.episodes)))
        batch = director.batch(step, [LogitAnswer(0.0, 0.0, 0, 1) for _ in queries])
    return batch, rounds


def differs_for(*tasks: str) -> Callable[[Call, int], Answer]:
    """A judge whose P(yes) is a tenth a sample for some tasks, and the same for every answer to the others."""

    def judge(call: Call, attempt: int) -> Answer:
        _, task, sample = call.key.split("/")
        return Choice({"yes": int(sample) / 10 if task in tasks else 0.5})

    return judge


def test_dynamic_sampling_plays_further_tasks_until_enough_groups_differ(make: Make) -> None:
    """Five tasks, of which one differs; a step wants two. Two are played, then twice what is missing, until there are none.

    Every rollout is counted and stored: 5 tasks of 4 samples with 1 + 2 + 3 + 4 tokens.
    """
    director = make(differs_for("train-3"), algorithm=AlgorithmConfig(dynamic_sampling=True))
    batch, rounds = with_refills(director)
    assert sorted(task for played in rounds for task in played) == [f"train-{n}" for n in range(5)]
    assert [len(played) for played in rounds] == [2, 2, 1]
    assert batch.total == 10
    assert len(batch.lengths_E) == 4
    director.close_step(1, {})
    (row,) = metrics.read(director.folder.metrics_log)
    assert row["rollout/refills"] == 2
    assert row["tokens/generated"] == 50
    assert row["episodes/trained_groups"] == 1
    assert row["episodes/zero_variance_groups"] == 4
    stored = episode_files.read(director.folder, "train").to_pylist()
    assert len(stored) == 20
    assert sum(line["advantage"] is not None for line in stored) == 4


def test_dynamic_sampling_stops_as_soon_as_enough_groups_differ(make: Make) -> None:
    """All five differ: one round, and the same batch as without. Four differ: no more than two are trained."""
    with_it, without = make(algorithm=AlgorithmConfig(dynamic_sampling=True)), make()
    batch, rounds = with_refills(with_it)
    plain, _ = with_refills(without)
    assert len(rounds) == 1
    assert batch.rows == plain.rows
    first = rounds[0][0]
    others = [f"train-{n}" for n in range(5) if f"train-{n}" != first]
    batch, rounds = with_refills(make(differs_for(*others), algorithm=AlgorithmConfig(dynamic_sampling=True)))
    assert [len(played) for played in rounds] == [2, 2]
    assert len(batch.lengths_E) == 2 * 4


@pytest.mark.parametrize("refills", [0, 1, 9])
def test_refills_are_bounded_where_no_rewards_differ(make: Make, refills: int) -> None:
    """The step ends without a batch and says so; never more rounds than allowed, nor than there are tasks."""
    director = make(differs_for(), algorithm=AlgorithmConfig(dynamic_sampling=True, max_refills=refills))
    batch, rounds = with_refills(director)
    assert batch is None
    assert len(rounds) == 1 + min(refills, 2)
    assert f"learns from 0 of 2 groups: after {min(refills, 2)} refills" in director.folder.events.read_text()
    # The next step begins anew.
    _, rounds = with_refills(director, step=2)
    assert len(rounds[0]) == 2
