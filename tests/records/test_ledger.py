from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.cluster.plan import Bundle, Plan
from orchestrator.records import ledger
from orchestrator.records.ledger import Ledger

PLAN = Plan(
    (
        Bundle("learner", 2, 1, 1, ""),
        Bundle("policy", 1, 0.5, 1, ""),
        Bundle("judge", 1, 4, 1, "", shared=True),
    )
)
"""Holds 2.5 CPUs and 3 GPUs; the judge's pool is nobody's."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# 1 s before, 3 s of rollout of which 2 s are judging, 4 s of learning: rollout 1, judge 2, learn 4, other 1, step 8.
def test_nested_phases_count_once(tmp_path: Path) -> None:
    clock = Clock()
    begun: list[str] = []
    book = Ledger(tmp_path / "ledger.jsonl", PLAN, on_phase=begun.append, clock=clock)
    clock.now += 1
    with book.phase("rollout"):
        clock.now += 0.5
        with book.phase("judge"):
            clock.now += 2
        clock.now += 0.5
    with book.phase("learn"):
        clock.now += 4
    times = book.row(1)
    assert times == {
        "time/rollout_s": 1, "time/judge_s": 2, "time/learn_s": 4, "time/other_s": 1, "time/step_s": 8
    }  # fmt: skip
    assert begun == ["rollout", "judge", "learn"]
    ledger.compact(tmp_path / "ledger.jsonl", tmp_path / "ledger.parquet")
    table = pq.read_table(tmp_path / "ledger.parquet")
    rows = {row["phase"]: row for row in table.to_pylist()}
    # 4 s x 2.5 CPUs and 3 GPUs are held, 4 s x 2 CPUs and 2 GPUs of the learner busy.
    assert rows["learn"] == {
        "step": 1, "phase": "learn", "seconds": 4,
        "gpu_seconds": 12, "cpu_seconds": 10, "busy_gpu_seconds": 8, "busy_cpu_seconds": 8,
    }  # fmt: skip
    assert (rows["rollout"]["busy_gpu_seconds"], rows["judge"]["busy_gpu_seconds"]) == (1, 0)
    assert sum(row["seconds"] for row in rows.values()) == 8


def test_a_phase_twice_in_a_step_adds_up_and_the_next_step_starts_at_zero(tmp_path: Path) -> None:
    clock = Clock()
    book = Ledger(tmp_path / "ledger.jsonl", PLAN, clock=clock)
    for seconds in (1, 2):
        with book.phase("rollout"):
            clock.now += seconds
    assert book.row(1)["time/rollout_s"] == 3
    with book.phase("learn"):
        clock.now += 5
    assert book.row(2) == {"time/learn_s": 5, "time/other_s": 0, "time/step_s": 5}


def test_a_phase_that_raises_is_counted_and_closed(tmp_path: Path) -> None:
    clock = Clock()
    book = Ledger(tmp_path / "ledger.jsonl", PLAN, clock=clock)

    def broken() -> None:
        with book.phase("judge"):
            clock.now += 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    clock.now += 1
    assert book.row(1) == {"time/judge_s": 2, "time/other_s": 1, "time/step_s": 3}


def test_real_seconds(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.jsonl", PLAN)
    with book.phase("sync"):
        time.sleep(0.05)
    assert 0.05 <= book.row(1)["time/sync_s"] < 1


# Taken 50 s before: the first row holds them as its start, and they are held and idle.
def test_the_time_until_the_first_phase_is_on_record(tmp_path: Path) -> None:
    clock = Clock()
    book = Ledger(tmp_path / "ledger.jsonl", PLAN, time.time() - 50, clock=clock)
    clock.now += 2
    times = book.row(0)
    assert times["time/start_s"] == pytest.approx(50, abs=0.5)
    assert times["time/step_s"] == pytest.approx(52, abs=0.5)
    start = ledger.read(tmp_path / "ledger.jsonl").to_pylist()[0]
    assert (start["phase"], start["busy_gpu_seconds"]) == ("start", 0)
    assert start["gpu_seconds"] == pytest.approx(150, abs=2)
    # A learner that was lost and is started again counts from the last row on, not from the beginning once more.
    again = Ledger(tmp_path / "ledger.jsonl", PLAN, time.time() - 50, clock=clock)
    assert again.row(0)["time/start_s"] < 5


# A colocated server works with the learner's GPUs: in a rollout both of them are busy.
def test_colocated_servers_use_what_the_learner_holds(tmp_path: Path) -> None:
    plan = Plan((Bundle("learner", 2, 1, 1, ""), Bundle("policy", 2, 0, 0, "", colocated=True)))
    assert plan.at_work(["policy"]) == plan.at_work(["policy", "learner"]) == (2, 2)
    assert plan.at_work([]) == (0, 0)
