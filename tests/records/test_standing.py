from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.records.folder import RunFolder, write_json
from orchestrator.records.metrics import Events, MetricsLog
from orchestrator.records.standing import ask_to_stop, lines, standing


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder.create(tmp_path, "rlvr", "x", {"steps": 4})
    events, log = Events(folder.events), MetricsLog(folder.metrics_log)
    events.announce("starting Ray")
    events.phase("eval")
    log.append(0, {"eval/judge": 0.5, "eval/oracle": 0.25})
    events.step(0)
    events.phase("rollout")
    return folder


def test_a_run_that_goes_on_one_that_broke_off_and_one_that_ended(folder: RunFolder) -> None:
    told = standing(folder)
    assert (told.status, told.step, told.steps, told.score) == ("broken off", 0, 4, "0.500 (oracle 0.250)")
    folder.begin()
    told = standing(folder)
    assert (told.status, told.doing) == ("running", "rollout")
    assert told.since == "rollout, 0 s ago"
    folder.end()
    write_json(folder.summary, {"status": "failed", "reason": "the judge failed its exam"})
    told = standing(folder)
    assert (told.status, told.reason) == ("failed", "the judge failed its exam")


def test_stopping_asks_a_running_run_only(folder: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"is not running \(broken off\)"):
        ask_to_stop(folder)
    assert not folder.stop.exists()
    folder.begin()
    ask_to_stop(folder)
    assert folder.stop.exists()
    folder.end()


def test_the_log_is_what_was_said_and_every_step_in_order(folder: RunFolder) -> None:
    told = [line.split(" ", 2)[2] for line in lines(folder)]
    assert told == ["starting Ray", "step 0/4  eval 0.500 (oracle 0.250)"]


def test_following_ends_with_the_run(folder: RunFolder) -> None:
    folder.begin()

    def go_on() -> None:
        time.sleep(0.3)
        MetricsLog(folder.metrics_log).append(1, {"reward/mean": 0.1})
        Events(folder.events).step(1)
        folder.end()

    worker = threading.Thread(target=go_on)
    worker.start()
    told = list(lines(folder, follow=True))
    worker.join()
    assert told[-1].endswith("step 1/4  reward 0.100")
