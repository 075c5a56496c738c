"""A run's end of a pool: what it asks for, and what makes a pool the same one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from orchestrator.config.schema import JudgeConfig, RunConfig
from orchestrator.fleets import pooled
from orchestrator.fleets.pool import pool_of
from orchestrator.fleets.pool_manager import PoolSpec
from orchestrator.fleets.pooled import PooledFleet
from orchestrator.learning.starting import WEIGHTS, StartingModel
from orchestrator.values import Answer, Call, Choice


class Remembering:
    """A lease that writes down the purposes."""

    def __init__(self, *arguments: Any) -> None:
        self.purposes: list[str] = []

    def ask(self, purpose: str, calls: Sequence[Call]) -> tuple[list[Answer], dict[str, float]]:
        self.purposes.append(purpose)
        return [Choice({"yes": 0.5})] * len(calls), {"asked": float(len(calls)), "verdict_hits": 1.0}


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> PooledFleet:
    monkeypatch.setattr(pooled, "Lease", Remembering)
    return PooledFleet(PoolSpec("k", "m", (), "verdicts"), "a test")


def test_each_thread_asks_for_its_own_purpose(fleet: PooledFleet) -> None:
    """An evaluation begins while a rollout that ran ahead is about to be judged: its verdicts stay the training's."""
    calls = [Call("k", "judge", (), choices=("yes",))]
    fleet.begin_step("train")
    beside = Thread(target=fleet.begin_step, args=("eval",))
    beside.start()
    beside.join()
    fleet.complete(calls)
    fleet.begin_step("exam")
    fleet.complete(calls)
    lease: Any = fleet._lease
    assert lease.purposes == ["train", "exam"]
    assert fleet.take_statistics() == {"asked": 2.0, "verdict_hits": 2.0}
    assert fleet.take_statistics() == {}


@pytest.fixture
def pool(tmp_path: Path) -> Callable[..., PoolSpec]:
    def pool(weights: bytes = b"w", folder: str = "judge", **settings: Any) -> PoolSpec:
        path = tmp_path / folder
        path.mkdir(exist_ok=True)
        (path / WEIGHTS).write_bytes(weights)
        config = RunConfig(storage=str(tmp_path / "runs"), judge=JudgeConfig(name=f"path:{path}", shared=True))
        for name, value in settings.items():
            target: Any = config.judge.model if hasattr(config.judge.model, name) else config.judge.fleet
            setattr(target, name, value)
        return pool_of(config, StartingModel("judge", str(path), True, None, False, served=False))

    return pool


def test_one_content_with_the_same_settings_is_one_pool_whatever_its_name(pool: Callable[..., PoolSpec]) -> None:
    """Servers of another number are another pool that knows the same verdicts; another context gives other verdicts."""
    spec = pool()
    assert (spec.role, spec.name) == ("judge", f"judge-pool-{spec.key}")
    assert [server.trained for server in spec.specs] == [True]
    other_name = pool(folder="other")
    assert (other_name.key, other_name.verdicts) == (spec.key, spec.verdicts)
    more = pool(servers=2)
    assert (more.key == spec.key, more.verdicts) == (False, spec.verdicts)
    assert len(more.specs) == 2
    for different in (pool(b"x", "third"), pool(dtype="bfloat16"), pool(context_tokens=64), pool(thinking=True)):
        assert different.key != spec.key
        assert different.verdicts != spec.verdicts
    assert replace(spec, specs=()) == replace(pool(), specs=())
