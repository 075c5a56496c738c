"""Processes in which a function of one's own runs, so that nothing it does can stop or break the run.

They are Ray actors without CPUs, on rank 0's own node. A call has a deadline; a process that misses it, or dies, is killed with
all that it has started, and replaced.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.config.functions import FunctionReference
from orchestrator.errors import RunError
from orchestrator.rollouts.functions import Outcome, Problem, Scorer
from orchestrator.values import Episode

START_DEADLINE_S = 300.0
"""Longest wait for a process, which imports what the function's file imports."""
GRACE_S = 2.0
"""How long a process may take to end on request."""
WATCH_S = 0.5
"""How long at a time is waited before it is looked whether the pool was closed."""


@dataclass(slots=True)
class _Process:
    """group: of the operating system's processes; 0 until it has started."""

    handle: Any
    group: int = 0

    def kill(self) -> None:
        """End it and all that it has started."""
        import ray

        ray.kill(self.handle)
        if self.group:
            # Of a process that ends in another way, Ray tells the user at length. One that was stopped needs the signal.
            due = time.monotonic() + GRACE_S
            with suppress(ProcessLookupError):
                while time.monotonic() < due:
                    os.kill(self.group, 0)
                    time.sleep(0.02)
            with suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)


@dataclass(slots=True)
class _Work:
    """What a process is at. job: its number; None while the process starts."""

    process: _Process
    job: int | None
    deadline: float


class Pool:
    """Processes that score tasks side by side. They start with the pool, beside whatever else a run begins with."""

    def __init__(self, function: FunctionReference, processes: int, deadline_s: float) -> None:
        self._function, self._processes, self._deadline_s = function, processes, deadline_s
        self._content = function.read()
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._working: dict[Any, _Work] = {}
        self._closed = False
        self._staff()

    def run(self, jobs: Sequence[Sequence[Episode]], may_be_lost: int) -> list[Outcome]:
        """One outcome a job (the episodes of one task), in their order.

        may_be_lost: episodes without a verdict; once there are more, the jobs that are left are not tried. Jobs of several threads
        come one after the other. Raises RunError where the function cannot be loaded.
        """
        with self._lock:
            outcomes: dict[int, Outcome] = {}
            waiting = deque(range(len(jobs)))
            while len(outcomes) < len(jobs):
                self._staff()
                while waiting and self._idle:
                    process, job = self._idle.pop(), waiting.popleft()
                    self._begin(process, process.handle.score.remote(jobs[job]), job, self._deadline_s)
                outcomes |= self._ended()
                lost = sum(len(jobs[job]) for job, found in outcomes.items() if isinstance(found, Problem))
                if waiting and lost > may_be_lost:
                    outcomes |= {job: Problem("not tried, too many had failed before it") for job in waiting}
                    waiting.clear()
            return [outcomes[job] for job in range(len(jobs))]

    def close(self) -> None:
        """End all processes. A `run` in another thread ends with a RunError."""
        self._closed = True
        for process in [*self._idle, *(work.process for work in list(self._working.values()))]:
            process.kill()

    def _staff(self) -> None:
        """Start what is missing of the processes."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        missing = self._processes - len(self._idle) - len(self._working)
        if not missing:
            return
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        scorer = ray.remote(num_cpus=0, max_restarts=0, max_task_retries=0, scheduling_strategy=here)(Scorer)
        for _ in range(missing):
            process = _Process(scorer.remote(self._function, self._content))
            self._begin(process, process.handle.start.remote(), None, START_DEADLINE_S)

    def _begin(self, process: _Process, reference: Any, job: int | None, deadline_s: float) -> None:
        self._working[reference] = _Work(process, job, time.monotonic() + deadline_s)

    def _ended(self) -> dict[int, Outcome]:
        """Wait a little for the processes. Returns the outcome of each job that has ended or missed its deadline."""
        import ray

        nearest = min(work.deadline for work in self._working.values()) - time.monotonic()
        ray.wait(list(self._working), num_returns=1, timeout=min(max(nearest, 0.0), WATCH_S))
        if self._closed:
            self.close()
            raise RunError(f"{self._function.shown} was still at work when the run ended.")
        ready, _ = ray.wait(list(self._working), num_returns=len(self._working), timeout=0)
        late = [reference for reference, work in self._working.items() if work.deadline <= time.monotonic()]
        outcomes: dict[int, Outcome] = {}
        for reference in dict.fromkeys([*ready, *late]):
            work = self._working.pop(reference)
            answer = _answer(reference) if reference in ready else Problem(self._too_late(work))
            if answer is None or reference not in ready:
                work.process.kill()
            else:
                self._idle.append(work.process)
            if isinstance(answer, int):
                work.process.group = answer
                continue
            problem = answer or Problem("its process died (a crash, os._exit, or not enough memory)")
            if work.job is None:
                told = problem.reason if isinstance(problem, Problem) else "it gave no answer"
                raise RunError(f"{self._function.shown} cannot be used in a process of its own: {told}")
            outcomes[work.job] = problem
        return outcomes

    def _too_late(self, work: _Work) -> str:
        if work.job is None:
            return f"it was not loaded within {START_DEADLINE_S:g} s"
        return f"it did not return within {self._deadline_s:g} s (reward.deadline_s)"


def _answer(reference: Any) -> int | Outcome | None:
    """What a process answered; None where it died instead."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        # Such as an exception whose own text cannot be made.
        return Problem(f"it broke its process' answer ({type(error.cause).__name__})", str(error))
    except RayError:
        return None
