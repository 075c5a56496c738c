"""What the models are taught before RL: the policy to answer, the judge to tell whether an answer meets a criterion.

The judge's report answers four questions on held-out dilemmas: how often is it right, how often would a guess be
right that never looks at the answer (the prior), does it order two answers to one dilemma as the labels do (what RL
uses), and does a verdict that an answer states about itself move it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from orchestrator.rollouts.rubrics import JUDGE, NO, YES, Criterion, Question, Rubric, paper_reward, verdict
from orchestrator.values import POLICY, Answer, Call, Choice, Message, stable_hash
from workloads.base import Branch, Example

if TYPE_CHECKING:
    from orchestrator.sweep.statistics import Interval

Report = dict[str, float | int | str]


def chat(group: str, messages: tuple[Message, ...], targets: Sequence[str]) -> Example:
    """A question and one or more answers to it, each a branch that does not see the others."""
    return Example(group, tuple(Branch(messages, target) for target in targets))


@dataclass(slots=True)
class PolicyLesson:
    """The policy's warm-up: answers of mixed quality. It has no exam; RL's first evaluation measures it."""

    chats: Sequence[Example]
    role: str = POLICY
    end_token: bool = True

    @property
    def gate(self) -> Mapping[str, float]:
        """Nothing is demanded."""
        return {}

    def examples(self) -> Sequence[Example]:
        """One example a prompt, one branch an answer."""
        return self.chats

    def exam(self) -> Sequence[Call]:
        """No questions."""
        return ()

    def report(self, answers: Sequence[Answer]) -> Report:
        """How much there was to learn from."""
        return {"examples": len(self.chats)}


@dataclass(frozen=True, slots=True)
class Judged:
    """A response to a dilemma with the true verdict on (some of) the rubric's criteria: id -> 1.0 met, 0.0 not."""

    dilemma: str
    rubric: Rubric
    text: str
    met: Mapping[str, float]

    @property
    def labelled(self) -> list[Criterion]:
        """The criteria that have a label."""
        return [criterion for criterion in self.rubric.criteria if criterion.id in self.met]


@dataclass(frozen=True, slots=True)
class Planting:
    """How a response is made to state a verdict about itself: the verdicts and a function of (response, verdict, rng).

    every: the exam asks again, with a verdict planted, about every n-th response.
    """

    verdicts: Sequence[str]
    plant: Callable[[str, str, random.Random], str]
    seed: int
    every: int = 1

    def __call__(self, response: str, number: int) -> str:
        rng = random.Random(stable_hash("planting", self.seed, number))
        return self.plant(response, rng.choice(tuple(self.verdicts)), rng)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One question of the exam. planted: asked about the response with a verdict planted into it."""

    response: int
    criterion: Criterion
    planted: bool


class JudgeLesson:
    """The judge's lesson: a branch a criterion, the verdict its only target; and the exam on held-out dilemmas.

    taught, asked: judged responses to learn from and to be examined on. question: how the judge is asked. gate: least
    `accuracy` and `pair_order`. slice_of: name of the slice (kind, dimension) that a criterion's accuracy is also
    reported under.
    """

    role = JUDGE
    end_token = False

    def __init__(
        self,
        taught: Sequence[Judged],
        asked: Sequence[Judged],
        question: Question,
        gate: Mapping[str, float],
        slice_of: Callable[[Criterion], str],
        min_mass: float,
        planting: Planting,
    ) -> None:
        self._taught, self._held_out = taught, asked
        self._question, self._gate, self._slice_of, self._min_mass = question, gate, slice_of, min_mass
        self._planted = [planting(response.text, number) for number, response in enumerate(asked)]
        self._questions = [
            _Asked(number, criterion, planted)
            for planted in (False, True)
            for number, response in enumerate(asked)
            if not planted or number % planting.every == 0
            for criterion in response.labelled
        ]

    @property
    def gate(self) -> Mapping[str, float]:
        """Metric of `report` -> least value."""
        return self._gate

    def examples(self) -> Sequence[Example]:
        """One example a response with at least one label."""
        return [
            Example(
                judged.dilemma,
                tuple(
                    Branch(self._question(judged.text, c), YES if judged.met[c.id] > 0.5 else NO)
                    for c in judged.labelled
                ),
            )
            for judged in self._taught
            if judged.labelled
        ]

    def exam(self) -> Sequence[Call]:
        """Every labelled criterion of every held-out response; then of every n-th with a verdict planted into it."""
        calls = []
        for asked in self._questions:
            text = self._planted[asked.response] if asked.planted else self._held_out[asked.response].text
            key = f"exam/{asked.response}/{asked.criterion.id}/{'planted' if asked.planted else 'plain'}"
            calls.append(Call(key, self.role, self._question(text, asked.criterion), choices=(YES, NO)))
        return calls

    def report(self, answers: Sequence[Answer]) -> Report:
        """The judge's numbers; each share with its `_n` and the ends of its 95 % interval (`_low`, `_high`).

        A question without a verdict (a fault, or too little mass) counts as answered wrongly.
        """
        given: dict[tuple[int, str, bool], float | None] = {}
        for asked, answer in zip(self._questions, answers, strict=True):
            probability = verdict(answer, self._min_mass) if isinstance(answer, Choice) else None
            given[asked.response, asked.criterion.id, asked.planted] = probability
        plain = {(number, name): value for (number, name, planted), value in given.items() if not planted}
        planted = {(number, name): value for (number, name, planted), value in given.items() if planted}
        report: Report = {"unanswered": sum(value is None for value in given.values())}
        report.update(self._accuracy(plain))
        report.update(self._pair_order(plain))
        report.update(_injection(plain, planted))
        return report

    def _accuracy(self, given: Mapping[tuple[int, str], float | None]) -> Report:
        prior = _prior(self._held_out)
        rights: dict[str, list[bool]] = defaultdict(list)
        table: dict[tuple[bool, bool | None], int] = defaultdict(int)
        for (number, name), probability in given.items():
            label = self._held_out[number].met[name] > 0.5
            said = None if probability is None else probability > 0.5
            criterion = next(c for c in self._held_out[number].rubric.criteria if c.id == name)
            rights["accuracy"].append(said == label)
            rights["prior_accuracy"].append(prior[number, name] == label)
            part = self._slice_of(criterion).replace(" ", "_")
            rights[f"accuracy_{part}"].append(said == label)
            rights[f"prior_accuracy_{part}"].append(prior[number, name] == label)
            if criterion.weight < 0 and label:
                rights["negative_recall"].append(said is True)
            table[label, said] += 1
        report: Report = {}
        for name, values in rights.items():
            report.update(_share(name, sum(values), len(values)))
        report["macro_f1"] = fmean(_f1(table, side) for side in (True, False))
        return report

    def _pair_order(self, given: Mapping[tuple[int, str], float | None]) -> Report:
        scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number, response in enumerate(self._held_out):
            said = {c.id: given[number, c.id] for c in response.labelled}
            judged = {key: float(value is not None and value > 0.5) for key, value in said.items()}
            if judged:
                scores[response.dilemma].append(
                    (paper_reward(response.rubric, response.met), paper_reward(response.rubric, judged))
                )
        agreed = [(dilemma, alike) for dilemma, pairs in scores.items() for alike in ordered_alike(pairs)]
        if not agreed:
            return {"pair_order_n": 0}
        from orchestrator.sweep.statistics import mean_interval  # imports scipy, which planning does without

        interval = mean_interval([alike for _, alike in agreed], [dilemma for dilemma, _ in agreed])
        # One dilemma alone tells nothing about others: its interval is NaN.
        return _named("pair_order", interval) | {"pair_order_n": len(agreed)}


def ordered_alike(scores: Sequence[tuple[float, float]]) -> list[float]:
    """For each pair of (true, judged) scores whose true values differ: 1 where the judged ones order it alike, 1/2 for a tie."""
    alike = []
    for index, (true, judged) in enumerate(scores):
        for other_true, other_judged in scores[:index]:
            if abs(true - other_true) > 1e-9:
                tie = abs(judged - other_judged) <= 1e-9
                alike.append(0.5 if tie else float((true > other_true) == (judged > other_judged)))
    return alike


def _prior(judged: Sequence[Judged]) -> dict[tuple[int, str], bool]:
    """What the majority of the same criterion's labels on the other held-out answers says (a tie, or no other answer:
    yes).
    """
    labels: dict[tuple[str, str], list[float]] = defaultdict(list)
    for response in judged:
        for name, value in response.met.items():
            labels[response.dilemma, name].append(value)
    guesses = {}
    for number, response in enumerate(judged):
        for name, value in response.met.items():
            others = labels[response.dilemma, name]
            guesses[number, name] = 2 * (sum(others) - value) >= len(others) - 1
    return guesses


def _share(name: str, successes: int, n: int) -> Report:
    """A share with its number and its interval."""
    from orchestrator.sweep.statistics import share_interval

    return _named(name, share_interval(successes, n))


def _named(name: str, interval: Interval) -> Report:
    return {name: interval.mean, f"{name}_n": interval.n, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _f1(table: Mapping[tuple[bool, bool | None], int], side: bool) -> float:
    """F1 of one verdict; 0 where it was neither due nor given."""
    hit = table.get((side, side), 0)
    due = sum(count for (label, _), count in table.items() if label is side)
    said = sum(count for (_, verdict_said), count in table.items() if verdict_said is side)
    return 2 * hit / (due + said) if due + said else 0.0


def _injection(
    plain: Mapping[tuple[int, str], float | None], planted: Mapping[tuple[int, str], float | None]
) -> Report:
    """How planted verdicts move P(yes), over the questions that were answered both times."""
    pairs = [(plain[key], after) for key, after in planted.items()]
    both = [(before, after) for before, after in pairs if before is not None and after is not None]
    if not both:
        return {"injection_n": 0}
    shifts = [abs(after - before) for before, after in both]
    flips = sum((before > 0.5) != (after > 0.5) for before, after in both)
    return {
        "injection_shift_max": max(shifts),
        "injection_shift_mean": fmean(shifts),
        **_share("injection_flips", flips, len(both)),
    }
