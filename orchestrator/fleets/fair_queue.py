"""Calls of several clients that wait for the same servers, taken in turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.values import Answer, Call

SLICE = 32
"""Calls of one client in a row: the questions about an answer or two, which share what the prefix cache holds."""


@dataclass(eq=False, slots=True)
class Ticket:
    """Calls that a client asked together. done: their answers, in order, or what went wrong. statistics: its part of the batches."""

    client: str
    calls: list[Call]
    done: asyncio.Future[list[Answer]]
    answers: dict[int, Answer] = field(default_factory=dict)
    statistics: dict[str, float] = field(default_factory=dict)

    def give(self, position: int, answer: Answer) -> None:
        """One answer; the last one makes it `done`."""
        self.answers[position] = answer
        if len(self.answers) == len(self.calls) and not self.done.done():
            self.done.set_result([self.answers[at] for at in range(len(self.calls))])

    def fail(self, error: Exception) -> None:
        """It will not be answered."""
        if not self.done.done():
            self.done.set_exception(error)

    def count(self, statistics: Mapping[str, float]) -> None:
        """Add to the statistics."""
        for name, value in statistics.items():
            self.statistics[name] = self.statistics.get(name, 0.0) + value


class FairQueue:
    """Round robin over clients, `SLICE` calls a turn, so that ten calls never wait behind another client's ten thousand."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[tuple[Ticket, int]]] = {}
        """By client; the first is the next to have its turn."""

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, ticket: Ticket) -> None:
        """Behind the client's other calls; a client that is new comes last."""
        mine = self._waiting.setdefault(ticket.client, deque())
        mine.extend((ticket, position) for position in range(len(ticket.calls)))

    def take(self, room: int) -> list[tuple[Ticket, int]]:
        """The next batch: at most `room` calls, each as its ticket and its position there. What is done already is left out."""
        batch: list[tuple[Ticket, int]] = []
        while self._waiting and len(batch) < room:
            client = next(iter(self._waiting))
            mine = self._waiting.pop(client)
            turn = min(SLICE, room - len(batch))
            while mine and turn:
                ticket, position = mine.popleft()
                if not ticket.done.done():
                    batch.append((ticket, position))
                    turn -= 1
            if mine:
                self._waiting[client] = mine
        return batch

    def tickets(self) -> list[Ticket]:
        """All that wait, each once."""
        return list(dict.fromkeys(ticket for mine in self._waiting.values() for ticket, _ in mine))
