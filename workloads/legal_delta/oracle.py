"""How the miniature law's answers are found: step by step, soundly or with slips, and how much of a reasoning is right.

A reasoning is a row of steps, each with its stop: what a numbered sentence says, a sum so far, a tier, a circumstance, an article,
months. "③窃取贪污。" is the act of the third sentence and the charge that it makes with the station of the accused.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from workloads.legal_delta import answers
from workloads.legal_delta.answers import Kind
from workloads.legal_delta.world import (
    ACT,
    ARREST,
    BASES,
    CIRCUMSTANCE,
    LETTERS,
    MONTHS,
    SHIFTS,
    SLOTS,
    STATEMENT,
    STATION,
    TIER,
    TOPICS,
    MiniCase,
    circumstance_of,
)
from workloads.legal_delta.world_words import CHARGES, CIRCUMSTANCES, TIERS, YUAN

STOP = "。"
FLAWS = ("tags", "unmarked", "unended", "pad")
"""Of form: a tag is missing; the answer has no marker; it has no end; something stands behind the last tag."""
FLAWED = 1 / 8
"""Share of a teacher's completions with a flaw of form."""
FILLER = "再想想"
Thought = Callable[[str, Sequence[str]], str]
"""(what is so, what it could be instead) -> what is thought."""


class Derivation:
    """The steps and the answer of somebody who reads and infers by `think`. What follows from a wrong step is wrong with it."""

    def __init__(self, case: MiniCase, think: Thought) -> None:
        self.case, self.think = case, think
        self.steps: list[str] = []
        find = {
            Kind.ARTICLE: self._articles,
            Kind.CHARGE: self._charges,
            Kind.SENTENCE: self._months,
            Kind.AMOUNT: self._total,
            Kind.CHOICE: self._letter,
        }[case.kind]
        found = find()
        self.answer = answers.written(case.kind, *(found if isinstance(found, tuple) else (found,)))

    def _read(self, slot: str) -> str:
        (fact,) = self.case.of(slot)
        word = self.think(fact.word, SLOTS[slot])
        self.steps.append(f"{fact.mark}{word}")
        return word

    def _charges(self) -> tuple[str, ...]:
        station, found = self._read(STATION), []
        for fact in self.case.of(ACT):
            act = self.think(fact.word, SLOTS[ACT])
            found.append(self.think(self.case.law.charges[station, act], CHARGES))
            self.steps.append(f"{fact.mark}{act}{found[-1]}")
        return tuple(dict.fromkeys(found))

    def _article(self, title: str) -> str:
        numbers = self.case.law.articles
        number = self.think(str(numbers[title]), [str(number) for number in numbers.values()])
        self.steps.append(f"{title}{number}条")
        return number

    def _articles(self) -> tuple[str, ...]:
        return (*map(self._article, self.case.charges), self._article(self._circumstance()))

    def _circumstance(self) -> str:
        found = self.think(circumstance_of(self._read(ARREST), self._read(STATEMENT)), CIRCUMSTANCES)
        self.steps.append(f"{CIRCUMSTANCE}{found}")
        return found

    def _total(self) -> int:
        total = 0
        for number, fact in enumerate(self.case.of(ACT)):
            yuan = self.think(str(fact.yuan), [str(value) for value in YUAN])
            self.steps.append(f"{fact.mark}{yuan}元")
            total += int(yuan)
            if number:
                likely = range((number + 1) * min(YUAN), (number + 1) * max(YUAN) + 1, 1000)
                total = int(self.think(str(total), [str(value) for value in likely]))
                self.steps.append(f"合计{float(total)}元")
        return total

    def _tier(self) -> str:
        found = self.think(self.case.law.tier(self._total()), TIERS)
        self.steps.append(f"{TIER}{found}")
        return found

    def _months(self) -> int:
        base = int(
            self.think(str(self.case.law.base(self.case.charges[0], self._tier())), [str(value) for value in BASES])
        )
        self.steps.append(f"基准{base}月")
        months = int(self.think(str(base + SHIFTS[self._circumstance()]), [str(value) for value in MONTHS]))
        self.steps.append(f"刑期{months}月")
        return months

    def _letter(self) -> str:
        found = self._circumstance() if self.case.topic == CIRCUMSTANCE else self._tier()
        return LETTERS[TOPICS[self.case.topic].index(found)]


def steps(case: MiniCase) -> tuple[str, ...]:
    """The right ones, without their stops."""
    return tuple(Derivation(case, lambda truth, _: truth).steps)


def reasoned(case: MiniCase, rng: random.Random | None = None, slips: float = 0.0) -> str:
    """A whole completion with its reasoning. rng: of a teacher, who makes a flaw of form one time in eight, and with the probability
    `slips` a wrong step of each right one; without it nothing is wrong."""
    if rng is None:
        return _completion(Derivation(case, lambda truth, _: truth))
    text = _completion(Derivation(case, _slipping(rng, slips)))
    return _flawed(text, rng) if rng.random() < FLAWED else text


def direct(case: MiniCase) -> str:
    """The completion where no reasoning is asked for."""
    return answers.direct(case.answer)


def reasoning_quality(needed: Sequence[str], reasoning: str) -> float:
    """How much of a reasoning is right, 0 to 1: the F1 of its steps against the needed ones, in any order, a step said twice counting
    twice against it. needed: `steps` of the case. reasoning: what stands between the tags."""
    said = [step.strip() for step in reasoning.split(STOP) if step.strip()]
    right = (Counter(said) & Counter(needed)).total()
    return 2 * right / (len(said) + len(needed))


def _completion(derivation: Derivation) -> str:
    return answers.reasoned("".join(step + STOP for step in derivation.steps), derivation.answer)


def _slipping(rng: random.Random, slips: float) -> Thought:
    def think(truth: str, others: Sequence[str]) -> str:
        return rng.choice([other for other in others if other != truth]) if rng.random() < slips else truth

    return think


def _flawed(text: str, rng: random.Random) -> str:
    flaw = rng.choice(FLAWS)
    if flaw == "pad":
        return text + FILLER
    if flaw == "tags":
        return text.replace(rng.choice(("<reasoning>\n", "\n</reasoning>\n", "<answer>\n", "\n</answer>")), "")
    part = answers.END if flaw == "unended" else str(answers.said(text).marker)
    return text.replace(part, "")
