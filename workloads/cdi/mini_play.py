"""How the people of the miniature behave: the sender's own leanings, and a moment of a simulation as it is reached by them.

The sender knows no norms. It thinks some topics delicate whoever asks, tells the rest, and gives in to persuasion: an instructor
that knows what may be told to whom helps it in both directions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from workloads.cdi import mini, scripted
from workloads.cdi.mini import ADVICE, Said
from workloads.cdi.scenario import Scenario
from workloads.cdi.world import SENDER_TASK, TOPIC_OF, marked
from workloads.cdi.world_words import DELICATE

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


@dataclass(frozen=True, slots=True)
class Moment:
    """Before the sender writes: what it knows, by which strategy it was asked last, and its task."""

    scenario: Scenario
    messages: tuple[Said, ...]
    strategy: str
    task: str


def leaning(key: str, strategy: str, task: str) -> float:
    """Probability that the sender tells a fact by itself."""
    delicate = TOPIC_OF[key] in DELICATE
    share = LEANING[strategy] if delicate else OPENNESS
    for advice, factors in HEEDED.items():
        if advice in task and (delicate or advice == ADVICE[3]):
            share *= factors.get(strategy, 1.0)
    return share


def by_itself(scenario: Scenario, strategy: str, task: str, rng: random.Random) -> frozenset[str]:
    """The marks of what the sender tells without an instruction."""
    facts = marked(scenario).items()
    return frozenset(mark for mark, phrase in facts if rng.random() < leaning(phrase.split()[0], strategy, task))


def draw_moment(
    scenario: Scenario,
    rng: random.Random,
    cycles: int = 3,
    strategies: Sequence[str] = scripted.STRATEGIES,
    most_advice: int = 2,
) -> Moment:
    """A moment of one of the first action cycles: half of them are of the first, half of the tasks hold advice."""
    reached = rng.randrange(1, cycles) if cycles > 1 and rng.random() < 0.5 else 0
    advised = rng.randint(1, most_advice) if most_advice and rng.random() < 0.5 else 0
    task = " ".join([SENDER_TASK, *rng.sample(ADVICE, advised)])
    said: list[Said] = [(scenario.subject.name, scripted.told(scenario))]
    strategy = ""
    for cycle in range(reached + 1):
        if cycle:
            # Earlier messages may have been instructed: any set of marks.
            told = {mark for mark in marked(scenario) if rng.random() < 0.5}
            said.append((scenario.sender.name, mini.message_of(scenario, told)))
        strategy = rng.choice(tuple(strategies))
        said.append((scenario.recipient.name, scripted.request(scenario, strategy, cycle)))
    return Moment(scenario, tuple(said), strategy, task)
