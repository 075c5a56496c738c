"""Where the time goes: seconds, and CPU- and GPU-seconds that the run held and used, a phase of every step.

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

from orchestrator.cluster.plan import LEARNER, RATERS, Plan
from orchestrator.records import jsonl
from orchestrator.records.folder import FORMAT, atomic_path
from orchestrator.values import POLICY

PHASES = ("start", "teach", "rollout", "judge", "wait", "learn", "sync", "eval", "checkpoint")
"""What a run does, in this order. Starting its processes and teaching precede step 0, whose row holds them. It waits for rollouts
that run ahead."""
AT_WORK = {
    "teach": (LEARNER,), "rollout": (POLICY,), "judge": (RATERS,), "learn": (LEARNER,), "sync": (LEARNER, POLICY),
    "eval": (POLICY, RATERS), "checkpoint": (LEARNER,),
}  # fmt: skip
"""Whose CPUs and GPUs are busy in a phase; those of all others are held and idle. In an evaluation policy and raters take turns, so
their share there is an upper bound, as is that of several raters anywhere."""
AHEAD = " (ahead)"
"""Ends the name of a phase that ran beside the learner's."""
OTHER = "other"
_SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),
        pa.field("phase", pa.string(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("gpu_seconds", pa.float64(), nullable=False),
        # Absent from ledgers of before.
        pa.field("cpu_seconds", pa.float64()),
        pa.field("busy_gpu_seconds", pa.float64()),
        pa.field("busy_cpu_seconds", pa.float64()),
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

    path: ledger.jsonl. plan: what the run holds all the while. began: when it took that, in seconds since the epoch; by default
    now. on_phase: told the name of each phase that begins (`Events.phase`). clock: seconds, for tests.
    """

    def __init__(
        self,
        path: Path,
        plan: Plan,
        began: float | None = None,
        on_phase: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        # Where a learner was lost and started again, what was counted before is in the log.
        counted = path.stat().st_mtime if path.is_file() else 0.0
        self._log = jsonl.LineLog(path)
        self._plan = plan.without(plan.shared)
        self._on_phase = on_phase
        self._clock = clock
        self._open: list[str] = []
        self._seconds: dict[str, float] = {}
        self._beside: dict[str, float] = {}
        self._since = clock()
        self._step_start = self._since
        if began is not None:
            self._seconds["start"] = max(0.0, time.time() - max(began, counted))
            self._step_start -= self._seconds["start"]

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
            self._append(step, phase, seconds, (self._plan.cpus, self._plan.gpus), phase)
        for phase, seconds in self._beside.items():
            self._append(step, f"{phase}{AHEAD}", seconds, (0.0, 0.0), phase)
        times = {f"time/{phase}_s": seconds for phase, seconds in (self._beside | self._seconds).items()}
        times["time/step_s"] = self._since - self._step_start
        self._seconds, self._beside, self._step_start = {}, {}, self._since
        return times

    def _append(self, step: int, name: str, seconds: float, held: tuple[float, float], phase: str) -> None:
        """held: CPUs and GPUs. What ran ahead used what the step's own phases are charged with holding."""
        cpus, gpus = self._plan.at_work(AT_WORK.get(phase, ()))
        self._log.append(
            {
                "step": step, "phase": name, "seconds": seconds,
                "gpu_seconds": seconds * held[1], "cpu_seconds": seconds * held[0],
                "busy_gpu_seconds": seconds * gpus, "busy_cpu_seconds": seconds * cpus,
            }
        )  # fmt: skip


def read(path: Path) -> pa.Table:
    """The ledger.jsonl as a table: step, phase, seconds, and CPU- and GPU-seconds that were held and that were busy."""
    return pa.Table.from_pylist(jsonl.read(path), schema=_SCHEMA)


def compact(log: Path, parquet: Path) -> pa.Table:
    """Write ledger.jsonl as ledger.parquet and return the table. The log stays."""
    rows = read(log)
    with atomic_path(parquet) as temporary:
        pq.write_table(rows, temporary, compression="zstd")
    return rows
