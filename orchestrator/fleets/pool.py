"""A rater's servers that all runs of a cluster share: whoever asks first starts them, and they end after the last.

`lease` holds a pool; `orchestrator.fleets.pooled` asks it; `orchestrator.fleets.pool_manager` is what lives in the cluster.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from orchestrator.cluster.session import apart_from_head
from orchestrator.config.schema import RunConfig
from orchestrator.errors import RunError
from orchestrator.fleets.pool_manager import LeaseLostError, PoolManager, PoolSpec, Pulse
from orchestrator.fleets.specs import specs_of
from orchestrator.learning.starting import StartingModel, content_of, digest
from orchestrator.values import Answer, Call

log = logging.getLogger("orchestrator")

NAMESPACE = "orchestrator"
"""Ray's namespace of pools: a detached actor is found by its name in one, and each job has one of its own."""
CLIENTS_AT_ONCE = 10_000
"""Calls of its methods that a manager works on side by side; most wait for servers."""
TOLD_AFTER = 5
"""Attempts to open a pool, of which the first meet one that is about to end."""
RENEWALS = 3
"""How often in a row a client goes on with another manager in place of one that was lost, before it gives up."""
RELEASE_S = 10.0
"""How long a client that ends waits for the manager to hear of it; otherwise its silence will tell."""


def pool_of(config: RunConfig, model: StartingModel) -> PoolSpec:
    """The pool of a run's shared rater: the same for all runs whose rater has the same content and settings.

    model: of the rater, with weights (`starting_model` sees to it).
    """
    role = config.roles()[model.role]
    content, shape = content_of(model.folder), role.model
    decisive = digest([content, shape.dtype, shape.context_tokens, shape.thinking])
    return PoolSpec(
        key=digest([content, asdict(replace(shape, name="")), asdict(role.fleet)]),
        model=decisive,
        specs=tuple(specs_of(config, model)),
        verdicts=str(Path(config.storage).resolve() / ".cache" / "verdicts" / f"{decisive}.sqlite"),
    )


@contextmanager
def lease(config: RunConfig, model: StartingModel, holder: str) -> Iterator[PoolSpec]:
    """Hold the pool of a shared rater while the block runs, whoever else asks it meanwhile. holder: who, in words."""
    held = Lease(pool_of(config, model), holder)
    try:
        yield held.spec
    finally:
        held.close()


def is_running(spec: PoolSpec) -> bool:
    """Whether the cluster has this pool."""
    import ray

    try:
        ray.get_actor(spec.name, namespace=NAMESPACE)
    except ValueError:
        return False
    return True


class Lease:
    """A client's hold on a pool, which a thread keeps alive. Opens the pool where there is none.

    A manager that was lost with its node is replaced when next something is asked. tell: is given what the pool has to say, and a
    line about every long wait.
    """

    def __init__(
        self, spec: PoolSpec, holder: str, notice_s: float = 30.0, tell: Callable[[str], None] = log.warning
    ) -> None:
        self.spec = spec
        self._holder, self._notice_s, self._tell = holder, notice_s, tell
        self._opening = threading.Lock()
        self._pulse = Pulse(0, 0, 0, ())
        self._renewals = 0
        self._held = self._open()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{spec.role}", daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Block until the pool's servers answer. Raises RunError with the reason where they do not start."""
        self._call("wait_ready", (), "start")

    def ask(self, purpose: str, calls: Sequence[Call]) -> tuple[list[Answer], dict[str, float]]:
        """Answers in the order of the calls, and statistics: see `PoolManager.ask`. Raises RunError."""
        answers, statistics = self._call("ask", (purpose, list(calls)), f"answer {len(calls)} calls")
        return answers, statistics

    def close(self) -> None:
        """Ask nothing more. The last client's pool ends."""
        import ray

        self._closed.set()
        self._thread.join()
        manager, token = self._held
        with suppress(_Lost, ray.exceptions.GetTimeoutError):
            _reply(manager.release.remote(token), RELEASE_S)

    def _call(self, method: str, arguments: tuple[Any, ...], doing: str) -> Any:
        """What a method returns, of another manager where this one is lost before it has answered."""
        while True:
            manager, token = held = self._held
            try:
                answer = self._wait(getattr(manager, method).remote(token, *arguments), doing)
                self._renewals = 0
                return answer
            except _Lost as lost:
                self._renew(held, doing, lost)

    def _renew(self, held: tuple[Any, str], doing: str, lost: _Lost) -> None:
        with self._opening:
            if self._held != held:
                return  # another thread has done it
            if self._closed.is_set():
                raise RunError(f"the {self.spec.role} pool was left while it should {doing}.") from lost
            if self._renewals == RENEWALS:
                raise RunError(
                    f"the {self.spec.role} pool was lost {RENEWALS + 1} times in a row; now it should {doing}: {lost}"
                ) from lost
            self._renewals += 1
            self._tell(f"the {self.spec.role} pool was lost ({lost}); looking for another, or beginning one.")
            self._held = self._open()

    def _open(self) -> tuple[Any, str]:
        """The manager, and the token of a new lease. Of clients that come at the same time one starts it, the others find it."""
        import ray

        options: dict[str, Any] = {
            "name": self.spec.name,
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "num_cpus": 0,
            "label_selector": apart_from_head() or None,
            # Otherwise it would belong to the placement group of the trial that happens to be first.
            "scheduling_strategy": "DEFAULT",
            "max_restarts": 0,
            "max_concurrency": CLIENTS_AT_ONCE,
        }
        deadline, waits = time.monotonic() + self.spec.specs[0].fleet.start_deadline_s, 0
        while True:
            try:
                manager = ray.remote(**options)(PoolManager).remote(self.spec)
                return manager, _reply(manager.lease.remote(self._holder), deadline - time.monotonic())
            # It had the name and was about to end.
            except (_Lost, ValueError) as error:
                if time.monotonic() > deadline:
                    raise RunError(f"the {self.spec.role} pool cannot be opened: {error}") from error
                waits += 1
                if waits == TOLD_AFTER:
                    self._tell(f"the {self.spec.role} pool does not open yet ({error}); trying on.")
                time.sleep(min(5.0, 0.2 * 2 ** min(waits, 5)))
            except ray.exceptions.GetTimeoutError as error:
                raise RunError(
                    f"the {self.spec.role} pool's manager did not start within {self.spec.specs[0].fleet.start_deadline_s:.0f} s "
                    f"({self.spec.role}.fleet.start_deadline_s)."
                ) from error

    def _wait(self, reference: Any, doing: str) -> Any:
        """The reply, however long others are answered before; RunError once nothing at all has been answered for too long."""
        import ray

        fleet = self.spec.specs[0].fleet
        # The servers' own deadlines come first: of a batch, of the restarts that it may take, and of the start before it.
        patience_s = (fleet.request_deadline_s + fleet.start_deadline_s) * (fleet.max_restarts + 1)
        started = moved = time.monotonic()
        answered = self._pulse.answered
        while True:
            try:
                return _reply(reference, min(self._notice_s, patience_s))
            except ray.exceptions.GetTimeoutError:
                now, pulse = time.monotonic(), self._pulse
                if pulse.answered != answered:
                    answered, moved = pulse.answered, now
                if now - moved >= patience_s:
                    raise RunError(
                        f"the {self.spec.role} pool did not {doing}, nor anything else, within {patience_s:.0f} s."
                    ) from None
                self._tell(
                    f"waiting for the {self.spec.role} pool to {doing}: {now - started:.0f} s; it has {pulse.waiting:,} calls of "
                    f"{pulse.clients} client(s) waiting and has answered {pulse.answered:,}"
                )

    def _beat(self) -> None:
        """Give signs of life and pass on what comes back. A lost lease is taken again by whoever asks next."""
        import ray

        while not self._closed.wait(self.spec.heartbeat_s):
            manager, token = self._held
            with suppress(_Lost, ray.exceptions.GetTimeoutError):
                self._pulse = _reply(manager.heartbeat.remote(token), self.spec.expiry_s)
                for note in self._pulse.notes:
                    self._tell(f"{self.spec.role} pool: {note}")


class _Lost(Exception):
    """The manager has ended, or does not know the lease."""


def _reply(reference: Any, timeout_s: float) -> Any:
    """A manager's reply. Raises its RunError in its own words, `_Lost`, and Ray's GetTimeoutError."""
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    try:
        return ray.get(reference, timeout=max(0.0, timeout_s))
    except RayTaskError as error:
        if isinstance(error.cause, LeaseLostError):
            raise _Lost(str(error.cause)) from error
        if isinstance(error.cause, RunError):
            raise RunError(str(error.cause)) from error
        raise
    except RayActorError as error:
        raise _Lost(str(error).strip().splitlines()[-1]) from error
