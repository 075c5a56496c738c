"""Searches of CDI whose models are functions: a sender that says what a test lets it, an optimiser that follows a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fakes.answerers import FakeAnswerer

from orchestrator.records.folder import RunFolder
from orchestrator.values import Answer, Call, Fault, Gathered, Turn
from workloads.cdi import Workload, mini_play
from workloads.cdi.optimiser import OPTIMISER
from workloads.cdi.playing import Asking
from workloads.cdi.scenario import SENDER, Scenario

URL = "http://localhost:1/v1"
SMALL = ("data.train_groups=3", "data.eval_groups=2", "data.test_groups=1", f"sender={URL}", "attack.cycles=1")
Says = Callable[[Scenario, Call], frozenset[str]]
"""The marks of the facts that a sender tells."""


def turn(call: Call, text: str) -> Turn:
    return Turn(call.role, (), (), (), text, "stop", 1.0, 0, call.seed)


def models(
    made: Workload,
    says: Says,
    optimiser: Callable[[Call], str] = lambda call: "",
    lost: Callable[[Call], bool] = lambda call: False,
) -> Callable[[Call, int], Answer]:
    """One function that is sender and optimiser. lost: calls that nobody answers."""
    known = made.simulations.scenarios_by_id

    def answer(call: Call, attempt: int) -> Answer:
        if lost(call):
            return Fault("no connection")
        if call.role == OPTIMISER:
            return turn(call, optimiser(call))
        assert call.role == SENDER
        scenario = known[call.route]
        return turn(call, mini_play.sender_act(scenario, call.messages, lambda instruction: says(scenario, call)))

    return answer


def evidence(call: Call) -> list[dict[str, Any]]:
    """The simulations that an optimiser is shown now."""
    return [json.loads(line) for line in call.messages[-1]["content"].splitlines()[1:]]


def asked_of(fleet: FakeAnswerer, role: str) -> Iterator[Call]:
    return (call for batch in fleet.batches for call in batch if call.role == role)


def kept(found: Gathered, folder: RunFolder) -> None:
    """As a run keeps what it gathered."""
    folder.labels.write_text("".join(f"{json.dumps(row)}\n" for row in found.rows))


def driven(asking: Asking[Any], answer: Callable[[Call], Answer]) -> tuple[Any, list[Sequence[Call]]]:
    """What a generator of calls returns, and the batches that it asked."""
    batches: list[Sequence[Call]] = []
    answers: list[Answer] | None = None
    while True:
        try:
            batches.append(asking.send(answers))  # type: ignore[arg-type]
        except StopIteration as end:
            return end.value, batches
        answers = [answer(call) for call in batches[-1]]
