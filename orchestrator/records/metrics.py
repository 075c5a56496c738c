"""The numbers of each step and the events on the way to the display.

One row a step: what was measured while step k trained and, where step k was evaluated, its evaluation too. Step 0 is
the evaluation of the starting policy. Rows after a restored checkpoint are dropped, so that a step is there once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.records import jsonl
from orchestrator.records.folder import FORMAT, atomic_path, atomic_write

Row = dict[str, float]
"""One step: {"step": k, metric name: value}."""

Follower = jsonl.Follower


class MetricsLog:
    """The writer of metrics.jsonl. Steps must increase; a run that starts again calls `drop_after` first."""

    def __init__(self, path: Path) -> None:
        self._log = jsonl.LineLog(path)
        rows = read(path)
        self.last_step = int(rows[-1]["step"]) if rows else -1

    def append(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add the row of a step.

        Raises ValueError for a step that is there already, TypeError for a value that is not a number (NaN is one).
        """
        if step <= self.last_step:
            raise ValueError(
                f"{self._log.path}: step {step} comes after step {self.last_step}; put all metrics of a step in one "
                f"row, or drop_after({step - 1}) where the run starts again from a checkpoint"
            )
        self._log.append({"step": step, **{name: _number(name, value) for name, value in metrics.items()}})
        self.last_step = step

    def drop_after(self, step: int) -> int:
        """Drop the rows after `step` (the restored one), all at once. Returns how many went."""
        rows = read(self._log.path)
        kept = [row for row in rows if row["step"] <= step]
        if len(kept) < len(rows):
            atomic_write(self._log.path, "".join(jsonl.encode(row) + "\n" for row in kept))
        self.last_step = int(kept[-1]["step"]) if kept else -1
        return len(rows) - len(kept)


def _number(name: str, value: object) -> float | int:
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"metric {name!r} is {value!r} ({type(value).__name__}): log a number, for tensors .item()")
    return int(value) if isinstance(value, int) else float(value)


def read(path: Path) -> list[Row]:
    """All rows of metrics.jsonl, without a half-written last one; [] where there is no file."""
    return jsonl.read(path)


def table(rows: Sequence[Mapping[str, float]]) -> pa.Table:
    """Rows as a table: `step` (int64), then every metric that any row has (double, by name).

    Null says that the step did not measure it (no evaluation), NaN that it did and the number was none.
    Raises TypeError for a value that is not a number.
    """
    names = sorted({name for row in rows for name in row} - {"step"})
    columns: dict[str, list[Any]] = {
        name: [_number(name, row[name]) if name in row else None for row in rows] for name in names
    }
    fields = [pa.field("step", pa.int64(), nullable=False), *(pa.field(name, pa.float64()) for name in names)]
    schema = pa.schema(fields, metadata={"orchestrator.format": str(FORMAT)})
    # from_pandas=False keeps NaN a number instead of turning it into null.
    arrays = [pa.array([int(row["step"]) for row in rows], pa.int64())]
    arrays += [pa.array(columns[name], pa.float64(), from_pandas=False) for name in names]
    return pa.Table.from_arrays(arrays, schema=schema)


def compact(log: Path, parquet: Path) -> pa.Table:
    """Write metrics.jsonl as Parquet, one row a step, and return the table. The log stays."""
    rows = table(read(log))
    with atomic_path(parquet) as temporary:
        pq.write_table(rows, temporary, compression="zstd")
    return rows


def series(rows: Sequence[Mapping[str, float]], name: str) -> tuple[list[int], list[float]]:
    """Steps and finite values of one metric."""
    points = [(int(row["step"]), row[name]) for row in rows if name in row and math.isfinite(row[name])]
    return [step for step, _ in points], [value for _, value in points]


class Events:
    """The writer of events.jsonl: what rank 0 wants shown. Read with `Follower(path).new()` and `Display.show`."""

    def __init__(self, path: Path) -> None:
        self._log = jsonl.LineLog(path)

    def announce(self, text: str, detail: str = "") -> None:
        """Say one line, such as "starting engines". detail: stays in the file and is not shown, such as a traceback."""
        kept = {"detail": detail} if detail else {}
        self._log.append({"time": time.time(), "kind": "announce", "text": text, **kept})

    def progress(self, task: str, done: int, total: int, note: str = "") -> None:
        """Say how far a long task is, such as ("teaching the judge", 50, 200, "loss 0.31")."""
        self._log.append(
            {"time": time.time(), "kind": "progress", "task": task, "done": done, "total": total, "note": note}
        )

    def step(self, step: int) -> None:
        """Say that the row of a step is there."""
        self._log.append({"time": time.time(), "kind": "step", "step": step})

    def phase(self, name: str) -> None:
        """Say which phase of a step begins; `Ledger` calls this."""
        self._log.append({"time": time.time(), "kind": "phase", "name": name})
