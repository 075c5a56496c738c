"""What becomes of a request for another release: rolled in, refused, or cut short; who asked is told, and what serves goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cluster.preflight import Node
from orchestrator.config.compose import compose, to_values
from orchestrator.errors import ConfigError
from orchestrator.fleets.serving import service
from orchestrator.fleets.serving.access import Access
from orchestrator.fleets.serving.folder import READY, ServiceFolder, State
from orchestrator.fleets.serving.release import Release
from orchestrator.fleets.serving.rollout import RefusedError
from orchestrator.fleets.serving.service import Listening, hand_over, hint, upgrade
from orchestrator.records.folder import give_back, take

FIRST = Release(
    "toy", "first", "nowhere", "chat", "policy", to_values(compose("rlvr", ["rollout.fleet.cpus_per_server=1"])), (1, 1), False, {}
)  # fmt: skip


class Rollout:
    """In the place of one on Serve. says: what serving a release comes to, by its reference."""

    def __init__(self, says: Callable[[str], str | None]) -> None:
        self.release, self.tried = FIRST, list[str]()
        self._says = says

    def to(self, release: Release) -> str | None:
        self.tried.append(release.reference)
        proof = self._says(release.reference)
        if proof is not None:
            self.release = release
        return proof


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(service, "free_nodes", lambda: [Node("one", 1, 0)])
    found = ServiceFolder.of(tmp_path, "toy")
    assert take(found.path)
    found.write(State(READY, "http://127.0.0.1:8000", 1, "first", "chat"))
    yield found
    give_back(found.path)


def test_a_release_that_proves_itself_serves(folder: ServiceFolder) -> None:
    rollout = Rollout(lambda reference: f"proof of {reference}")
    upgrade(folder, rollout, "asked", asdict(replace(FIRST, reference="second")))
    state = folder.read()
    assert (state.status, state.serves, state.parity) == (READY, "second", "proof of second")
    assert (state.answered, state.reason) == ("asked", "")


def test_a_release_that_is_refused_is_answered_and_the_old_one_made_the_target_again(folder: ServiceFolder) -> None:
    def says(reference: str) -> str:
        if reference == "second":
            raise RefusedError("it differs by 1")
        return "proof"

    rollout = Rollout(says)
    upgrade(folder, rollout, "asked", asdict(replace(FIRST, reference="second")))
    state = folder.read()
    assert rollout.tried == ["second", "first"]
    assert (state.status, state.serves, state.answered) == (READY, "first", "asked")
    assert state.reason == "second was refused, first goes on: it differs by 1"


@pytest.mark.parametrize("failure", [TimeoutError("no answer"), KeyError("no such model")])
def test_whatever_goes_wrong_the_service_goes_on(failure: Exception, folder: ServiceFolder) -> None:
    def says(reference: str) -> str:
        raise failure

    upgrade(folder, Rollout(says), "asked", asdict(replace(FIRST, reference="second")))
    assert folder.read().status == READY
    assert repr(failure) in folder.read().reason


def test_a_release_of_another_version_of_this_program_is_refused(folder: ServiceFolder) -> None:
    rollout = Rollout(lambda reference: "proof")
    upgrade(folder, rollout, "asked", {"reference": "second"})
    assert rollout.tried == []
    assert "second was refused" in folder.read().reason


def test_without_room_serve_is_not_even_asked(folder: ServiceFolder) -> None:
    # One free CPU, and two replicas of one CPU each.
    rollout = Rollout(lambda reference: "proof")
    upgrade(folder, rollout, "asked", asdict(replace(FIRST, reference="second", replicas=(2, 2))))
    assert rollout.tried == []
    assert "no room" in folder.read().reason


def test_a_service_that_is_asked_to_end_meanwhile_does_not_call_it_done(folder: ServiceFolder) -> None:
    def says(reference: str) -> None:
        folder.stop.touch()

    rollout = Rollout(says)
    upgrade(folder, rollout, "asked", asdict(replace(FIRST, reference="second")))
    assert rollout.tried == ["second"]
    assert "asked to end" in folder.read().reason


def test_a_judge_does_not_take_the_place_of_a_policy(folder: ServiceFolder) -> None:
    with pytest.raises(ConfigError, match="give it a service of its own"):
        hand_over(folder, replace(FIRST, kind="judge"), print)
    assert folder.asked() is None


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000"),
        ("::", "http://[::1]:8000"), ("10.0.0.7", "http://10.0.0.7:8000"),
    ],
)  # fmt: skip
def test_the_line_to_try_it_with_reaches_it_from_here(host: str, url: str) -> None:
    line = hint(Listening(host, 8000, Access("digest", 1, 1, 1), "$(cat key)"), FIRST)
    assert line.startswith(f'curl {url}/v1/chat/completions -H "Authorization: Bearer $(cat key)"')
