"""A run's copy elsewhere: changed files only, never half a checkpoint, and a run that does not care."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from orchestrator.errors import ConfigError
from orchestrator.records import mirror
from orchestrator.records.folder import RunFolder, read_json, write_json
from orchestrator.records.mirror import LATEST, MANIFEST, Mirror, check_mirror, fetch


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "POLL_S", 0.01)
    monkeypatch.setattr(mirror, "WAITS_S", (0.01, 0.01))


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield f"file://{tmp_path}/far" if request.param == "file" else f"memory://{tmp_path.name}"
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/", recursive=True)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path / "runs", "rlvr", "first", {"steps": 3})
    folder.metrics_log.write_text('{"step": 1}\n')
    folder.stop.touch()
    return folder


def checkpoint(run: RunFolder, step: int, keep: int = 1) -> None:
    """As the learner writes one: under a hidden name, then its own, then LATEST, then the oldest goes."""
    folder = run.checkpoints / f"step-{step:06d}"
    hidden = run.checkpoints / f".{folder.name}.partial"
    (hidden / "hf").mkdir(parents=True)
    (hidden / "hf/model.safetensors").write_bytes(b"weights %d" % step)
    hidden.rename(folder)
    (run.checkpoints / "LATEST").write_text(folder.name)
    for old in sorted(run.checkpoints.glob("step-*"))[:-keep]:
        for path in (old / "hf/model.safetensors",):
            path.unlink()
        (old / "hf").rmdir()
        old.rmdir()


def copied(url: str) -> dict[str, bytes]:
    """path -> content of the copy."""
    system, root = fsspec.url_to_fs(f"{url}/rlvr/first")
    found = system.find(root) if system.exists(root) else []
    return {path.removeprefix(f"{root}/"): system.cat_file(path) for path in found}


def wait_for(url: str, name: str, content: bytes) -> None:
    """Looks at this file alone: what else is there comes and goes meanwhile."""
    system, root = fsspec.url_to_fs(f"{url}/rlvr/first")
    until = time.monotonic() + 60
    while not system.exists(f"{root}/{name}") or system.cat_file(f"{root}/{name}") != content:
        assert time.monotonic() < until, system.find(root)
        time.sleep(0.01)


def test_each_checkpoint_is_copied_and_the_oldest_goes(run: RunFolder, url: str) -> None:
    copy = Mirror(url, run)
    checkpoint(run, 4)
    wait_for(url, LATEST, b"step-000004")
    (run.checkpoints / ".step-000008.partial").mkdir()
    (run.checkpoints / ".step-000008.partial/half").write_text("")
    (run.checkpoints / ".step-000008.partial/half").unlink()
    (run.checkpoints / ".step-000008.partial").rmdir()
    checkpoint(run, 8)
    wait_for(url, LATEST, b"step-000008")
    write_json(run.summary, {"status": "finished"})
    copy.finish()
    there = copied(url)
    # What changed meanwhile, and neither the lock, the request to stop, nor what was removed here.
    assert there.keys() == {
        "config.yaml", "metrics.jsonl", "summary.json", LATEST, "checkpoints/step-000008/hf/model.safetensors", MANIFEST
    }  # fmt: skip
    assert there["checkpoints/step-000008/hf/model.safetensors"] == b"weights 8"
    assert "mirror" not in read_json(run.summary)


def test_only_what_changed_is_sent_again(run: RunFolder, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    put = mirror._put
    monkeypatch.setattr(
        mirror, "_put", lambda system, path, target: (sent.append(path.name), put(system, path, target))
    )
    checkpoint(run, 4)
    Mirror(url, run).finish()
    assert sorted(sent) == ["config.yaml", "metrics.jsonl", "model.safetensors"]
    sent.clear()
    again = Mirror(url, run)  # another driver, after a resume
    run.metrics_log.write_text('{"step": 1}\n{"step": 2}\n')
    again.finish()
    assert sent == ["metrics.jsonl"]


def test_half_a_copy_is_never_resumed(run: RunFolder, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that breaks in the middle of the second checkpoint leaves the first, whole and named."""
    checkpoint(run, 4, keep=2)
    Mirror(url, run).finish()
    put = mirror._put

    def broken(system: Any, path: Path, target: str) -> None:
        if path.name == "model.safetensors":
            raise OSError("the line is cut")
        put(system, path, target)

    monkeypatch.setattr(mirror, "_put", broken)
    checkpoint(run, 8, keep=1)
    write_json(run.summary, {"status": "finished"})
    copy = Mirror(url, run)
    copy.finish()
    there = copied(url)
    assert there[LATEST] == b"step-000004"
    assert there["checkpoints/step-000004/hf/model.safetensors"] == b"weights 4"
    # The run is none the worse, and says so.
    assert read_json(run.summary)["mirror"] == {"url": f"{url}/rlvr/first", "failure": "OSError: the line is cut"}
    monkeypatch.setattr(mirror, "_put", put)
    copy.finish()
    assert copy.failure is None
    assert copied(url)[LATEST] == b"step-000008"


def test_a_failure_that_passes_is_tried_again(run: RunFolder, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = 0
    send = Mirror._send

    def flaky(self: Mirror) -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:  # of three that WAITS_S allows
            raise ConnectionError("busy")
        send(self)

    monkeypatch.setattr(Mirror, "_send", flaky)
    copy = Mirror(url, run)
    copy.finish()
    assert (attempts, copy.failure) == (3, None)
    assert "config.yaml" in copied(url)


def test_a_checkpoint_that_goes_while_it_is_copied(run: RunFolder, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint(run, 4, keep=2)
    checkpoint(run, 8, keep=2)
    put = mirror._put

    def removed(system: Any, path: Path, target: str) -> None:
        if "step-000004" in str(path) and path.exists():
            path.unlink()
        put(system, path, target)

    monkeypatch.setattr(mirror, "_put", removed)
    copy = Mirror(url, run)
    copy.finish()
    assert copy.failure is None
    assert [name for name in copied(url) if "step-" in name] == ["checkpoints/step-000008/hf/model.safetensors"]


def test_it_comes_back(run: RunFolder, url: str, tmp_path: Path) -> None:
    checkpoint(run, 4)
    Mirror(url, run).finish()
    back = fetch(f"{url}/rlvr/first", tmp_path / "other")
    assert back == tmp_path / "other/rlvr/first"
    assert RunFolder.open(back).newest_checkpoint() == back / "checkpoints/step-000004"
    assert (back / "metrics.jsonl").read_text() == '{"step": 1}\n'
    with pytest.raises(ConfigError, match="is here already"):
        fetch(f"{url}/rlvr/first", tmp_path / "other")
    with pytest.raises(ConfigError, match="there is no mirrored run"):
        fetch(f"{url}/rlvr/second", tmp_path / "other")


def test_without_a_url_nothing_is_copied(run: RunFolder) -> None:
    copy = Mirror(None, run)
    copy.finish()
    assert copy.failure is None


def test_urls_that_cannot_be_used() -> None:
    check_mirror(None)
    check_mirror("memory://runs")
    with pytest.raises(ConfigError, match=r"mirror=folder: is no URL"):
        check_mirror("folder")
    with pytest.raises(ConfigError, match=r"mirror=nothing://x: cannot be used \(Protocol not known"):
        check_mirror("nothing://x")
