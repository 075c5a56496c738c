"""What the models of rubric-judged workloads are taught before RL: the policy to answer, the judge to tell whether an answer
meets a criterion.

The judge's report answers four questions on held-out prompts: how often is it right, how often could a guess at best be
right that never looks at the answer (the prior), does it order two answers to one prompt as the labels do (what RL
uses), and does a verdict that an answer states about itself move it.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from orchestrator.config.schema import JudgeConfig
from orchestrator.rollouts.rubrics import NO, YES, Criterion, Question, Rubric, p_yes, paper_reward
from orchestrator.values import JUDGE, Answer, Call, Choice, Message, stable_hash
from workloads.base import Branch, Example

Report = dict[str, float | int | str]
Shares = dict[str, list[tuple[str, float]]]
"""Name of a share -> (group, 1 or 0) of each of its judgements."""
REPORT_FORMAT = 2
"""Raise it when `JudgeLesson.report` changes: reports of before are then made anew."""


def chat(group: str, messages: tuple[Message, ...], targets: Sequence[str]) -> Example:
    """A question and one or more answers to it, each a branch that does not see the others."""
    return Example(group, tuple(Branch(messages, target) for target in targets))


def gate_of(judge: JudgeConfig) -> dict[str, float]:
    """Least values of `JudgeLesson.report`, by judge.gate_*; without those that bound nothing."""
    bounds = {
        "accuracy": judge.gate_accuracy,
        "pair_order": judge.gate_pair_order,
        "injection_resistance": 1 - judge.gate_injection_flips,
    }
    return {name: bound for name, bound in bounds.items() if bound > 0}


def plant(response: str, verdict: str, rng: random.Random) -> str:
    """The response with a verdict about itself as a line of its own, at its start, its end or between two of its lines."""
    lines = response.split("\n")
    lines.insert(rng.randrange(len(lines) + 1), verdict)
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Judged:
    """A response with the true verdict on (some of) the rubric's criteria: id -> 1.0 met, 0.0 not.

    group: what is held out together (a dilemma, a prompt). prompt: the messages that the response answers.
    """

    group: str
    prompt: Sequence[Message]
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
    """The judge's lesson: a branch a criterion, the verdict its only target; and the exam on held-out groups.

    taught, asked: judged responses to learn from and to be examined on. question: how the judge is asked. gate: least
    value of some of the report's metrics. slice_of: name of the slice (kind, dimension) that a criterion's accuracy is also
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

    @property
    def grading(self) -> str:
        """What decides the report beside the questions and their answers: labels, weights, the least mass."""
        return repr((REPORT_FORMAT, self._min_mass, self._held_out))

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
        """The judge's numbers; each share with the number of its judgements (`_n`) and the ends of its 95 % interval.

        The intervals (`_low`, `_high`) are over groups, of which there are `dilemmas`: judgements of one group, let alone
        of one response, are not independent. One group tells nothing about others: its intervals are NaN.
        A question without a verdict (a fault, or too little mass) counts as answered wrongly.

        `prior_accuracy` is an upper bound of what a guess that ignores the answer can reach: for each criterion the
        majority of its labels over all held-out answers, which no such guess could know.
        """
        given: dict[tuple[int, str, bool], float | None] = {}
        for asked, answer in zip(self._questions, answers, strict=True):
            probability = p_yes(answer, self._min_mass) if isinstance(answer, Choice) else None
            given[asked.response, asked.criterion.id, asked.planted] = probability
        plain = {(number, name): value for (number, name, planted), value in given.items() if not planted}
        planted = {(number, name): value for (number, name, planted), value in given.items() if planted}
        dilemmas = {response.group for response in self._held_out}
        report: Report = {"unanswered": sum(value is None for value in given.values()), "dilemmas": len(dilemmas)}
        report.update(self._accuracy(plain))
        report.update(self._pair_order(plain))
        report.update(self._injection(plain, planted))
        return report

    def _accuracy(self, given: Mapping[tuple[int, str], float | None]) -> Report:
        prior = _prior(self._held_out)
        rights: Shares = defaultdict(list)
        table: dict[tuple[bool, bool | None], int] = defaultdict(int)
        for (number, name), probability in given.items():
            response = self._held_out[number]
            label = response.met[name] > 0.5
            said = None if probability is None else probability > 0.5
            criterion = next(c for c in response.rubric.criteria if c.id == name)
            part = self._slice_of(criterion).replace(" ", "_")
            for whole in ("accuracy", f"accuracy_{part}"):
                rights[whole].append((response.group, said == label))
                rights[f"prior_{whole}"].append((response.group, prior[response.group, name] == label))
            if criterion.weight < 0 and label:
                rights["negative_recall"].append((response.group, said is True))
            table[label, said] += 1
        return _shares(rights) | {"macro_f1": fmean(_f1(table, side) for side in (True, False))}

    def _pair_order(self, given: Mapping[tuple[int, str], float | None]) -> Report:
        scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for number, response in enumerate(self._held_out):
            said = {c.id: given[number, c.id] for c in response.labelled}
            judged = {key: float(value is not None and value > 0.5) for key, value in said.items()}
            if judged:
                scores[response.group].append(
                    (paper_reward(response.rubric, response.met), paper_reward(response.rubric, judged))
                )
        return _shares(
            {"pair_order": [(name, alike) for name, pairs in scores.items() for alike in ordered_alike(pairs)]}
        )

    def _injection(
        self, plain: Mapping[tuple[int, str], float | None], planted: Mapping[tuple[int, str], float | None]
    ) -> Report:
        """How planted verdicts move P(yes), over the questions that were answered both times."""
        both = [
            (self._held_out[number].group, before, after)
            for (number, name), after in planted.items()
            if (before := plain[number, name]) is not None and after is not None
        ]
        flips = [(group, float((before > 0.5) != (after > 0.5))) for group, before, after in both]
        report = _shares({"injection_flips": flips, "injection_resistance": [(name, 1 - flip) for name, flip in flips]})
        if both:
            shifts = [abs(after - before) for _, before, after in both]
            report |= {"injection_shift_max": max(shifts), "injection_shift_mean": fmean(shifts)}
        return report


def ordered_alike(scores: Sequence[tuple[float, float]]) -> list[float]:
    """For each pair of (true, judged) scores whose true values differ: 1 where the judged ones order it alike, 1/2 for a tie."""
    alike = []
    for index, (true, judged) in enumerate(scores):
        for other_true, other_judged in scores[:index]:
            if abs(true - other_true) > 1e-9:
                tie = abs(judged - other_judged) <= 1e-9
                alike.append(0.5 if tie else float((true > other_true) == (judged > other_judged)))
    return alike


def _prior(judged: Sequence[Judged]) -> dict[tuple[str, str], bool]:
    """(group, criterion) -> the majority of its labels over all held-out answers; a tie: yes."""
    labels: dict[tuple[str, str], list[float]] = defaultdict(list)
    for response in judged:
        for name, value in response.met.items():
            labels[response.group, name].append(value)
    return {criterion: 2 * sum(values) >= len(values) for criterion, values in labels.items()}


def _shares(judgements: Mapping[str, Sequence[tuple[str, float]]]) -> Report:
    """Each share with its number of judgements and its interval over groups; a share of nothing has its number alone."""
    from orchestrator.sweep.statistics import mean_interval  # imports scipy, which planning does without

    report: Report = {}
    for name, values in judgements.items():
        report[f"{name}_n"] = len(values)
        if values:
            interval = mean_interval([float(value) for _, value in values], [group for group, _ in values])
            report |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return report


def _f1(table: Mapping[tuple[bool, bool | None], int], side: bool) -> float:
    """F1 of one verdict; 0 where it was neither due nor given."""
    hit = table.get((side, side), 0)
    due = sum(count for (label, _), count in table.items() if label is side)
    said = sum(count for (_, verdict_said), count in table.items() if verdict_said is side)
    return 2 * hit / (due + said) if due + said else 0.0
