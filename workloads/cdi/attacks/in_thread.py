"""Work that drives itself, such as a learner's loop, as a generator of what it asks: it runs in a thread of its own, and its calls go
out and their answers come in by two queues."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

from orchestrator.values import Answer, Call
from workloads.cdi.playing import Asking

T = TypeVar("T")
Ask = Callable[[Sequence[Call]], Sequence[Answer]]
"""Answers a batch, in order."""


class Unheard(BaseException):
    """Raised where the work asks and nobody will answer any more. No `Exception`: what recovers from errors must not go on."""


def in_thread(work: Callable[[Ask], T]) -> Asking[T]:
    """Yields what `work` asks and returns what it returns, or raises what it raises. The thread has ended when this has, however."""
    asked: SimpleQueue[Sequence[Call] | None] = SimpleQueue()
    answered: SimpleQueue[Sequence[Answer] | None] = SimpleQueue()
    outcome: Future[T] = Future()

    def ask(calls: Sequence[Call]) -> Sequence[Answer]:
        asked.put(calls)
        answers = answered.get()
        if answers is None:
            answered.put(None)  # also for whoever asks on
            raise Unheard
        return answers

    def run() -> None:
        try:
            outcome.set_result(work(ask))
        except BaseException as error:
            outcome.set_exception(error)
        finally:
            asked.put(None)

    thread = Thread(target=run, name="asking", daemon=True)
    thread.start()
    try:
        while (calls := asked.get()) is not None:
            answered.put((yield calls))
    finally:
        answered.put(None)
        thread.join()
    return outcome.result()


def finished(asking: Asking[T], ask: Ask) -> T:
    """What it returns when each of its batches is answered by `ask`."""
    answers: Sequence[Answer] | None = None
    while True:
        try:
            calls = asking.send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            result: T = end.value
            return result
        answers = ask(calls)
