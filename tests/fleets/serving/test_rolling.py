"""A service on real Serve without an engine: another release rolls in under streams, one that is broken does not."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.config.compose import compose, to_values
from orchestrator.errors import RunError
from orchestrator.fleets.serving.access import Access
from orchestrator.fleets.serving.folder import ENDED, FAILED, READY, ServiceFolder
from orchestrator.fleets.serving.release import Release
from orchestrator.fleets.serving.service import Listening, hand_over, own
from tests.fakes import serve_app

PORT = 8497
LISTENING = Listening("127.0.0.1", PORT, Access(None, 10_000, 100, 4))


def release_of(reference: str, storage: Path) -> Release:
    settings = to_values(compose("rlvr", [f"storage={storage}", "rollout.fleet.cpus_per_server=0.1"]))
    return Release("toy", reference, "nowhere", "chat", "policy", settings, (1, 1), False, {})


class Clients:
    """Threads that stream one after another, and what each stream held."""

    def __init__(self, count: int) -> None:
        self.streams: list[list[str]] = []
        self.failures: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._stream) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _stream(self) -> None:
        while not self._end.is_set():
            try:
                answer = httpx.get(f"http://127.0.0.1:{PORT}/stream", timeout=60)
                self.streams.append(answer.text.splitlines())
                if answer.status_code != 200:
                    self.failures.append(f"{answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as error:
                self.failures.append(repr(error))

    def close(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)


def wait_for(folder: ServiceFolder, status: str) -> None:
    deadline = time.monotonic() + 120
    while (state := folder.read()) is None or state.status != status:
        assert time.monotonic() < deadline, f"not {status}: {state}"
        time.sleep(0.1)


@pytest.mark.serving
def test_a_release_rolls_in_under_streams_and_a_broken_one_is_refused(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "orchestrator.fleets.serving.app", serve_app)
    folder = ServiceFolder.of(tmp_path, "toy")
    owner = threading.Thread(target=own, args=(folder, release_of("first", tmp_path), LISTENING))
    owner.start()
    wait_for(folder, READY)
    clients, told = Clients(4), []
    assert hand_over(folder, release_of("second", tmp_path), told.append)
    assert folder.read().serves == "second"
    assert not hand_over(folder, release_of("is broken", tmp_path), told.append)
    state = folder.read()
    # What served before does still, and the reason is the replica's own words.
    assert (state.status, state.serves) == (READY, "second")
    assert "bound 0.0001" in state.reason
    before = len(clients.streams)
    time.sleep(3)
    clients.close()
    folder.stop.touch()
    owner.join(60)
    assert clients.failures == []
    assert len(clients.streams) > before
    # Every stream came whole from one release: twenty numbered lines of the same name.
    for stream in clients.streams:
        names = {line.split(maxsplit=1)[1] for line in stream}
        assert [int(line.split()[0]) for line in stream] == list(range(serve_app.PIECES))
        assert len(names) == 1
    assert {line.split(maxsplit=1)[1] for stream in clients.streams for line in stream} == {"first", "second"}
    assert folder.read().status == ENDED
    assert not folder.is_owned()


@pytest.mark.serving
def test_a_first_release_that_is_broken_ends_the_service(
    ray_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "orchestrator.fleets.serving.app", serve_app)
    folder = ServiceFolder.of(tmp_path, "toy")
    with pytest.raises(RunError, match=r"trainer's -1\.5"):
        own(folder, release_of("is broken", tmp_path), LISTENING)
    assert folder.read().status == FAILED
    assert not folder.is_owned()
