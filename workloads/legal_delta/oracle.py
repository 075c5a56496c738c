"""How the miniature law's answers are found, step by step, and how much of a reasoning is right.

A reasoning is a row of steps, each with its stop: what the facts say of the accused, a sum so far, a tier, a circumstance, an article,
months. Of what may be there several times the number of the sentence is told: "③窃取贪污。" is the act of the third one and the charge
that it makes with the station of the accused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from workloads.legal_delta import answers
from workloads.legal_delta.answers import Kind
from workloads.legal_delta.world import ACT, ARREST, CIRCUMSTANCE, STATEMENT, STATION, TIER, MiniCase

STOP = "。"


class Derivation:
    """The steps that lead to the answer of a case, without their stops, and what they find."""

    def __init__(self, case: MiniCase) -> None:
        self.case = case
        self.steps: list[str] = []
        {
            Kind.ARTICLE: self._articles,
            Kind.CHARGE: self._charges,
            Kind.SENTENCE: self._months,
            Kind.AMOUNT: self._total,
            Kind.CHOICE: self._circumstance if case.topic == CIRCUMSTANCE else self._tier,
        }[case.kind]()

    def _read(self, slot: str) -> str:
        (fact,) = self.case.of(slot)
        self.steps.append(fact.word)
        return fact.word

    def _charges(self) -> None:
        station = self._read(STATION)
        for fact in self.case.of(ACT):
            self.steps.append(f"{fact.mark}{fact.word}{self.case.law.charges[station, fact.word]}")

    def _articles(self) -> None:
        for charge in self.case.charges:
            self.steps.append(f"{charge}{self.case.law.articles[charge]}条")
        self._circumstance()
        self.steps.append(f"{self.case.circumstance}{self.case.law.articles[self.case.circumstance]}条")

    def _circumstance(self) -> None:
        self._read(ARREST)
        self._read(STATEMENT)
        self.steps.append(f"{CIRCUMSTANCE}{self.case.circumstance}")

    def _total(self) -> None:
        total = 0
        for number, fact in enumerate(self.case.of(ACT)):
            self.steps.append(f"{fact.mark}{fact.yuan}元")
            total += fact.yuan
            if number:
                self.steps.append(f"合计{float(total)}元")

    def _tier(self) -> str:
        self._total()
        tier = self.case.law.tier(self.case.total)
        self.steps.append(f"{TIER}{tier}")
        return tier

    def _months(self) -> None:
        self.steps.append(f"基准{self.case.law.base(self.case.charges[0], self._tier())}月")
        self._circumstance()
        self.steps.append(f"刑期{self.case.months}月")


def steps(case: MiniCase) -> tuple[str, ...]:
    """All that lead to the answer, without their stops."""
    return tuple(Derivation(case).steps)


def reasoned(case: MiniCase, brief: bool = False) -> str:
    """A right completion with its reasoning. brief: of which the last step alone is told."""
    told = steps(case)[-1:] if brief else steps(case)
    return answers.reasoned("".join(step + STOP for step in told), case.answer)


def direct(case: MiniCase) -> str:
    """The completion where no reasoning is asked for."""
    return answers.direct(case.answer)


def reasoning_quality(needed: Sequence[str], reasoning: str) -> float:
    """How much of a reasoning is right, 0 to 1: the F1 of its steps against the needed ones, in any order, a step said twice counting
    twice against it. needed: `steps` of the case. reasoning: what stands between the tags."""
    said = [step.strip() for step in reasoning.split(STOP) if step.strip()]
    right = (Counter(said) & Counter(needed)).total()
    return 2 * right / (len(said) + len(needed))
