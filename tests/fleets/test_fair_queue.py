"""Whose calls are answered next, where several clients wait for the same servers."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from orchestrator.fleets.fair_queue import SLICE, FairQueue, Ticket
from orchestrator.values import Call, Choice


def ticket(loop: asyncio.AbstractEventLoop, client: str, count: int) -> Ticket:
    return Ticket(
        client, [Call(f"{client}-{n}", "judge", (), choices=("yes",)) for n in range(count)], loop.create_future()
    )


@pytest.fixture
def loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def keys(batch: list[tuple[Ticket, int]]) -> list[str]:
    return [mine.calls[position].key for mine, position in batch]


def test_ten_calls_are_in_the_next_batch_whatever_waits_before_them(loop: asyncio.AbstractEventLoop) -> None:
    """Of 64 places the great client has its slice of 32, the small one all of its 10, and the great one the 22 that are left."""
    queue = FairQueue()
    queue.put(ticket(loop, "great", 10_000))
    queue.put(ticket(loop, "small", 10))
    assert keys(queue.take(64)) == [
        *(f"great-{n}" for n in range(SLICE)),
        *(f"small-{n}" for n in range(10)),
        *(f"great-{n}" for n in range(SLICE, SLICE + 22)),
    ]
    assert len(queue) == 10_000 - 54


def test_clients_with_much_to_ask_have_equal_parts_over_batches(loop: asyncio.AbstractEventLoop) -> None:
    """Three clients, batches of 32 calls: one slice a batch, so in nine batches each has three."""
    queue = FairQueue()
    for name in "abc":
        queue.put(ticket(loop, name, 1000))
    turns = [{mine.client for mine, _ in queue.take(SLICE)} for _ in range(9)]
    assert turns == [{"a"}, {"b"}, {"c"}] * 3


def test_a_client_does_not_gain_by_asking_in_many_parts(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue()
    for _ in range(100):
        queue.put(ticket(loop, "many", 10))
    queue.put(ticket(loop, "one", 1000))
    assert Counter(mine.client for mine, _ in queue.take(4 * SLICE)) == {"many": 2 * SLICE, "one": 2 * SLICE}


def test_answers_come_back_in_order_and_what_failed_is_left_out(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue()
    good, gone = ticket(loop, "good", 2), ticket(loop, "gone", 2)
    queue.put(gone)
    queue.put(good)
    gone.fail(ValueError("silent"))
    assert [mine.client for mine in queue.tickets()] == ["gone", "good"]
    batch = queue.take(8)
    assert keys(batch) == ["good-0", "good-1"]
    good.give(1, Choice({"yes": 0.25}))
    assert not good.done.done()
    good.give(0, Choice({"yes": 0.75}))
    assert good.done.result() == [Choice({"yes": 0.75}), Choice({"yes": 0.25})]
    gone.give(0, Choice({}))
    gone.give(1, Choice({}))
    assert isinstance(gone.done.exception(), ValueError)
