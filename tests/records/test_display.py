from __future__ import annotations

import io
import logging
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.records.display import Display, duration, logger, step_line
from orchestrator.records.metrics import Events, Follower

ROW = {
    "step": 12,
    "reward/mean": 0.4119,
    "eval/judge": 0.55,
    "eval/oracle": 0.53,
    "eval/oracle_low": 0.49,
    "eval/oracle_high": 0.57,
    "policy/kl": 0.0123,
    "time/rollout_s": 1.1,
    "time/judge_s": 0.9,
    "time/learn_s": 0.7,
    "time/sync_s": 0.2,
    "time/eval_s": 0.0,
    "time/step_s": 2.9,
    "throughput/tokens_per_s": 1310.4,
}


# (0.57 - 0.49) / 2 = 0.04.
def test_the_plain_line_of_a_step() -> None:
    assert step_line(ROW, 60, 125.0) == (
        "step 12/60  reward 0.412  eval 0.550 (oracle 0.530 ± 0.040)  kl 0.0123  "
        "2.9 s (rollout 1.1 judge 0.9 learn 0.7 sync 0.2)  1,310 tok/s  ETA 2 min"
    )
    assert step_line({"step": 3}, 60) == "step 3/60"
    best = {"eval/best_of": 5, "eval/best_of_n_judge": 0.62}
    assert step_line({"step": 0} | best | {"eval/best_of_n": 0.58}, 60) == "step 0/60  best of 5 0.580"
    assert step_line({"step": 0} | best, 60) == "step 0/60  best of 5 0.620 (by the judge)"
    # Teaching precedes step 0, whose row holds its time.
    taught = {"step": 0, "time/teach_s": 95.0, "time/eval_s": 4.0, "time/step_s": 99.0}
    assert step_line(taught, 60) == "step 0/60  99.0 s (teach 95.0 eval 4.0)"
    assert step_line({"step": 0, "eval/judge": 0.5, "eval/oracle": 0.4}, 9) == "step 0/9  eval 0.500 (oracle 0.400)"


def test_durations_read_well() -> None:
    assert [duration(s) for s in (4.2, 59.4, 95, 3599, 3600, 7500)] == [
        "4 s", "59 s", "2 min", "1 h 0 min", "1 h 0 min", "2 h 5 min"
    ]  # fmt: skip


# Steps of 2 s and 4 s: 3 s each, 8 of 10 left. Step 0 (an evaluation) says nothing about the pace.
def test_the_eta_is_the_mean_pace_of_training_steps() -> None:
    display = Display("x", 10, terminal=False)
    assert display.eta_s is None
    display.step({"step": 0, "time/step_s": 50.0})
    assert display.eta_s is None
    display.step({"step": 1, "time/step_s": 2.0})
    display.step({"step": 2, "time/step_s": 4.0})
    assert display.eta_s == pytest.approx(24)
    display.step({"step": 10, "time/step_s": 3.0})
    assert display.eta_s is None


def test_plain_lines_and_rare_progress(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "orchestrator"), Display("rlvr/x", 60, terminal=False) as display:
        display.announce("starting engines")
        for done in range(1, 201):
            display.progress("teaching the judge", done, 200, f"loss {1 / done:.2f}")
        display.phase("rollout")
        display.step(ROW)
    assert [record.getMessage() for record in caplog.records] == [
        "starting engines",
        "teaching the judge: step 1/200 loss 1.00",
        "teaching the judge: step 200/200 loss 0.01",
        step_line(ROW, 60, 48 * 2.9),
    ]


def test_events_reach_the_display(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = Events(tmp_path / "events.jsonl")
    events.announce("starting engines")
    events.progress("teaching the judge", 200, 200, "loss 0.31")
    events.phase("learn")
    display = Display("x", 1, terminal=False)
    with caplog.at_level(logging.INFO, "orchestrator"):
        for event in Follower(tmp_path / "events.jsonl").new():
            assert event["time"] <= time.time()
            display.show(event)
    assert caplog.messages == ["starting engines", "teaching the judge: step 200/200 loss 0.31"]
    with pytest.raises(ValueError, match="unknown kind 'x'"):
        display.show({"kind": "x"})


def test_the_live_table_shows_the_numbers_and_ends_cleanly() -> None:
    before = list(logger.handlers), logger.propagate
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=40, color_system=None)

    def broken() -> None:
        with Display("rlvr/x", 60, terminal=True, console=console) as display:
            display.announce("starting engines")
            display.progress("teaching the judge", 50, 200, "loss 0.31")
            display.step(ROW | {"policy/entropy": 1.5, "sync/logprob_gap_max": 3e-6})
            # An evaluation is rare: it stays.
            display.step({"step": 13, "reward/mean": 0.5, "time/step_s": 3.0})
            display.phase("rollout")
            assert display._live is not None
            display._live.refresh()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    shown = screen.getvalue()
    for text in ("rlvr/x", "step 13/60", "0.550 (oracle 0.530 ± 0.040)", "3.0e-06 nats", "ETA 2 min", "now: rollout"):
        assert text in shown
    assert "teaching the judge 50/200" in shown
    assert shown.index("starting engines") < shown.index("step 13/60")
    assert "\x1b[?25l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert (list(logger.handlers), logger.propagate) == before


PROGRAM = """
import signal, time
# Whoever starts the tests in the background may have them ignore it.
signal.signal(signal.SIGINT, signal.default_int_handler)
from orchestrator.records.display import Display
with Display("rlvr/x", 60) as display:
    for step in range(1, 100):
        display.step({"step": step, "reward/mean": 0.5, "time/step_s": 1.0})
        display.announce(f"line {step}")
        time.sleep(0.05)
"""


# A real pseudo-terminal and a real Ctrl-C: the cursor (hidden by ?25l) is shown again (?25h) and Python ends as always.
def test_ctrl_c_on_a_terminal_gives_the_cursor_back() -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "30"}
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment
    )
    os.close(theirs)
    seen, deadline = b"", time.monotonic() + 60
    while b"line 3" not in seen and time.monotonic() < deadline:
        seen += os.read(ours, 4096)
    program.send_signal(signal.SIGINT)
    while time.monotonic() < deadline:
        try:
            chunk = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    _, errors = program.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors
    assert seen.rindex(b"\x1b[?25h") > seen.rindex(b"\x1b[?25l")


# The mean of five shares of 0.4 is above the bound of 0.2; five steps are needed to say so.
def test_an_alarm_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "orchestrator"), Display("x", 9, terminal=False) as display:
        for step in range(9):
            display.step({"step": step, "episodes/truncated_share": 0.4})
    (record,) = caplog.records
    assert record.getMessage().startswith("step 4: answers are cut off: 40% of the answers of the last 5 steps")
