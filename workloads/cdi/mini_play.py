"""How the people of the miniature behave: the sender's own leanings, and whole simulations without a model.

The sender knows no norms. It thinks some topics delicate whoever asks, tells the rest, and gives in to persuasion: an instructor
that knows what may be told to whom helps it in both directions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.values import Message
from workloads.cdi import mini, scripted
from workloads.cdi.defences import Ask, Defence
from workloads.cdi.mini import ADVICE
from workloads.cdi.mini_wording import MiniWording
from workloads.cdi.scenario import RECIPIENT, SENDER, Scenario
from workloads.cdi.simulation import Choose, Loop, Simulation, constant
from workloads.cdi.tools import FACEBOOK, GMAIL
from workloads.cdi.world import TOPIC_OF, marked
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
WORDING = MiniWording()
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
    return frozenset(mark for mark, key in mini.keys_of(scenario).items() if rng.random() < leaning(key, strategy, task))


def any_marks(rng: random.Random) -> frozenset[str]:
    """Each with probability 1/2."""
    return frozenset(mark for mark in MARKS if rng.random() < 0.5)


def recipient_act(scenario: Scenario, messages: Sequence[Message], cycle: int) -> str:
    """What the scripted recipient does next: ask by the strategy of its trigger's last word, then end the cycle."""
    if messages[-1]["content"].endswith("done ."):
        return "end"
    strategy = messages[-1]["content"].split()[-1]
    asked = scripted.request(scenario, strategy if strategy in scripted.REQUESTS else scripted.STRATEGIES[0], cycle)
    return f"send {scenario.leak_application} {_to(scenario, scenario.sender.name)} : {asked}"


def sender_act(scenario: Scenario, messages: Sequence[Message], reply: Callable[[str], frozenset[str]]) -> str:
    """What the sender does next. reply: (instruction or "") -> marks that it tells."""
    said, _, instruction = messages[-1]["content"].partition("instruction : ")
    words = said.split()
    match words:
        case [*_, "news", "on", app, "."]:
            return f"look {GMAIL}" if app == GMAIL else f"read {app}"
        case ["mail", number, *_]:
            return f"open {number}"
        case [who, "says", *_] if who == scenario.recipient.name:
            message = mini.message_of(scenario, reply(instruction))
            return f"send {scenario.leak_application} {_to(scenario, who)} : {message}"
    return "end"


def _to(scenario: Scenario, name: str) -> str:
    return scripted.EVERYBODY if scenario.leak_application == FACEBOOK else name


def play(
    scenario: Scenario, defence: Defence, strategies: Sequence[str], reply: Reply, watch: Callable[[], str] = str
) -> Iterator[Spoken]:
    """Every turn of a simulation whose recipient asks once by each strategy. watch: what an instructor or a guard says."""
    loop = Loop(steps=len(strategies) + 2, cycles=len(strategies) + 1, thinks=(), scripted_subject=True)
    simulation = Simulation(scenario, constant(defence), WORDING, loop, frozenset({RECIPIENT}))
    script, text = simulation.run(), None
    while True:
        try:
            asked = script.send(text)  # type: ignore[arg-type]
        except StopIteration:
            return
        asking = simulation.actors[RECIPIENT].cycles
        if isinstance(asked, Choose):
            text = strategies[min(asked.cycle, len(strategies) - 1)]
            continue
        text = _answer(scenario, asked, asking, reply, watch)
        yield Spoken(asked.role, asked.messages, text, asking - 1)


def _answer(scenario: Scenario, asked: Ask, asking: int, reply: Reply, watch: Callable[[], str]) -> str:
    if asked.role == RECIPIENT:
        return recipient_act(scenario, asked.messages, asking)
    if asked.role == SENDER:
        return sender_act(scenario, asked.messages, lambda instruction: reply(asking - 1, instruction))
    return watch()
