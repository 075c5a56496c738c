"""Rollouts that run ahead of the learner by a bounded number of weight versions.

A step's tasks and seeds are fixed by its number; running ahead changes only how old the weights are that answer. Nothing is kept
of what was played ahead when a run ends: a resumed run plays those steps again, each exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Plays steps in their order, in a thread. Step s begins when weights of version s - 1 - max_staleness are there.

    play: step -> what was played. steps: the run's last step.
    """

    def __init__(self, play: Callable[[int], T], max_staleness: int, steps: int) -> None:
        self._play, self._max_staleness, self._steps = play, max_staleness, steps
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollouts")
        self._begun: dict[int, Future[T]] = {}
        self._next = 0

    def allow(self, version: int) -> None:
        """Weights of this version are there: begin what may begin with them. The first call says where a run goes on from."""
        self._next = self._next or version + 1
        for step in range(self._next, min(version + 1 + self._max_staleness, self._steps) + 1):
            self._begun[step] = self._thread.submit(self._play, step)
            self._next = step + 1

    def take(self, step: int) -> T:
        """What was played in a step, once; waits for it. Raises what playing it raised."""
        return self._begun.pop(step).result()

    def close(self) -> None:
        """Begin nothing more; what is being played goes on until its batch is answered, and is lost."""
        self._thread.shutdown(wait=False, cancel_futures=True)
