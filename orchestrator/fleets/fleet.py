"""A fleet: servers that share one role's calls, looked after. Those of policy and raters are the same class.

The driver creates the actors, so that they outlive a restarted rank; rank 0 of the learner holds a `Fleet` over their handles.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any, Protocol

from orchestrator.errors import RunError
from orchestrator.fleets.server import (
    CONTROL_GROUP,
    Acknowledgement,
    MissedBatchesError,
    StaleWeightsError,
    VllmServer,
)
from orchestrator.fleets.specs import ServerSpec
from orchestrator.fleets.weights import WeightVersion
from orchestrator.values import Answer, Call, stable_hash

log = logging.getLogger("orchestrator")


PATIENCE_S = 0.5
"""How long at a time is waited for servers before all else is looked at."""


class Answerer(Protocol):
    """Whatever answers calls: a fleet of our own or a URL."""

    @property
    def retry_delay_s(self) -> float:
        """What it needs before a call that failed is tried again."""
        ...

    def begin_step(self, purpose: str) -> None:
        """What follows must not depend on what was asked before. purpose: of this thread's calls (train, eval, exam)."""
        ...

    def complete(self, calls: Sequence[Call]) -> list[Answer]: ...

    def take_statistics(self) -> dict[str, float]: ...


def start_servers(specs: Sequence[ServerSpec], server_class: type = VllmServer) -> list[Any]:
    """Create one Ray actor a spec; returns at once. Ray restarts an actor that dies, under the same handle."""
    import ray

    handles = []
    for spec in specs:
        options = {
            # A restarted server is of use only where it can be given its weights again, and where its memory is still free.
            "max_restarts": 0 if spec.seat or spec.transport != "object_store" else spec.fleet.max_restarts,
            "max_task_retries": 0,
            "concurrency_groups": {CONTROL_GROUP: 1},
            **_place_of(spec),
        }
        handles.append(ray.remote(**options)(server_class).remote(spec))
    return handles


def _place_of(spec: ServerSpec) -> dict[str, Any]:
    """What Ray reserves for a server: resources of its own, or nothing on the node where it uses those of a rank."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if spec.seat:
        return {
            "num_cpus": 0,
            "num_gpus": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(spec.seat.node, soft=False),
        }
    fleet = spec.fleet
    return {
        "num_cpus": fleet.cpus_per_server,
        "num_gpus": fleet.gpus_per_server,
        "scheduling_strategy": "DEFAULT",
    }


def _give(server: Any, weights: WeightVersion) -> Any:
    """Have a server take over weights, or an adapter to those that it has; returns what to wait for."""
    update = server.update_adapter if weights.base else server.update_weights
    return update.remote(weights.version, weights.references)


def server_of(call: Call, servers: int) -> int:
    """Which of so many servers answers a call: a function of its route (or key) alone, so that runs can be repeated."""
    return stable_hash(call.route or call.key) % servers


def slowest(seconds: Mapping[int, float]) -> dict[str, float]:
    """The number of the server that worked longest, and its time over the median's (of two servers the other's).

    seconds: by server. Nothing where fewer than two worked.
    """
    usual = median_low(seconds.values()) if len(seconds) > 1 else 0.0
    if usual <= 0:
        return {}
    index = max(seconds, key=lambda server: seconds[server])
    return {"slowest": float(index), "slowest_ratio": seconds[index] / usual}


@dataclass
class Fleet:
    """Routes, checks, restarts, re-sends. Lives in one process at a time (rank 0).

    max_restarts: of each server. tell: is given a line about every long wait and every restart.
    """

    role: str
    servers: list[Any]
    request_deadline_s: float
    start_deadline_s: float
    max_restarts: int
    notice_s: float = 30.0
    tell: Callable[[str], None] = log.warning
    version: int = 0
    retry_delay_s: float = 0.0
    _lost: Counter[int] = field(default_factory=Counter)
    _reported: int = 0
    _published: WeightVersion | None = None
    _statistics: dict[str, float] = field(default_factory=dict)
    _seconds: dict[int, float] = field(default_factory=dict)
    """Time at work since statistics were taken, by server."""
    busy: threading.RLock = field(default_factory=threading.RLock)
    """Held while servers work on a batch or take over weights: rollouts that run ahead share the fleet with the learner."""
    _sent: defaultdict[int, list[list[Call]]] = field(default_factory=lambda: defaultdict(list))
    """Batches of this step, by server."""

    @property
    def restarts(self) -> int:
        """Restarts of all servers so far."""
        return self._lost.total()

    def begin_step(self, purpose: str) -> None:
        """For any purpose, the next batch of every server finds an empty prefix cache; those after it share what it leaves."""
        with self.busy:
            self._sent.clear()

    def wait_ready(self) -> list[dict[str, Any]]:
        """Block until every server answers. Raises RunError naming the server that did not start."""
        pings = [server.ping.options(concurrency_group=CONTROL_GROUP).remote() for server in self.servers]
        try:
            return [self._wait(ping, index, self.start_deadline_s, "start") for index, ping in enumerate(pings)]
        except ServerLost as lost:
            raise RunError(str(lost)) from lost

    def push(self, weights: WeightVersion) -> None:
        """Give every server the new weights from the object store; returns when each has acknowledged exactly these."""
        with self.busy:
            self._push(weights)

    def _push(self, weights: WeightVersion) -> None:
        self._expect(weights)
        pending = [_give(server, weights) for server in self.servers]
        for index, reference in enumerate(pending):
            try:
                acknowledged = self._wait(
                    reference, index, self.request_deadline_s, f"take over weights {weights.version}"
                )
            except ServerLost as lost:
                acknowledged = self._revive(index, lost)
            self._check(acknowledged, weights)

    @property
    def base(self) -> WeightVersion | None:
        """The weights that servers would add an adapter to: those that arrived last, adapters aside."""
        return self._published.parts[0] if self._published else None

    def adopt(self, weights: WeightVersion, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Go on with weights that a transport handed over itself, which every server must have acknowledged."""
        self._expect(weights)
        for acknowledged in acknowledgements:
            self._check(acknowledged, weights)

    def ask(self, method: str, arguments: list[tuple[Any, ...]] | tuple[Any, ...]) -> list[Any]:
        """Call a method of every server at once; returns what to `collect`. arguments: the same for all, or a list, a tuple each."""
        each = arguments if isinstance(arguments, list) else [arguments] * len(self.servers)
        return [getattr(server, method).remote(*mine) for server, mine in zip(self.servers, each, strict=True)]

    def collect(self, pending: Sequence[Any], deadline_s: float, doing: str, beside: Any = None) -> list[Any]:
        """What every server returned, within one deadline for all. Raises RunError with the words of the first that failed or died:
        the others may be waiting for it. beside: a call of the learner's own that they may wait for (`transports.InBackground`)."""
        import ray

        started, told = time.monotonic(), time.monotonic()
        answers: dict[int, Any] = {}
        while len(answers) < len(pending):
            waiting = {reference: index for index, reference in enumerate(pending) if index not in answers}
            ended, _ = ray.wait(list(waiting), timeout=PATIENCE_S)
            now = time.monotonic()
            try:
                for reference in ended:
                    answers[waiting[reference]] = self._wait(reference, waiting[reference], deadline_s, doing)
            except ServerLost as lost:
                raise RunError(str(lost)) from lost
            silent = ", ".join(f"{self.role}-{index}" for index in range(len(pending)) if index not in answers)
            if silent and beside:
                beside.check(doing)
            if silent and now - started >= deadline_s:
                raise RunError(f"{silent} did not {doing} within {deadline_s:.0f} s.")
            if silent and now - told >= self.notice_s:
                told = now
                self.tell(f"waiting for {silent} to {doing}: {now - started:.0f} s of at most {deadline_s:.0f} s")
        return [answers[index] for index in range(len(pending))]

    def sleep(self, level: int) -> None:
        """Have every server give its GPU's memory back (see `VllmServer.sleep`)."""
        self.collect(self.ask("sleep", (level,)), self.request_deadline_s, "fall asleep")

    def wake(self, part: str) -> None:
        """Have every server take the memory of a part again. Raises RunError naming the first that cannot."""
        try:
            self.collect(self.ask("wake", (part,)), self.request_deadline_s, f"wake its {part}")
        except RunError as error:
            raise RunError(
                f"{error} Where memory ran out, lower gpu_memory_share of the fleets, or see what else is on the GPU."
            ) from error

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in the order of the calls. Which server gets a call depends on the call alone (`server_of`).

        The same batches in the same order since `begin_step` or `push` give the same answers to the last bit, whatever came
        before and whichever server died or hung in between: it is restarted, given the current weights, and sent its batches of
        this step again, because those before the last had filled its prefix cache.
        """
        with self.busy:
            return self._complete(calls)

    def _complete(self, calls: Sequence[Call]) -> list[Answer]:
        shares: list[list[int]] = [[] for _ in self.servers]
        for position, call in enumerate(calls):
            shares[server_of(call, len(self.servers))].append(position)
        pending = {
            index: self._send(index, [calls[position] for position in share])
            for index, share in enumerate(shares)
            if share
        }
        answers: list[Answer | None] = [None] * len(calls)
        for index, reference in pending.items():
            replies, statistics = self._receive(index, reference)
            for position, reply in zip(shares[index], replies, strict=True):
                answers[position] = reply
            self._seconds[index] = self._seconds.get(index, 0.0) + statistics["seconds"]
            for key, value in statistics.items():
                self._statistics[key] = self._statistics.get(key, 0.0) + value
        return [answer for answer in answers if answer is not None]

    def take_statistics(self) -> dict[str, float]:
        """What the servers counted, their restarts, and who was `slowest`, since the last call."""
        with self.busy:
            taken, self._statistics = self._statistics, {}
            seconds, self._seconds = self._seconds, {}
        restarts, self._reported = self.restarts - self._reported, self.restarts
        return taken | slowest(seconds) | {"restarts": float(restarts)}

    def _expect(self, weights: WeightVersion) -> None:
        self._published, self.version = weights, weights.version
        self._sent.clear()

    def _send(self, index: int, batch: list[Call]) -> Any:
        self._sent[index].append(batch)
        return self.servers[index].complete.remote(batch, self.version, len(self._sent[index]) - 1)

    def _receive(self, index: int, reference: Any) -> tuple[list[Answer], dict[str, float]]:
        """The answers to the batch that was sent last, from a server that is restarted as often as it must be."""
        batches, deadline_s = self._sent[index], self.request_deadline_s
        while True:
            try:
                replies, statistics = self._wait(reference, index, deadline_s, f"answer {len(batches[-1])} calls")
                return replies, statistics
            except ServerLost as lost:
                self._revive(index, lost)
                # An actor works in the order in which it is called, and only the last batch's answers are still wanted.
                for number, batch in enumerate(batches):
                    reference = self.servers[index].complete.remote(batch, self.version, number)
                deadline_s = self.request_deadline_s * len(batches)

    def _revive(self, index: int, lost: ServerLost) -> Acknowledgement | None:
        """Bring a lost server back, with the current weights. Raises RunError when it was lost too often."""
        import ray

        if self._published and any(part.references is None for part in self._published.parts):
            raise RunError(
                f"{lost} Its weights came from the learner's GPU and lie nowhere else: resume the run from its checkpoint, or set "
                "sync.transport=object_store, with which a lost server is given its weights again."
            ) from lost
        if self._lost[index] >= self.max_restarts:
            raise RunError(
                f"{lost} It was restarted {self.max_restarts} times (max_restarts of the {self.role} fleet): giving up."
            ) from lost
        if lost.dead:
            raise RunError(f"{lost} Ray does not restart it again.") from lost
        self._lost[index] += 1
        self.tell(f"{lost} Bringing it back and giving it its work again.")
        if lost.unanswered is not None:
            ray.kill(self.servers[index], no_restart=False)
            # Until the old process is gone it goes on answering health checks.
            ray.wait([lost.unanswered], timeout=self.start_deadline_s)
        deadline = time.monotonic() + self.start_deadline_s
        while True:
            try:
                return self._restore(index, deadline)
            except ServerLost as again:
                # A restarting actor refuses calls for a moment.
                if time.monotonic() > deadline or again.dead:
                    raise RunError(f"{self.role}-{index} did not come back: {again}") from again
                time.sleep(0.5)

    def _restore(self, index: int, deadline: float) -> Acknowledgement | None:
        """Wait for a restarted server and give it the current weights, where any were published."""
        server = self.servers[index]
        ping = server.ping.options(concurrency_group=CONTROL_GROUP).remote()
        self._wait(ping, index, deadline - time.monotonic(), "restart")
        acknowledged: Acknowledgement | None = None
        for part in self._published.parts if self._published else ():
            acknowledged = self._wait(
                _give(server, part), index, self.request_deadline_s, "take over weights after a restart"
            )
            self._check(acknowledged, part)
        return acknowledged

    def _check(self, acknowledged: Acknowledgement | None, weights: WeightVersion) -> None:
        if acknowledged is None or (acknowledged.version, acknowledged.fingerprint) != (
            weights.version,
            weights.fingerprint,
        ):
            raise RunError(
                f"sync/weight_version: {self.role} fleet: {acknowledged} is not what was published (version {weights.version}, "
                f"fingerprint {weights.fingerprint}). The rollout was not started: samples would come from other weights than "
                "those trained."
            )

    def _wait(self, reference: Any, index: int, deadline_s: float, doing: str) -> Any:
        """The call's result. Says every `notice_s` what it waits for; raises ServerLost when the server died or hung."""
        import ray
        from ray.exceptions import ActorDiedError, GetTimeoutError, ObjectLostError, RayActorError, RayTaskError

        server = f"{self.role}-{index}"
        started = time.monotonic()
        while True:
            waited = time.monotonic() - started
            try:
                return ray.get(reference, timeout=max(0.01, min(self.notice_s, deadline_s - waited)))
            except GetTimeoutError:
                waited = time.monotonic() - started
                if waited >= deadline_s:
                    raise ServerLost(
                        f"{server} did not {doing} within {deadline_s:.0f} s.", unanswered=reference
                    ) from None
                self.tell(f"waiting for {server} to {doing}: {waited:.0f} s of at most {deadline_s:.0f} s")
            except RayTaskError as error:
                reason = f"{type(error.cause).__name__}: {error.cause}"
                # A server that died while nobody waited for it comes back without what it was given.
                forgot = isinstance(error.cause, StaleWeightsError) and self._published is not None
                if forgot or isinstance(error.cause, MissedBatchesError):
                    raise ServerLost(f"{server} was restarted ({error.cause}).") from error
                raise RunError(f"{server} failed while it should {doing}: {reason}") from error
            except (RayActorError, ObjectLostError) as error:
                cause = str(error).strip().splitlines()[-1]
                raise ServerLost(
                    f"{server} died while it should {doing}: {cause}", dead=isinstance(error, ActorDiedError)
                ) from error


class ServerLost(Exception):
    """A server that died or hung. unanswered: the call that it hangs in. dead: Ray will not restart it again."""

    def __init__(self, message: str, *, unanswered: Any = None, dead: bool = False) -> None:
        super().__init__(message)
        self.unanswered, self.dead = unanswered, dead
