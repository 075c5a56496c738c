"""The order of a colocated step: who sleeps, learns, sends and wakes when. Fleets and learner only take notes."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator import examining
from orchestrator.config.schema import RunConfig
from orchestrator.director import Director
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Fleet
from orchestrator.learning.starting import StartingModel
from orchestrator.loop import Rank
from orchestrator.records.folder import RunFolder, read_json, write_json

pytestmark = pytest.mark.usefixtures("one_rank")


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


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> tuple[Rank, Any, list[str]]:
    """A rank, a learner, and what happens."""
    notes: list[str] = []
    config = RunConfig()
    config.placement.name = "colocated"
    director = object.__new__(Director)
    director.config = config
    director.ledger = SimpleNamespace(phase=lambda name: nullcontext())  # type: ignore[assignment]
    director.fleets, director._ahead = {}, None
    for role in ("policy", "judge"):
        fleet = NotingFleet(role, [], 1, 1, 0)
        fleet.notes = notes
        director.fleets[role] = fleet
    monkeypatch.setattr(Director, "play", lambda self, step, split, refill: notes.append("play") or [])
    monkeypatch.setattr(Director, "batch", lambda self, step, logits: "batch")
    rank = Rank(config, SimpleNamespace(lessons=tuple), director)
    monkeypatch.setattr(rank, "_send", lambda engine, version: notes.append(f"send {version}"))
    learner = SimpleNamespace(update=lambda batch, version: notes.append("learn") or {}, engine=None)
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


def test_a_policy_that_gets_adapters_alone_keeps_the_weights_they_are_added_to(
    stage: tuple[Rank, Any, list[str]],
) -> None:
    rank, learner, notes = stage
    rank.config.sync.lora = "adapter"
    rank.train_step(learner, 3)
    assert notes[1] == "policy sleeps at 1"


def test_weights_are_not_sent_to_servers_that_could_not_wake(stage: tuple[Rank, Any, list[str]]) -> None:
    rank, learner, notes = stage
    assert rank.director
    rank.director.served["policy"].fails_at = "weights"  # type: ignore[attr-defined]
    with pytest.raises(RunError, match="policy-0 failed while it should wake its weights"):
        rank.train_step(learner, 3)
    assert notes[-3:] == ["policy wakes weights", "policy sleeps at 2", "judge sleeps at 1"]


def test_rollouts_run_ahead_only_when_every_fleet_has_its_weights_and_every_exam_is_passed(
    stage: tuple[Rank, Any, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Else the first episodes would be judged by a judge that was not taught yet."""
    rank, learner, notes = stage
    rank.colocated = False
    rank.lessons = {"judge": SimpleNamespace()}
    rank.transport.connect = lambda fleet: notes.append("connect")  # type: ignore[method-assign]
    monkeypatch.setattr(Director, "wait_for_fleets", lambda self: notes.append("wait"))
    monkeypatch.setattr(Director, "push", lambda self, role, version, buckets: notes.append(f"push {role}"))
    monkeypatch.setattr(examining, "examine", lambda director, lesson, stored, gated: notes.append("examine") or {})
    monkeypatch.setattr(Director, "synced", lambda self, version: notes.append(f"ahead of {version}"))
    judge = StartingModel("judge", str(tmp_path), has_weights=True, taught=str(tmp_path), to_teach=False)
    rank.prepare_fleets(learner, {"judge": judge}, frozenset({"judge"}), 2)
    assert notes == ["wait", "connect", "send 2", "push judge", "examine", "ahead of 2"]
    notes.clear()
    rank.train_step(learner, 3)
    assert notes == ["play", "learn", "send 3", "ahead of 3"]


def test_a_reward_model_gets_its_weights_and_its_held_out_report_is_its_exam(
    stage: tuple[Rank, Any, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The numbers of the report are those of the run's row and stand in its folder; a missed gate names the setting that lifts it."""
    rank, _, notes = stage
    assert rank.director is not None
    rank.director.folder = RunFolder(tmp_path / "run")
    rank.director.folder.path.mkdir()
    lesson = SimpleNamespace(role="content", kind="preference", gate={"accuracy": 0.75})
    rank.lessons = {"content": lesson}
    monkeypatch.setattr(Director, "push", lambda self, role, version, buckets: notes.append(f"push {role} {version}"))
    write_json(tmp_path / "held_out.json", {"accuracy": 0.75, "reward_mean": 1.5})
    content = StartingModel("content", str(tmp_path), has_weights=True, taught=str(tmp_path), to_teach=False)
    found = examining.examine_taught(rank, {"content": content}, frozenset({"content"}))
    assert notes == ["push content 1"]
    assert found == {"content/accuracy": 0.75, "content/reward_mean": 1.5}
    assert read_json(rank.director.folder.exam("content"))["gate"] == {"accuracy": 0.75}
    lesson.gate = {"accuracy": 0.8}
    with pytest.raises(RunError, match=r"the content failed its exam.*accuracy is 0.750.*content\.gate_accuracy=0"):
        examining.examine_taught(rank, {"content": content}, frozenset())


def test_split_servers_are_left_alone(stage: tuple[Rank, Any, list[str]]) -> None:
    rank, learner, notes = stage
    rank.colocated = False
    rank.train_step(learner, 3)
    assert notes == ["play", "learn", "send 3"]
