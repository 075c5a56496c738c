"""A run's end of a rater's pool: answers calls as a fleet does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

from orchestrator.fleets.pool import Lease
from orchestrator.fleets.pool_manager import PoolSpec
from orchestrator.values import Answer, Call

log = logging.getLogger("orchestrator")


class _Purpose(threading.local):
    """Of a thread: rollouts that run ahead are judged beside an evaluation."""

    name: str | None = None


class PooledFleet:
    """The servers of a pool, shared with other runs, and what they have answered before.

    What can be repeated: an answer that is kept is the same for ever, to the last bit. A new one shares its batch with whatever
    others ask at that moment, and batches move the last bits of probabilities (about 1e-6 of P(yes) in float32). So a run's soft
    rewards repeat only that far, verdicts by a threshold practically always; with servers of its own (its `shared=false`) a run
    repeats to the last bit. A sampled answer is a draw of its seed, and where the last bits decide a token it may be another.

    holder: who asks, in words. tell: is given what the pool has to say, and a line about every long wait.
    """

    retry_delay_s: float = 0.0

    def __init__(
        self, spec: PoolSpec, holder: str, notice_s: float = 30.0, tell: Callable[[str], None] = log.warning
    ) -> None:
        self._lease = Lease(spec, holder, notice_s, tell)
        self._purpose = _Purpose()
        self._statistics: dict[str, float] = {}
        self._counting = threading.Lock()

    def wait_ready(self) -> None:
        """Block until the pool's servers answer. Raises RunError with the reason where they do not start."""
        self._lease.wait_ready()

    def begin_step(self, purpose: str) -> None:
        """What this thread asks from now on is asked for this purpose: answers for one are never used for another."""
        self._purpose.name = purpose

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in the order of the calls. Raises RunError."""
        assert self._purpose.name is not None, "begin_step comes first: it says what is asked for"
        answers, counted = self._lease.ask(self._purpose.name, calls)
        with self._counting:
            for name, value in counted.items():
                self._statistics[name] = self._statistics.get(name, 0.0) + value
        return answers

    def take_statistics(self) -> dict[str, float]:
        """Since the last call: asked and verdict_hits (calls), prompt_tokens and cached_tokens, restarts."""
        with self._counting:
            taken, self._statistics = self._statistics, {}
        return taken

    def close(self) -> None:
        """Ask nothing more."""
        self._lease.close()
