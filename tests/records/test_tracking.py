from __future__ import annotations

import logging
import os
import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from made_up_run import make_group

from orchestrator.config.schema import RunConfig, TrackingConfig
from orchestrator.records import episodes, samples
from orchestrator.records.folder import RunFolder, read_json
from orchestrator.records.tracking import Tracker, resolve_mode
from orchestrator.values import Group


class Sink:
    """Remembers what it is sent; fails from call number `fails_at` on."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.artifacts: list[Any] = []
        self.finished = 0
        self.fails_at = fails_at

    def log(self, data: dict[str, Any], step: int) -> None:
        if len(self.sent) >= self.fails_at:
            raise ConnectionError("no answer")
        self.sent.append((step, data))

    def log_artifact(self, artifact: Any) -> None:
        assert not self.finished
        self.artifacts.append(artifact)

    def finish(self) -> None:
        self.finished += 1


def made(tmp_path: Path, mode: str = "offline", upload: bool = False) -> tuple[RunConfig, RunFolder]:
    config = RunConfig(workload="rlvr", tracking=TrackingConfig(mode=mode, upload_checkpoint=upload))
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


# 70 held-out answers in step 2, of which 64 are sent; another split's and another step's are not.
def test_an_evaluation_comes_with_some_of_its_episodes(tmp_path: Path) -> None:
    config, folder = made(tmp_path)
    sink = Sink()
    for step, split in ((1, "eval"), (2, "eval"), (2, "train")):
        groups = [make_group(step, f"t{number}", [0.25, 0.5]) for number in range(35)]
        episodes.write_step(folder, step, groups, {}, split)
    tracker = Tracker(config, folder, connect=lambda *_: sink)
    tracker.log(1, {"reward/mean": 0.5})
    tracker.log(2, {"reward/mean": 0.5, "eval/judge": 0.4})
    assert sink.sent[0] == (1, {"reward/mean": 0.5})
    table = sink.sent[1][1]["eval/episodes"]
    assert len(table.data) == 64
    first = dict(zip(table.columns, table.data[0], strict=True))
    assert (first["prompt"], first["completion"], first["verdicts"]) == ("dilemma t0", "answer 0 é", "0.90 c0\n0.10 c1")


def test_restricted_episodes_are_sent_redacted(tmp_path: Path) -> None:
    config, folder = made(tmp_path)
    sink = Sink()
    group = make_group(2, "t", [0.25])
    secret = Group(tuple(replace(e, task=replace(e.task, restricted=True)) for e in group.episodes), group.verdicts)
    episodes.write_step(folder, 2, [secret], {}, "eval")
    Tracker(config, folder, connect=lambda *_: sink).log(2, {"eval/judge": 0.4})
    ((*_, prompt, completion, reward, _, _, _),) = sink.sent[0][1]["eval/episodes"].data
    assert prompt == f"{samples.REDACTED} (9 characters)"
    assert completion == f"{samples.REDACTED} (10 characters)"
    assert reward == 0.25


# 5 bytes of weights: by default only their place goes to W&B, else the file itself with its size.
@pytest.mark.parametrize("upload", [False, True])
def test_the_last_checkpoint_is_an_artifact(tmp_path: Path, upload: bool) -> None:
    config, folder = made(tmp_path, upload=upload)
    weights = folder.checkpoints / "step-000008" / "hf" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"12345")
    (folder.checkpoints / "LATEST").write_text("step-000008")
    sink = Sink()
    tracker = Tracker(config, folder, "run7", connect=lambda *_: sink)
    tracker.finish()
    tracker.finish()
    (artifact,) = sink.artifacts
    assert (artifact.name, artifact.type, artifact.metadata) == ("rlvr-run7", "model", {"step": 8})
    entries = artifact.manifest.entries
    if upload:
        assert (list(entries), entries["model.safetensors"].size) == (["model.safetensors"], 5)
    else:
        assert [entry.ref for entry in entries.values()] == [weights.resolve().as_uri()]
    assert sink.finished == 1


# A real checkpoint is not sent within a minute: where it is uploaded there is no end to the wait (0).
@pytest.mark.parametrize(("upload", "seconds"), [(False, 60), (True, 0)])
def test_an_upload_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upload: bool, seconds: float) -> None:
    opened: list[dict[str, Any]] = []
    monkeypatch.setattr("wandb.init", lambda **asked: opened.append(asked) or Sink())
    Tracker(*made(tmp_path, upload=upload))
    assert opened[0]["settings"].finish_timeout == seconds


def test_an_upload_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config, folder = made(tmp_path, "online", upload=True)
    (folder.checkpoints / "step-000008" / "hf").mkdir(parents=True)
    (folder.checkpoints / "LATEST").write_text("step-000008")
    with caplog.at_level(logging.INFO, "orchestrator"):
        Tracker(config, folder, connect=lambda *_: Sink()).finish()
    assert "uploading step-000008 to W&B" in caplog.text


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
