"""The miniature law: a generated penal code and cases under it, with exact answers to LegalΔ's five tasks.

A case is a story of numbered sentences about two people, one of whom is the accused: who he is, what he took and how, whether he gave
himself up, what he said; the same of the other one, which must not be counted, and things that do not matter. Under the code
- his station and each of his acts make a charge, neither does alone;
- each charge and each circumstance has an article; arrest and statement together make the circumstance;
- the values of what he took add up to the amount, which falls into one of four tiers;
- charge and tier give the base of the sentence, in months, which the circumstance raises or lowers.
So every answer takes several steps from the facts, more than one look at them gives.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.values import stable_hash
from workloads.legal_delta.answers import Kind, written
from workloads.legal_delta.world_words import (
    ACCUSED,
    ACTS,
    ARRESTS,
    ARTICLES,
    CHARGES,
    CIRCUMSTANCES,
    IDLE,
    INCIDENTS,
    LETTERS,
    MARKS,
    OTHERS,
    STATEMENTS,
    STATIONS,
    THINGS,
    TIERS,
    YUAN,
)

TOTALS = range(INCIDENTS[0] * min(YUAN), INCIDENTS[1] * max(YUAN) + 1, 1000)
"""Amounts that occur."""
LEAST = (18, 24, 30, 36)
"""Months of a charge's lowest tier."""
STEP = 12
"""Months from a tier to the next."""
SHIFTS = dict(zip(CIRCUMSTANCES, (-12, -6, 0, 6), strict=True))
"""Months that each circumstance adds."""
BASES = range(min(LEAST), max(LEAST) + STEP * (len(TIERS) - 1) + 1, 6)
MONTHS = range(BASES[0] + min(SHIFTS.values()), BASES[-1] + max(SHIFTS.values()) + 1, 6)
"""Months that occur before and after the circumstance."""
STATION, ACT, ARREST, STATEMENT = "station", "act", "arrest", "statement"
SLOTS = {STATION: STATIONS, ACT: ACTS, ARREST: ARRESTS, STATEMENT: STATEMENTS}
"""What facts say of somebody."""
CIRCUMSTANCE, TIER = "情节", "数额"
"""What multiple choice asks about."""
TOPICS = {CIRCUMSTANCE: CIRCUMSTANCES, TIER: TIERS}
"""Its options, in the order of their letters."""


@dataclass(frozen=True, slots=True)
class Law:
    """A penal code. charges: by station and act. articles: number by charge and circumstance. ceilings: highest amount of each tier
    but the last, yuan. least: months of each charge's lowest tier."""

    charges: Mapping[tuple[str, str], str]
    articles: Mapping[str, int]
    ceilings: tuple[int, ...]
    least: Mapping[str, int]

    @classmethod
    def enact(cls, seed: int) -> Law:
        """The code of a seed. Each charge stands for two pairs of different station and act."""
        rng = random.Random(stable_hash("penal code", seed))
        names = rng.sample(CHARGES, len(CHARGES))
        half = len(ACTS)
        charges = {
            (station, act): names[half * (row % 2) + (column + row) % half]
            for row, station in enumerate(rng.sample(STATIONS, len(STATIONS)))
            for column, act in enumerate(ACTS)
        }
        titles = (*CIRCUMSTANCES, *CHARGES)
        first = rng.choice((3000, 4000))
        return cls(
            charges,
            dict(zip(titles, rng.sample(ARTICLES, len(titles)), strict=True)),
            (first, first + 2000, first + 4000),
            {charge: LEAST[place % len(LEAST)] for place, charge in enumerate(rng.sample(CHARGES, len(CHARGES)))},
        )

    def tier(self, total: int) -> str:
        """Of an amount in yuan."""
        return TIERS[bisect_left(self.ceilings, total)]

    def base(self, charge: str, tier: str) -> int:
        """Months before the circumstance."""
        return self.least[charge] + STEP * TIERS.index(tier)


def circumstance_of(arrest: str, statement: str) -> str:
    """What arrest and statement make together."""
    return CIRCUMSTANCES[2 * STATEMENTS.index(statement) + ARRESTS.index(arrest)]


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence of a story. mark: its number. who: whom it is about, "" for nobody. slot: of `SLOTS`, or "" for what does not matter.
    word: what fills the slot. thing, yuan: what was taken and its worth."""

    mark: str
    who: str
    slot: str
    word: str
    thing: str = ""
    yuan: int = 0

    @property
    def text(self) -> str:
        """The sentence behind its mark."""
        link = "是" if self.slot == STATION else ""
        worth = f"{self.thing}{self.yuan}元" if self.yuan else ""
        return f"{self.mark}{self.who}{link}{self.word}{worth}。"


@dataclass(frozen=True, slots=True)
class MiniCase:
    """One task about one story. topic: of multiple choice, else empty."""

    id: str
    kind: Kind
    law: Law
    accused: str
    facts: tuple[Fact, ...]
    topic: str

    @property
    def story(self) -> str:
        """The facts as text."""
        return "".join(fact.text for fact in self.facts)

    def of(self, slot: str) -> tuple[Fact, ...]:
        """The facts about the accused that fill the slot, in the order of the story."""
        return tuple(fact for fact in self.facts if (fact.who, fact.slot) == (self.accused, slot))

    @property
    def charges(self) -> tuple[str, ...]:
        """Of the accused, each once, in the order of the story."""
        (station,) = self.of(STATION)
        return tuple(dict.fromkeys(self.law.charges[station.word, act.word] for act in self.of(ACT)))

    @property
    def circumstance(self) -> str:
        """Of the accused."""
        (arrest,), (statement,) = self.of(ARREST), self.of(STATEMENT)
        return circumstance_of(arrest.word, statement.word)

    @property
    def total(self) -> int:
        """What the accused took, yuan."""
        return sum(act.yuan for act in self.of(ACT))

    @property
    def months(self) -> int:
        """The sentence for the first charge."""
        return self.law.base(self.charges[0], self.law.tier(self.total)) + SHIFTS[self.circumstance]

    @property
    def letter(self) -> str:
        """Of the right option."""
        right = self.circumstance if self.topic == CIRCUMSTANCE else self.law.tier(self.total)
        return LETTERS[TOPICS[self.topic].index(right)]

    @property
    def answer(self) -> str:
        """The right answer in its form."""
        if self.kind is Kind.ARTICLE:
            return written(self.kind, *(self.law.articles[title] for title in (*self.charges, self.circumstance)))
        if self.kind is Kind.CHARGE:
            return written(self.kind, *self.charges)
        if self.kind is Kind.SENTENCE:
            return written(self.kind, self.months)
        return written(self.kind, self.total if self.kind is Kind.AMOUNT else self.letter)

    @property
    def asked(self) -> str:
        """What the task gives beside the facts: who is accused, and what the published task gives."""
        told = f"被告人:{self.accused}。"
        if self.kind in (Kind.ARTICLE, Kind.SENTENCE):
            told += f"罪名:{';'.join(self.charges)}。"
        if self.kind is Kind.SENTENCE:
            told += f"法条:刑法第{self.law.articles[self.charges[0]]}条。"
        if self.kind is Kind.CHOICE:
            options = zip(LETTERS, TOPICS[self.topic], strict=True)
            told += f"{self.topic}:{''.join(letter + option for letter, option in options)}。"
        return told


def make_cases(counts: Mapping[str, int], seed: int) -> dict[str, tuple[MiniCase, ...]]:
    """Cases by split, the five tasks in turn, all of different stories and under one code.

    counts: cases by split, of "eval", "train", "test", "warmup", "traces". The first n cases of a split do not depend on how many are
    asked for, and no split on those that come later in this order.
    """
    law, kinds = Law.enact(seed), tuple(Kind)
    seen: set[str] = set()
    splits: dict[str, tuple[MiniCase, ...]] = {}
    for split in ("eval", "train", "test", "warmup", "traces"):
        rng = random.Random(stable_hash("legal cases", split, seed))
        cases: list[MiniCase] = []
        while len(cases) < counts.get(split, 0):
            number = len(cases)
            case = _drawn(f"{split}-{number}", kinds[number % len(kinds)], law, rng)
            if case.story not in seen:
                seen.add(case.story)
                cases.append(case)
        splits[split] = tuple(cases)
    return splits


def _drawn(id: str, kind: Kind, law: Law, rng: random.Random) -> MiniCase:
    """A case whose sentences stand in any order: all that decides, a deed of the other one, and what else there is room for."""
    accused, other = ACCUSED, rng.choice(OTHERS)
    acts = rng.sample(ACTS, 1 if kind is Kind.SENTENCE else 2)
    needed = [_told(accused, slot, rng) for slot in (STATION, ARREST, STATEMENT)]
    needed += [_taken(accused, rng.choice(acts), rng) for _ in range(rng.choice(INCIDENTS))]
    spare = [_told(other, slot, rng) for slot in (STATION, ARREST, STATEMENT)]
    spare.append(Fact("", "", "", rng.choice(IDLE)))
    facts = [*needed, _taken(other, rng.choice(ACTS), rng)]
    facts += rng.sample(spare, len(MARKS) - len(facts))
    rng.shuffle(facts)
    marked = tuple(replace(fact, mark=mark) for mark, fact in zip(MARKS, facts, strict=True))
    topic = rng.choice(tuple(TOPICS)) if kind is Kind.CHOICE else ""
    return MiniCase(id, kind, law, accused, marked, topic)


def _told(who: str, slot: str, rng: random.Random) -> Fact:
    return Fact("", who, slot, rng.choice(SLOTS[slot]))


def _taken(who: str, act: str, rng: random.Random) -> Fact:
    return Fact("", who, ACT, act, rng.choice(THINGS), rng.choice(YUAN))
