from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from orchestrator.records import metrics
from orchestrator.records.metrics import Follower, MetricsLog


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(0, {"eval/judge": 0.4})
    log.append(1, {"reward/mean": np.float32(0.5), "policy/kl": math.nan, "tokens/generated": 12})
    rows = metrics.read(tmp_path / "metrics.jsonl")
    assert rows[0] == {"step": 0, "eval/judge": 0.4}
    assert rows[1]["reward/mean"] == 0.5
    assert math.isnan(rows[1]["policy/kl"])
    assert metrics.read(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("value", ["0.5", None, True, [1.0], np.array([1.0])])
def test_what_is_no_number_is_refused_by_name(tmp_path: Path, value: object) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    with pytest.raises(TypeError, match="'reward/mean'"):
        log.append(1, {"reward/mean": value})  # type: ignore[dict-item]
    assert metrics.read(tmp_path / "metrics.jsonl") == []


def test_a_half_written_last_line_is_left_out_then_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsLog(path).append(1, {"a": 1.0})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "a"')
    assert [row["step"] for row in metrics.read(path)] == [1]
    log = MetricsLog(path)
    assert log.last_step == 1
    log.append(2, {"a": 2.0})
    assert [row["a"] for row in metrics.read(path)] == [1.0, 2.0]


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is damaged"):
        metrics.read(path)


def test_a_step_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(5):
        log.append(step, {"a": step})
    with pytest.raises(ValueError, match=r"drop_after\(3\)"):
        MetricsLog(path).append(4, {"a": 9})
    restarted = MetricsLog(path)
    assert restarted.drop_after(2) == 2
    restarted.append(3, {"a": 30})
    assert [row["a"] for row in metrics.read(path)] == [0, 1, 2, 30]


# Null where a step has no such metric, NaN where it has and the number is none.
def test_parquet_has_one_row_a_step_and_all_columns(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(0, {"eval/judge": 0.4})
    log.append(1, {"reward/mean": 0.5, "policy/kl": math.nan})
    log.append(2, {"reward/mean": 0.6, "eval/judge": 0.5, "policy/kl": math.inf})
    metrics.compact(tmp_path / "metrics.jsonl", tmp_path / "metrics.parquet")
    table = pq.read_table(tmp_path / "metrics.parquet")
    assert table.column_names == ["step", "eval/judge", "policy/kl", "reward/mean"]
    assert table["eval/judge"].to_pylist() == [0.4, None, 0.5]
    kl = table["policy/kl"].to_pylist()
    assert kl[0] is None
    assert math.isnan(kl[1])
    assert kl[2] == math.inf
    assert table.schema.metadata[b"orchestrator.format"] == b"1"


def test_a_log_that_holds_text_is_not_compacted(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "a": "good"}\n')
    with pytest.raises(TypeError, match="'a'"):
        metrics.compact(tmp_path / "metrics.jsonl", tmp_path / "metrics.parquet")
    assert not (tmp_path / "metrics.parquet").exists()


def test_a_follower_gives_each_row_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = Follower(path)
    assert follower.new() == []
    log = MetricsLog(path)
    log.append(1, {"a": 1})
    assert [row["step"] for row in follower.new()] == [1]
    with path.open("ab") as file:
        file.write(b'{"step": 2,')
    assert follower.new() == []
    with path.open("ab") as file:
        file.write(b' "a": 2}\n{"step": 3, "a": 3}\n')
    assert [row["step"] for row in follower.new()] == [2, 3]
    assert follower.new() == []
    late = Follower(path, follower.offset)
    log.last_step = 3
    log.append(4, {"a": 4})
    assert [row["step"] for row in late.new()] == [4]


# Steps 1–4 are seen; a restart drops 3 and 4, writes 3 again (other numbers) and goes on past the old length.
def test_a_follower_survives_a_restart_from_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(1, 5):
        log.append(step, {"a": step})
    follower = Follower(path)
    from_middle = Follower(path, path.read_bytes().index(b'{"step": 4'))
    assert len(follower.new()) == 4
    log.drop_after(2)
    for step in range(3, 8):
        log.append(step, {"a": 10 * step})
    assert [row["a"] for row in follower.new()] == [30, 40, 50, 60, 70]
    assert [row["a"] for row in from_middle.new()] == [30, 40, 50, 60, 70]
    log.append(8, {"a": 80})
    assert [row["a"] for row in follower.new()] == [80]
