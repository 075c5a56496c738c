"""The order of a colocated step: who sleeps, learns, sends and wakes when. Fleets and learner only take notes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from orchestrator.config.schema import RunConfig
from orchestrator.director import Director
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Fleet
from orchestrator.loop import Rank


class NotingFleet(Fleet):
    """Writes what it is told to do into a list that all share."""

    notes: list[str]
    fails_at: str = ""

    def sleep(self, level: int) -> None:
        self.notes.append(f"{self.role} sleeps at {level}")

    def wake(self, part: str) -> None:
        self.notes.append(f"{self.role} wakes {part}")
        if part == self.fails_at:
            raise RunError(f"{self.role}-0 failed while it should wake its {part}")


@pytest.fixture(scope="module", autouse=True)
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path_factory.mktemp("store") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> tuple[Rank, Any, list[str]]:
    """A rank, a learner, and what happens."""
    notes: list[str] = []
    director = object.__new__(Director)
    director.ledger = SimpleNamespace(phase=lambda name: nullcontext())  # type: ignore[assignment]
    director.fleets = {}
    for role in ("policy", "judge"):
        fleet = NotingFleet(role, [], 1, 1, 0)
        fleet.notes = notes
        director.fleets[role] = fleet
    monkeypatch.setattr(Director, "play", lambda self, step: notes.append("play") or [])
    monkeypatch.setattr(Director, "batch", lambda self, step, logits: "batch")
    config = RunConfig()
    config.placement.name = "colocated"
    rank = Rank(config, SimpleNamespace(lessons=tuple), director)
    rank.transport = SimpleNamespace(send=lambda fleet, version, buckets: notes.append(f"send {version}"))  # type: ignore[assignment]
    monkeypatch.setattr(rank, "weights", lambda engine: iter(()))
    learner = SimpleNamespace(update=lambda batch: notes.append("learn") or {}, engine=None)
    return rank, learner, notes


def test_servers_sleep_while_the_learner_works_and_wake_around_the_new_weights(
    stage: tuple[Rank, Any, list[str]],
) -> None:
    """The policy's weights are dropped (level 2): new ones follow. The judge's are kept (level 1). Memory for new weights is taken
    before they are sent, the cache's after."""
    rank, learner, notes = stage
    rank.train_step(learner, 3)
    assert notes == [
        "play",
        "policy sleeps at 2",
        "judge sleeps at 1",
        "learn",
        "policy wakes weights",
        "send 3",
        "policy wakes kv_cache",
        "judge wakes weights",
        "judge wakes kv_cache",
    ]


def test_weights_are_not_sent_to_servers_that_could_not_wake(stage: tuple[Rank, Any, list[str]]) -> None:
    rank, learner, notes = stage
    assert rank.director
    rank.director.served["policy"].fails_at = "weights"  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="policy-0 failed while it should wake its weights"):
        rank.train_step(learner, 3)
    assert notes[-1] == "policy wakes weights"


def test_split_servers_are_left_alone(stage: tuple[Rank, Any, list[str]]) -> None:
    rank, learner, notes = stage
    rank.colocated = False
    rank.train_step(learner, 3)
    assert notes == ["play", "learn", "send 3"]
