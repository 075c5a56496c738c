from __future__ import annotations

import logging
import os
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import RunConfig, TrackingConfig
from orchestrator.records.folder import RunFolder, read_json
from orchestrator.records.tracking import Tracker, resolve_mode


class Sink:
    """Remembers what it is sent; fails from call number `fails_at` on."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.finished = 0
        self.fails_at = fails_at

    def log(self, data: dict[str, Any], step: int) -> None:
        if len(self.sent) >= self.fails_at:
            raise ConnectionError("no answer")
        self.sent.append((step, data))

    def finish(self) -> None:
        self.finished += 1


def made(tmp_path: Path, mode: str = "offline") -> tuple[RunConfig, RunFolder]:
    config = RunConfig(workload="rlvr", tracking=TrackingConfig(mode=mode))
    return config, RunFolder.create(tmp_path, "rlvr", "a", config)


def test_no_step_is_sent_twice_over_restarts(tmp_path: Path) -> None:
    config, folder = made(tmp_path)
    sink, ids = Sink(), []
    # The second tracker starts from a checkpoint at step 2 and meets steps 3 and 4 again.
    for steps in (range(5), range(3, 8)):
        tracker = Tracker(config, folder, connect=lambda *_: sink)
        ids.append(tracker.run_id)
        for step in steps:
            tracker.log(step, {"step": step, "reward/mean": step / 10})
        tracker.log(steps[-1], {"reward/mean": 9.0})
        tracker.finish()
        tracker.finish()
    assert [step for step, _ in sink.sent] == list(range(8))
    assert sink.sent[7][1] == {"reward/mean": 0.7}
    assert ids[0] == ids[1]
    assert sink.finished == 2


def test_another_id_starts_from_the_first_step(tmp_path: Path) -> None:
    config, folder = made(tmp_path)
    sink = Sink()
    Tracker(config, folder, connect=lambda *_: sink).log(3, {})
    other = Tracker(config, folder, "fork1", connect=lambda *_: sink)
    other.log(3, {})
    assert other.run_id == "fork1"
    assert [step for step, _ in sink.sent] == [3, 3]


def test_a_failure_is_one_warning_and_the_run_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, folder = made(tmp_path)
    sink = Sink(fails_at=2)
    tracker = Tracker(config, folder, connect=lambda *_: sink)
    with caplog.at_level(logging.WARNING, "orchestrator"):
        for step in range(6):
            tracker.log(step, {"a": 1.0})
        tracker.finish()
    assert len(sink.sent) == 2
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "logging to W&B failed (ConnectionError: no answer)"
    ]


def test_a_connection_that_fails_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config, folder = made(tmp_path)

    def connect(*_: object) -> Sink:
        raise OSError("disk full")

    with caplog.at_level(logging.WARNING, "orchestrator"):
        tracker = Tracker(config, folder, connect=connect)
        tracker.log(1, {"a": 1.0})
        tracker.finish()
    assert len(caplog.records) == 1
    assert "starting W&B failed (OSError: disk full)" in caplog.text


def test_the_mode_follows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert [resolve_mode(mode) for mode in ("auto", "online", "disabled")] == ["offline", "online", "disabled"]
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert [resolve_mode(mode) for mode in ("auto", "offline")] == ["online", "offline"]


def test_disabled_leaves_no_trace(tmp_path: Path) -> None:
    config, folder = made(tmp_path, "disabled")
    tracker = Tracker(config, folder)
    tracker.log(1, {"a": 1.0})
    tracker.finish()
    assert not folder.tracking.exists()
    assert not folder.wandb.exists()


def test_wandb_itself_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setenv("WANDB_API_KEY", secret)
    # Any attempt to reach a server would go to a port where nobody listens, and would say so.
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    config, folder = made(tmp_path)
    working = set(os.listdir())
    for steps in (range(3), range(1, 5)):
        tracker = Tracker(config, folder)
        for step in steps:
            tracker.log(step, {"reward/mean": float("nan") if step == 2 else step / 10})
        tracker.finish()
        time.sleep(1.1)  # W&B names a segment by the second
    assert capfd.readouterr() == ("", "")
    assert set(os.listdir()) == working
    known = read_json(folder.tracking)
    assert known["last_step"] == 4
    segments = sorted(folder.wandb.glob("offline-run-*"))
    records = sorted(folder.wandb.glob(f"offline-run-*/run-{known['id']}.wandb"))
    assert len(segments) == len(records) == 2
    assert logged_steps(records[0]) | logged_steps(records[1]) == {0, 1, 2, 3, 4}
    assert not logged_steps(records[0]) & logged_steps(records[1])
    for path in folder.path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def logged_steps(path: Path) -> set[int]:
    """The steps in a W&B record file: a LevelDB log (blocks of 32 KiB; crc, length, type before each chunk)."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, whole, steps = path.read_bytes(), 7, b"", set()
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        whole += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last chunk of one
            record = Record()
            record.ParseFromString(whole)
            if record.HasField("history"):
                steps.add(record.history.step.num)
            whole = b""
    return steps
