from __future__ import annotations

import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from orchestrator.records import ledger
from orchestrator.records.ledger import Ledger


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# 1 s before, 3 s of rollout of which 2 s are judging, 4 s of learning: rollout 1, judge 2, learn 4, other 1, step 8.
def test_nested_phases_count_once(tmp_path: Path) -> None:
    clock = Clock()
    begun: list[str] = []
    book = Ledger(tmp_path / "ledger.jsonl", gpus=3, on_phase=begun.append, clock=clock)
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
    assert rows["learn"] == {"step": 1, "phase": "learn", "seconds": 4, "gpu_seconds": 12}
    assert sum(row["seconds"] for row in rows.values()) == 8


def test_a_phase_twice_in_a_step_adds_up_and_the_next_step_starts_at_zero(tmp_path: Path) -> None:
    clock = Clock()
    book = Ledger(tmp_path / "ledger.jsonl", clock=clock)
    for seconds in (1, 2):
        with book.phase("rollout"):
            clock.now += seconds
    assert book.row(1)["time/rollout_s"] == 3
    with book.phase("learn"):
        clock.now += 5
    assert book.row(2) == {"time/learn_s": 5, "time/other_s": 0, "time/step_s": 5}


def test_a_phase_that_raises_is_counted_and_closed(tmp_path: Path) -> None:
    clock = Clock()
    book = Ledger(tmp_path / "ledger.jsonl", clock=clock)

    def broken() -> None:
        with book.phase("judge"):
            clock.now += 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    clock.now += 1
    assert book.row(1) == {"time/judge_s": 2, "time/other_s": 1, "time/step_s": 3}


def test_real_seconds(tmp_path: Path) -> None:
    book = Ledger(tmp_path / "ledger.jsonl")
    with book.phase("sync"):
        time.sleep(0.05)
    assert 0.05 <= book.row(1)["time/sync_s"] < 1
