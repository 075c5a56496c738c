"""When a trial gives its slot back, and how it clears what cannot be gone on with."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from orchestrator.config.compose import compose, to_values
from orchestrator.config.schema import RunConfig
from orchestrator.errors import RunError
from orchestrator.records.folder import RunFolder, give_back, is_taken, take
from orchestrator.sweep import trial
from orchestrator.sweep.trial import Trial, Work, clear


def ending(slot: Path, thread: threading.Thread | None = None) -> Trial:
    """A trial that has a slot, as Tune is about to clean it up."""
    made = Trial.__new__(Trial)
    made._slot, made._thread = slot, thread
    made._folder = RunFolder(slot / "none")
    assert take(slot)
    return made


def test_the_slot_is_kept_while_processes_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living = ["ServerActor"]
    monkeypatch.setattr(trial, "children", lambda: living)
    monkeypatch.setattr(trial, "STOP_DEADLINE_S", 0.2)
    ending(tmp_path / "0").cleanup()
    assert is_taken(tmp_path / "0")
    living.clear()
    ending(tmp_path / "1").cleanup()
    assert not is_taken(tmp_path / "1")
    give_back(tmp_path / "0")


def test_the_slot_is_kept_while_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "children", list)
    monkeypatch.setattr(trial, "STOP_DEADLINE_S", 0.2)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, args=(30,), daemon=True)
    thread.start()
    ending(tmp_path, thread).cleanup()
    assert is_taken(tmp_path)
    stop.set()
    thread.join()
    give_back(tmp_path)


def test_no_file_of_a_run_is_open_while_it_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path, "rlvr", "a", {"steps": 4})
    open_then: list[bool] = []
    remove = shutil.rmtree

    def rmtree(path: Path) -> None:
        open_then.append(is_taken(path))
        remove(path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    folder.begin()
    with pytest.raises(RunError, match="being run by another process"):
        clear(folder)
    folder.end()
    clear(folder)
    assert open_then == [False]
    assert not folder.path.exists()


@pytest.mark.parametrize(("workload", "kept"), [("social_r1.benchmarks", True), ("rlvr", False)])
def test_an_evaluation_goes_on_with_its_answers_and_what_has_no_checkpoint_begins_anew(
    tmp_path: Path, workload: str, kept: bool
) -> None:
    values = to_values(compose(workload, [f"storage={tmp_path}", "model=http://localhost:1/v1"] if kept else []))
    folder = RunFolder.create(tmp_path, workload, "a", values)
    begun: list[RunFolder | None] = []

    def body(config: RunConfig, checkpoint: Path | None, run: RunFolder | None) -> int:
        begun.append(run)
        return 0

    folder.answers.write_text("")
    made = Trial.__new__(Trial)
    made._slots, made._stop, made._pins = [tmp_path / "slot"], tmp_path / "STOP", False
    made._work = Work("", 0, {}, "key", values, str(folder.path))
    made._body = body
    assert made._begin()
    assert made._thread is not None
    made._thread.join()
    assert [run and run.path for run in begun] == [folder.path if kept else None]
    assert folder.answers.is_file() == kept
    give_back(tmp_path / "slot")
