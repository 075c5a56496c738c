"""What the models of rubric-judged workloads are taught before RL: the policy to answer, the judge to tell whether an answer
meets a criterion.

The judge's report answers these questions on held-out prompts: how often is it right, how often could a guess at best be
right that never looks at the answer (the prior), are its probabilities what they say, how far are its rewards off, does it
order answers to one prompt as the labels do (what RL uses), and does a verdict that an answer states about itself move it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from types import MappingProxyType

from orchestrator.config.schema import JudgeConfig
from orchestrator.rollouts.rubrics import NO, YES, Criterion, Question, p_yes
from orchestrator.values import JUDGE, Answer, Call, Choice, Group, Message, stable_hash
from workloads.base import Branch, Example
from workloads.exams import Graded, Judged, Report, Slice, exam_groups, numbers_of, shares

REPORT_FORMAT = 3
"""Raise it when `JudgeLesson.report` changes: reports of before are then made anew."""


def chat(group: str, messages: tuple[Message, ...], targets: Sequence[str]) -> Example:
    """A question and one or more answers to it, each a branch that does not see the others."""
    return Example(group, tuple(Branch(messages, target) for target in targets))


def gate_of(judge: JudgeConfig) -> dict[str, float]:
    """Least values of `JudgeLesson.report`, by judge.gate_*; without those that bound nothing."""
    bounds = {
        "accuracy": judge.gate_accuracy,
        "pair_order": judge.gate_pair_order,
        "rank_correlation": judge.gate_rank_correlation,
        "injection_resistance": 1 - judge.gate_injection_flips,
    }
    return {name: bound for name, bound in bounds.items() if bound > 0}


def plant(response: str, verdict: str, rng: random.Random) -> str:
    """The response with a verdict about itself as a line of its own, at its start, its end or between two of its lines."""
    lines = response.split("\n")
    lines.insert(rng.randrange(len(lines) + 1), verdict)
    return "\n".join(lines)


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
    """The judge's lesson: a branch a criterion, the verdict its only target; and the exam on held-out groups.

    taught, asked: judged responses to learn from and to be examined on. question: how the judge is asked. gate: least
    value of some of the report's metrics. slice_of: name of the slice (kind, dimension) that a criterion's accuracy is also
    reported under. notes: what else the report is to hold, such as how many labels could not be had.
    """

    role = JUDGE
    end_token = False

    def __init__(
        self,
        taught: Sequence[Judged],
        asked: Sequence[Judged],
        question: Question,
        gate: Mapping[str, float],
        slice_of: Slice,
        min_mass: float,
        planting: Planting,
        notes: Mapping[str, int | str] = MappingProxyType({}),
    ) -> None:
        self._taught, self._held_out, self._notes = taught, asked, dict(notes)
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

    @property
    def grading(self) -> str:
        """What decides the report beside the questions and their answers: labels, weights, the least mass."""
        return repr((REPORT_FORMAT, self._min_mass, self._held_out, self._notes))

    def examples(self) -> Sequence[Example]:
        """One example a response with at least one label."""
        return [
            Example(
                judged.group,
                tuple(
                    Branch(self._question(judged.prompt, judged.text, c), YES if judged.met[c.id] > 0.5 else NO)
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
            # One server answers all questions about a text, so that its prefix cache holds it.
            route = f"exam/{asked.response}/{asked.planted}"
            question = self._question(self._held_out[asked.response].prompt, text, asked.criterion)
            calls.append(Call(key, self.role, question, choices=(YES, NO), route=route))
        return calls

    def report(self, answers: Sequence[Answer]) -> Report:
        """The judge's numbers, as `workloads.exams` defines them; `dilemmas` is how many groups the intervals are over.

        A question without a verdict (a fault, or too little mass) counts as answered wrongly.
        """
        given = self._given(answers)
        dilemmas = {response.group for response in self._held_out}
        report: Report = {"unanswered": sum(value is None for value in given.values()), "dilemmas": len(dilemmas)}
        report |= self._notes | numbers_of(self._graded(given), self._slice_of)
        return report | self._injection(given)

    def episodes(self, answers: Sequence[Answer]) -> tuple[list[Group], dict[str, float], dict[str, dict[str, float]]]:
        """The exam's plain questions as episodes; see `exams.exam_groups`."""
        return exam_groups(self._graded(self._given(answers)))

    def _given(self, answers: Sequence[Answer]) -> dict[_Asked, float | None]:
        """P(yes) of each question; None where there is no verdict."""
        return {
            asked: p_yes(answer, self._min_mass) if isinstance(answer, Choice) else None
            for asked, answer in zip(self._questions, answers, strict=True)
        }

    def _graded(self, given: Mapping[_Asked, float | None]) -> list[Graded]:
        return [
            Graded(response, {c.id: given[_Asked(number, c, False)] for c in response.labelled})
            for number, response in enumerate(self._held_out)
        ]

    def _injection(self, given: Mapping[_Asked, float | None]) -> Report:
        """How planted verdicts move P(yes), over the questions that were answered both times."""
        both = [
            (self._held_out[asked.response].group, before, after)
            for asked, after in given.items()
            if asked.planted and (before := given[replace(asked, planted=False)]) is not None and after is not None
        ]
        flips = [(group, float((before > 0.5) != (after > 0.5))) for group, before, after in both]
        report = shares({"injection_flips": flips, "injection_resistance": [(name, 1 - flip) for name, flip in flips]})
        if both:
            shifts = [abs(after - before) for _, before, after in both]
            report |= {"injection_shift_max": max(shifts), "injection_shift_mean": fmean(shifts)}
        return report
