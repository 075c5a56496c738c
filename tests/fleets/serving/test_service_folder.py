"""The folder of a service: what is asked of its owner, and how it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.fleets.serving.folder import READY, ServiceFolder, State, services_in
from orchestrator.records.folder import give_back, take


def service(storage: Path) -> ServiceFolder:
    folder = ServiceFolder.of(storage, "rlvr")
    assert take(folder.path)
    folder.write(State(READY, "http://127.0.0.1:8000", 1, "run:rlvr/x@60", "equal", models=("rlvr", "rlvr:a-40")))
    return folder


def test_a_state_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = service(tmp_path)
    assert folder.read() == State(
        READY, "http://127.0.0.1:8000", 1, "run:rlvr/x@60", "equal", models=("rlvr", "rlvr:a-40")
    )
    assert [one.name for one in services_in(tmp_path)] == ["rlvr"]
    give_back(folder.path)


def test_an_owner_that_is_gone_is_told_apart_from_one_that_serves(tmp_path: Path) -> None:
    folder = service(tmp_path)
    assert folder.in_words()[1] == "ready"
    give_back(folder.path)
    assert folder.in_words()[1] == "broken off"


def test_each_request_has_a_name_of_its_own_and_the_last_one_counts(tmp_path: Path) -> None:
    folder = service(tmp_path)
    assert folder.asked() is None
    first, second = folder.ask({"model": "a"}), folder.ask({"model": "b"})
    assert first != second
    assert folder.asked() == (second, {"model": "b"})
    give_back(folder.path)


@pytest.mark.parametrize("name", ["a/b", "", "..", "a b"])
def test_a_name_that_is_no_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="letters, digits"):
        ServiceFolder.of(tmp_path, name)
