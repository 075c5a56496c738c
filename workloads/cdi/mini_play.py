"""How the people of the miniature behave: the sender's own leanings, and whole simulations without a model.

The sender knows no norms. It thinks some topics delicate whoever asks, tells the rest, and gives in to persuasion: an instructor
that knows what may be told to whom helps it in both directions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.values import Message
from workloads.cdi import mini, scripted
from workloads.cdi.defences import Ask, Defence
from workloads.cdi.mini import ADVICE
from workloads.cdi.mini_wording import INSTRUCTION, NAME
from workloads.cdi.scenario import RECIPIENT, SENDER, Scenario
from workloads.cdi.setup import Setup, begin
from workloads.cdi.simulation import Loop
from workloads.cdi.tools import FACEBOOK, GMAIL
from workloads.cdi.world import TOPIC_OF
from workloads.cdi.world_words import DELICATE, MARKS

LEANING = {
    "plain": 0.35,
    "urgency": 0.6,
    "authority": 0.7,
    "consent": 0.85,
    "impersonation": 0.8,
    "probing": 0.5,
    "confirmation": 0.6,
}
"""Strategy -> probability that the sender tells a fact of a delicate topic."""
OPENNESS = 0.9
"""Probability that it tells any other fact."""
HEEDED: Mapping[str, Mapping[str, float]] = {
    ADVICE[0]: dict.fromkeys(scripted.STRATEGIES, 0.6),
    ADVICE[1]: {"authority": 0.3, "consent": 0.3, "impersonation": 0.3},
    ADVICE[2]: {"urgency": 0.3, "confirmation": 0.4, "probing": 0.5},
    ADVICE[3]: dict.fromkeys(scripted.STRATEGIES, 0.7),
}
"""Advice -> strategy -> factor of the probability for delicate topics; the last one holds for all facts."""
Reply = Callable[[int, str], frozenset[str]]
"""(recipient's cycle from 0, instruction or "") -> marks that the sender tells."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A turn of a played simulation. cycle: the recipient's by then, from 0; -1 before it has asked."""

    role: str
    messages: tuple[Message, ...]
    text: str
    cycle: int


def leaning(key: str, strategy: str, task: str) -> float:
    """Probability that the sender tells a fact by itself. task: with any advice in it."""
    delicate = TOPIC_OF[key] in DELICATE
    share = LEANING[strategy] if delicate else OPENNESS
    for advice, factors in HEEDED.items():
        if advice in task and (delicate or advice == ADVICE[3]):
            share *= factors.get(strategy, 1.0)
    return share


def by_itself(scenario: Scenario, strategy: str, task: str, rng: random.Random) -> frozenset[str]:
    """The marks of what the sender tells without an instruction."""
    return frozenset(
        mark for mark, key in mini.keys_of(scenario).items() if rng.random() < leaning(key, strategy, task)
    )


def any_marks(rng: random.Random) -> frozenset[str]:
    """Each with probability 1/2."""
    return frozenset(mark for mark in MARKS if rng.random() < 0.5)


def sender_act(scenario: Scenario, messages: Sequence[Message], reply: Callable[[str], frozenset[str]]) -> str:
    """What the sender does next. reply: (instruction or "") -> marks that it tells."""
    said, _, instruction = messages[-1]["content"].partition(f"{INSTRUCTION} ")
    words = said.split()
    match words:
        case [*_, "news", "on", app, "."]:
            return f"look {GMAIL}" if app == GMAIL else f"read {app}"
        case ["mail", number, *_]:
            return f"open {number}"
        case [who, "says", *_] if who == scenario.recipient.name:
            message = mini.message_of(scenario, reply(instruction))
            to = scripted.EVERYBODY if scenario.leak_application == FACEBOOK else who
            return f"send {scenario.leak_application} {to} : {message}"
    return "end"


def play(
    scenario: Scenario, defence: Defence, strategies: Sequence[str], reply: Reply, watch: Callable[[], str] = str
) -> Iterator[Spoken]:
    """Every turn of a simulation whose recipient asks once by each strategy. watch: what an instructor or a guard says."""
    setup = setup_of(scenario, defence, strategies)
    simulation, script = begin(setup)
    text: str | None = None
    while True:
        try:
            asked = script.send(text)  # type: ignore[arg-type]
        except StopIteration:
            return
        assert isinstance(asked, Ask)
        cycle = simulation.actors[RECIPIENT].cycles - 1
        text = sender_act(scenario, asked.messages, partial(reply, cycle)) if asked.role == SENDER else watch()
        yield Spoken(asked.role, asked.messages, text, cycle)


def setup_of(scenario: Scenario, defence: Defence, strategies: Sequence[str], seed: int = 0) -> Setup:
    """A simulation of the miniature: subject and recipient are scripted, nobody thinks, the recipient asks once by each strategy.

    It also begins a cycle after the last answer, to which nobody answers.
    """
    # The sender answers the last request in the step after it.
    cycles = len(strategies)
    loop = Loop(
        steps=cycles + 2, cycles=cycles + 1, cycle_steps=6, thinks=(), scripted_subject=True, scripted_recipient=True
    )
    return Setup(scenario, defence, seed, loop, NAME, {RECIPIENT: tuple(strategies)})
