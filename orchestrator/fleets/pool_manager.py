"""The manager of a pool: an actor that owns servers, and lets many clients ask them in turn.

It is detached, so that it outlives the run that began it; its servers are not, so that they end with it, however it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from orchestrator.errors import RunError
from orchestrator.fleets.fair_queue import FairQueue, Ticket
from orchestrator.fleets.fleet import Fleet, ServerLost, start_servers
from orchestrator.fleets.server import VllmServer
from orchestrator.fleets.specs import ServerSpec
from orchestrator.fleets.verdict_cache import VerdictCache
from orchestrator.values import Answer, Call

T = TypeVar("T")

ROUNDS = 4
"""Calls of a batch, as a multiple of what the servers work on at once: enough to keep them busy, and a new client waits no longer."""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """What a pool is. key: of the model's content and all settings of its servers. model: key of what decides a verdict. verdicts:
    the file that keeps them.

    heartbeat_s: between two signs of life of a client. expiry_s: silence after which a client counts as gone; longer than any pause
    that the interpreter lock or a busy network makes. linger_s: of a pool that nobody holds, for the run that begins as another ends.
    """

    key: str
    model: str
    specs: tuple[ServerSpec, ...]
    verdicts: str
    server_class: type = VllmServer
    heartbeat_s: float = 5.0
    expiry_s: float = 30.0
    linger_s: float = 5.0

    @property
    def role(self) -> str:
        return self.specs[0].role

    @property
    def name(self) -> str:
        """Of the manager, in the namespace of pools."""
        return f"{self.role}-pool-{self.key}"


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a manager says to a sign of life. answered: calls so far. waiting: calls, of all clients. notes: since the last pulse."""

    clients: int
    waiting: int
    answered: int
    notes: tuple[str, ...]


class LeaseLostError(Exception):
    """A client that the manager does not know, or no longer."""


@dataclass(slots=True)
class _Client:
    """holder: in words. heard: when it gave its last sign of life (monotonic seconds)."""

    holder: str
    heard: float
    notes: list[str] = field(default_factory=list)


class PoolManager:
    """The actor's class; its methods run in one event loop, servers and files are waited for in a thread each.

    It ends itself once nobody holds a lease. What ends the pool before (servers that do not start, or die too often) is told to
    everyone who asks, for as long as a silent client would be waited for; whoever comes later begins a new pool.
    """

    def __init__(self, spec: PoolSpec) -> None:
        self._spec = spec
        settings = spec.specs[0].fleet
        self._room = ROUNDS * settings.max_concurrent_sequences * len(spec.specs)
        self._clients: dict[str, _Client] = {}
        self._queue, self._arrived = FairQueue(), asyncio.Event()
        self._in_work: list[Ticket] = []
        self._answered = 0
        self._begun, self._failure = asyncio.Event(), ""
        self._unused_since = time.monotonic()
        self._servers_thread, self._files_thread = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._cache = VerdictCache(Path(spec.verdicts), spec.model, self._tell)
        self._fleet = Fleet(
            spec.role,
            [],
            settings.request_deadline_s,
            settings.start_deadline_s,
            settings.max_restarts,
            tell=self._tell,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # --- what clients call ---

    async def lease(self, holder: str) -> str:
        """A token for a client that gives signs of life from now on. The first one starts the servers."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            for work in (self._start_and_answer(), self._watch()):
                task = asyncio.create_task(work)
                task.add_done_callback(self._ended)
                self._tasks.append(task)
        token = uuid4().hex
        self._clients[token] = _Client(holder, time.monotonic(), [self._cache.problem] if self._cache.problem else [])
        return token

    async def heartbeat(self, token: str) -> Pulse:
        """A sign of life. Raises LeaseLostError."""
        client = self._client(token)
        notes, client.notes = tuple(client.notes), []
        return Pulse(len(self._clients), len(self._queue), self._answered, notes)

    async def release(self, token: str) -> None:
        """The client asks nothing more."""
        self._drop(token, "has been released")

    async def wait_ready(self, token: str) -> None:
        """Returns when the servers answer. Raises RunError with the reason why they never will."""
        self._client(token)
        await self._begun.wait()
        self._check()

    async def ask(self, token: str, purpose: str, calls: Sequence[Call]) -> tuple[list[Answer], dict[str, float]]:
        """Answers in the order of the calls, from the cache where it has them; and statistics: asked, verdict_hits, the client's part
        (by calls) of the tokens of the batches it was in, and restarts meanwhile. Raises LeaseLostError and RunError."""
        self._client(token)
        found = await self._in(self._files_thread, self._cache.find, purpose, calls)
        missing = [position for position, answer in enumerate(found) if answer is None]
        statistics = {"asked": float(len(calls)), "verdict_hits": float(len(calls) - len(missing))}
        if missing:
            self._client(token)
            self._check()
            ticket = Ticket(token, [calls[at] for at in missing], asyncio.get_running_loop().create_future())
            self._queue.put(ticket)
            self._arrived.set()
            answers = await ticket.done
            await self._in(self._files_thread, self._cache.keep, purpose, ticket.calls, answers)
            for position, answer in zip(missing, answers, strict=True):
                found[position] = answer
            statistics |= ticket.statistics
        return [answer for answer in found if answer is not None], statistics

    # --- its own work ---

    async def _start_and_answer(self) -> None:
        await self._in(self._files_thread, self._cache.open)
        try:
            self._fleet.servers = start_servers(self._spec.specs, self._spec.server_class)
            await self._in(self._servers_thread, self._fleet.wait_ready)
        except RunError as error:
            self._fail(str(error))
            return
        self._begun.set()
        while not self._failure:
            await self._arrived.wait()
            batch = self._queue.take(self._room)
            self._in_work = list(dict.fromkeys(ticket for ticket, _ in batch))
            if batch:
                await self._answer(batch, self._in_work)
            else:
                self._arrived.clear()

    async def _answer(self, batch: Sequence[tuple[Ticket, int]], tickets: Sequence[Ticket]) -> None:
        """Have a batch of calls of these tickets answered. One that makes the servers raise fails its own ticket alone."""
        try:
            calls = [ticket.calls[position] for ticket, position in batch]
            answers, statistics = await self._in(self._servers_thread, self._complete, calls)
        except RunError as error:
            if isinstance(error.__cause__, ServerLost):
                self._fail(str(error))
            elif len(tickets) == 1:
                tickets[0].fail(error)
            else:
                for ticket in tickets:
                    if not self._failure:
                        await self._answer([entry for entry in batch if entry[0] is ticket], [ticket])
            return
        restarts = statistics.pop("restarts")
        for ticket in tickets:
            share = sum(mine is ticket for mine, _ in batch) / len(batch)
            ticket.count({name: share * value for name, value in statistics.items()} | {"restarts": restarts})
        for (ticket, position), answer in zip(batch, answers, strict=True):
            ticket.give(position, answer)
        self._answered += len(batch)

    def _complete(self, calls: Sequence[Call]) -> tuple[list[Answer], dict[str, float]]:
        """In the servers' thread. Every batch begins with an empty prefix cache, so a lost server needs none of those before."""
        self._fleet.begin_step("pool")
        answers = self._fleet.complete(calls)
        counted = self._fleet.take_statistics()
        wanted = ("prompt_tokens", "cached_tokens", "generated_tokens", "restarts")
        return answers, {name: counted[name] for name in wanted if name in counted}

    async def _watch(self) -> None:
        """Forget who is silent; end the pool when nobody has been left for a while."""
        pause = min(self._spec.heartbeat_s, self._spec.linger_s) / 4
        while self._clients or time.monotonic() - self._unused_since < self._spec.linger_s:
            await asyncio.sleep(pause)
            for token, client in list(self._clients.items()):
                if time.monotonic() - client.heard > self._spec.expiry_s:
                    self._drop(token, f"was silent for {self._spec.expiry_s:.0f} s")
        self._end()

    def _drop(self, token: str, why: str) -> None:
        """A client is gone: nothing more is answered to it."""
        if self._clients.pop(token, None):
            for ticket in (*self._queue.tickets(), *self._in_work):
                if ticket.client == token:
                    ticket.fail(LeaseLostError(f"the client {why}"))
        if not self._clients:
            self._unused_since = time.monotonic()

    def _end(self) -> None:
        """Nothing is awaited here, so that no client can come in between."""
        import ray

        self._kill_servers()
        self._files_thread.submit(self._cache.close).result()
        ray.kill(ray.get_runtime_context().current_actor)

    def _kill_servers(self) -> None:
        import ray

        for server in self._fleet.servers:
            ray.kill(server)

    def _fail(self, reason: str) -> None:
        """The pool is over: its servers' memory is free, and everyone is told why until it ends."""
        self._failure = reason
        self._begun.set()
        asyncio.get_running_loop().call_later(self._spec.expiry_s, self._end)
        for ticket in (*self._queue.tickets(), *self._in_work):
            ticket.fail(RunError(reason))
        self._kill_servers()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """What is wrong in this file itself must not leave clients waiting."""
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._fail(f"the manager of the {self._spec.role} pool failed: {type(error).__name__}: {error}")

    # --- helpers ---

    def _client(self, token: str) -> _Client:
        """Whoever calls lives."""
        client = self._clients.get(token)
        if client is None:
            raise LeaseLostError("the manager does not know this client, or no longer")
        client.heard = time.monotonic()
        return client

    def _check(self) -> None:
        if self._failure:
            raise RunError(self._failure)

    def _tell(self, line: str) -> None:
        """Pass a line on to every client, from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._note, line)

    def _note(self, line: str) -> None:
        for client in self._clients.values():
            client.notes.append(line)

    async def _in(self, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)
