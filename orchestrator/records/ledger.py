"""Where the time goes: seconds and GPU-seconds a phase of every step.

The phases are `PHASES`; what no phase covers is "other". A phase inside another one stops
the outer one's clock, so that the phases of a step add up to its duration. Time that a crash threw away stays in the
ledger: a repeated step has its rows twice, because it was paid for twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.records import jsonl
from orchestrator.records.folder import FORMAT, atomic_path

PHASES = ("teach", "rollout", "judge", "wait", "learn", "sync", "eval", "checkpoint")
"""What a run does, in this order. Teaching precedes step 0, whose row holds it. It waits for rollouts that run ahead."""
OTHER = "other"
_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("gpu_seconds", pa.float64(), nullable=False),
    ],
    metadata={"orchestrator.format": str(FORMAT)},
)


class Clock:
    """Seconds a phase of a thread whose phases follow each other."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's seconds to `name`."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - since


class Ledger:
    """Measures the phases of one process' main thread.

    path: ledger.jsonl. gpus: GPUs that the run holds all the while, learner and fleets together.
    on_phase: told the name of each phase that begins (`Events.phase`). clock: seconds, for tests.
    """

    def __init__(
        self,
        path: Path,
        gpus: float = 0,
        on_phase: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._log = jsonl.LineLog(path)
        self._gpus = gpus
        self._on_phase = on_phase
        self._clock = clock
        self._open: list[str] = []
        self._seconds: dict[str, float] = {}
        self._beside: dict[str, float] = {}
        self._since = self._step_start = clock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's seconds to `name`, also when it raises."""
        self._count()
        self._open.append(name)
        if self._on_phase:
            self._on_phase(name)
        try:
            yield
        finally:
            self._count()
            self._open.pop()

    def beside(self, name: str, seconds: float) -> None:
        """Count a phase that ran beside this thread's: it is on record, and takes nothing from the step."""
        self._beside[name] = self._beside.get(name, 0.0) + seconds

    def _count(self) -> None:
        """Give the time since the last look to the innermost open phase."""
        now = self._clock()
        phase = self._open[-1] if self._open else OTHER
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._since
        self._since = now

    def row(self, step: int) -> dict[str, float]:
        """Close the step: append a line a phase and return {"time/<phase>_s": seconds, …, "time/step_s": their sum}."""
        self._count()
        for phase, seconds in self._seconds.items():
            gpu_seconds = seconds * self._gpus
            self._log.append({"step": step, "phase": phase, "seconds": seconds, "gpu_seconds": gpu_seconds})
        for phase, seconds in self._beside.items():
            self._log.append({"step": step, "phase": f"{phase} (ahead)", "seconds": seconds, "gpu_seconds": 0.0})
        times = {f"time/{phase}_s": seconds for phase, seconds in (self._beside | self._seconds).items()}
        times["time/step_s"] = self._since - self._step_start
        self._seconds, self._beside, self._step_start = {}, {}, self._since
        return times


def read(path: Path) -> pa.Table:
    """The ledger.jsonl as a table: step, phase, seconds, gpu_seconds."""
    return pa.Table.from_pylist(jsonl.read(path), schema=_SCHEMA)


def compact(log: Path, parquet: Path) -> pa.Table:
    """Write ledger.jsonl as ledger.parquet and return the table. The log stays."""
    rows = read(log)
    with atomic_path(parquet) as temporary:
        pq.write_table(rows, temporary, compression="zstd")
    return rows
