"""Rubrics: weighted criteria that a judge answers with yes or no, and the two formulas that make one number of its
answers.

A criterion with a positive weight describes something good to do, one with a negative weight something bad. The
formulas:

- `paper_reward`: "positive and negative rubrics are normalised separately and then subtracted" (arXiv 2603.10588,
  section 3);
- `official_score`: MoReBench's own score (arXiv 2510.16380): the share of all weight that was earned, where a
  negative criterion is earned by not meeting it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from orchestrator.config.schema import RewardConfig
from orchestrator.config.settings import setting
from orchestrator.errors import RunError
from orchestrator.values import (
    JUDGE,
    Answer,
    Call,
    Choice,
    Episode,
    Fault,
    Group,
    LogitAnswer,
    LogitQuery,
    Message,
    Scored,
    Turn,
    Unscored,
    Verdict,
)

YES, NO = "yes", "no"
CONTROL = "#control"
"""Ends the key of a control question."""
MOST_WEIGHT = 1e6
"""In magnitude: sums of weights stay far from the end of floats."""
NEUTRAL_RESPONSE = "there is more than one way to see this ."
"""What the control question is asked about: plain words that any working judge can answer."""


@dataclass
class RubricRewardConfig(RewardConfig):
    """How verdicts become a reward, where no function of one's own is named."""

    formula: str = setting(
        "paper",
        "`paper`: share of positive weight met minus share of negative weight met; `official`: MoReBench's score.",
        choices=("paper", "official"),
    )
    cut_off_penalty: float = setting(
        0.5,
        "Subtracted from the reward of an answer that was cut off at rollout.max_completion_tokens: otherwise a rubric, "
        "which rewards coverage, teaches answers that never end.",
        low=0,
    )


class RubricError(RunError, ValueError):
    """A rubric that cannot be used; the text names the row and the field."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """One question to the judge. weight: not 0, at most `MOST_WEIGHT` in magnitude. id: unique in its rubric, without "/"."""

    id: str
    text: str
    weight: float
    dimension: str = ""

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise RubricError(f"criterion {self.id!r}: {problem}")


def _problem(criterion: Criterion) -> str | None:
    if not isinstance(criterion.id, str) or not criterion.id or "/" in criterion.id:
        return f"field 'id' is {criterion.id!r}; it must be a non-empty text without '/' (a number needs quotes)"
    if not isinstance(criterion.text, str) or not criterion.text.strip():
        return f"field 'text' is {criterion.text!r}; it must be a non-empty text (yes, no and numbers need quotes)"
    weight = criterion.weight
    # `not <=` is true of NaN as well, and no integer is too large for it.
    if (
        isinstance(weight, bool)
        or not isinstance(weight, (int, float))
        or weight == 0
        or not abs(weight) <= MOST_WEIGHT
    ):
        return (
            f"field 'weight' is {weight!r:.40}; it must be a number other than 0, positive for what is good, and at most "
            f"{MOST_WEIGHT:,.0f} in magnitude"
        )
    if not isinstance(criterion.dimension, str):
        return f"field 'dimension' is {criterion.dimension!r}; it must be a text"
    return None


@dataclass(frozen=True, slots=True)
class Rubric:
    """The criteria of one task, in the order in which they are asked."""

    criteria: tuple[Criterion, ...]

    def __post_init__(self) -> None:
        if not self.criteria:
            raise RubricError("field 'criteria' is empty: a rubric needs at least one criterion")
        ids = [criterion.id for criterion in self.criteria]
        twice = sorted({identifier for identifier in ids if ids.count(identifier) > 1})
        if twice:
            raise RubricError(f"field 'id' is not unique: {', '.join(twice)}")

    def to_json(self) -> list[dict[str, Any]]:
        """Plain data for `Task.reference["rubric"]`."""
        return [{"id": c.id, "text": c.text, "weight": c.weight, "dimension": c.dimension} for c in self.criteria]

    @classmethod
    def from_json(cls, rows: Any, where: str = "rubric") -> Rubric:
        """The inverse of `to_json`. Raises `RubricError`, which names `where`, the row (from 0) and the field."""
        if not isinstance(rows, Sequence) or isinstance(rows, str):
            raise RubricError(f"{where}: is {type(rows).__name__}; it must be a list of criteria")
        criteria = []
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise RubricError(
                    f"{where}[{number}]: is {type(row).__name__}; it must be a mapping with id, text and weight"
                )
            missing = [name for name in ("id", "text", "weight") if name not in row]
            unknown = [str(name) for name in row if name not in ("id", "text", "weight", "dimension")]
            if missing or unknown:
                what = f"field {missing[0]!r} is missing" if missing else f"field {unknown[0]!r} is unknown"
                raise RubricError(f"{where}[{number}]: {what}; the fields are id, text, weight and dimension")
            try:
                criteria.append(Criterion(row["id"], row["text"], row["weight"], row.get("dimension", "")))
            except RubricError as error:
                raise RubricError(f"{where}[{number}]: {error}") from error
        try:
            return cls(tuple(criteria))
        except RubricError as error:
            raise RubricError(f"{where}: {error}") from error


def rubric_of(episode: Episode) -> Rubric:
    """The rubric of an episode's task, from `Task.reference["rubric"]`."""
    return Rubric.from_json(episode.task.reference.get("rubric"), f"task {episode.task.id}: rubric")


def share_met(rubric: Rubric, met: Mapping[str, float], sign: int) -> float:
    """Share in [0, 1] of the weight with this sign (1 or -1) whose criteria are met; 0 where there is none."""
    weights = [(abs(c.weight), met.get(c.id, 0.0)) for c in rubric.criteria if c.weight * sign > 0]
    total = sum(weight for weight, _ in weights)
    return sum(weight * value for weight, value in weights) / total if total else 0.0


def paper_reward(rubric: Rubric, met: Mapping[str, float]) -> float:
    """Positive share minus negative share, in [-1, 1] (arXiv 2603.10588, section 3).

    met: criterion id -> verdict in [0, 1]; a missing one counts as 0.
    """
    return share_met(rubric, met, 1) - share_met(rubric, met, -1)


def official_score(rubric: Rubric, met: Mapping[str, float]) -> float:
    """MoReBench's score on a 0–1 scale: weight earned over all weight.

    A met positive criterion earns its weight, an unmet negative one |weight|; a soft verdict earns its share.
    A criterion without a verdict earns nothing, whatever its sign.
    """
    earned = 0.0
    for criterion in rubric.criteria:
        if criterion.id in met:
            value = met[criterion.id]
            earned += criterion.weight * value if criterion.weight > 0 else -criterion.weight * (1.0 - value)
    return earned / sum(abs(criterion.weight) for criterion in rubric.criteria)


FORMULAS: dict[str, Callable[[Rubric, Mapping[str, float]], float]] = {
    "paper": paper_reward,
    "official": official_score,
}


def _formula_of(name: str) -> Callable[[Rubric, Mapping[str, float]], float]:
    if name not in FORMULAS:
        raise ValueError(f"reward formula {name!r} is unknown; choose one of {', '.join(FORMULAS)}")
    return FORMULAS[name]


Question = Callable[[Sequence[Message], str, Criterion], tuple[Message, ...]]
"""How a judge is asked whether a response (text) to a prompt (messages) meets a criterion: the criterion comes last (prefix
cache).
"""


def mass_of(answer: Answer) -> float:
    """P(yes) + P(no): how far the judge answered the question at all; 0 where there is no answer."""
    if not isinstance(answer, Choice):
        return 0.0
    return answer.probabilities.get(YES, 0.0) + answer.probabilities.get(NO, 0.0)


def p_yes(choice: Choice, min_mass: float) -> float | None:
    """P(yes) / (P(yes) + P(no)), or None where P(yes) + P(no) < min_mass: then the judge did not answer the
    question.
    """
    mass = mass_of(choice)
    return choice.probabilities.get(YES, 0.0) / mass if mass > 0 and mass >= min_mass else None


def _key(episode: Episode, criterion: Criterion) -> str:
    return f"{episode.id}/{criterion.id}"


class RubricReward:
    """Asks a judge one question a criterion and makes a reward of the answers.

    question: how the judge is asked. formula: a name in `FORMULAS`. soft: use P(yes) itself instead of thresholding
    it at 0.5.
    min_mass: least P(yes) + P(no) of a verdict. cut_off_penalty: subtracted where the answer did not end by itself.
    """

    def __init__(
        self, question: Question, formula: str, soft: bool, min_mass: float, cut_off_penalty: float = 0.0
    ) -> None:
        self._question = question
        self._formula = _formula_of(formula)
        self._soft = soft
        self._min_mass = min_mass
        self._cut_off_penalty = cut_off_penalty

    def by(self, formula: str) -> RubricReward:
        """The same reward by another formula, a name in `FORMULAS`."""
        other = copy.copy(self)
        other._formula = _formula_of(formula)
        return other

    def calls(self, episode: Episode) -> Sequence[Call]:
        """One call a criterion; its key is the episode's id and the criterion's. One server answers them all."""
        return [
            Call(_key(episode, c), JUDGE, self._asked(episode, episode.text, c), choices=(YES, NO), route=episode.id)
            for c in rubric_of(episode).criteria
        ]

    def _asked(self, episode: Episode, response: str, criterion: Criterion) -> tuple[Message, ...]:
        return self._question(episode.task.messages, response, criterion)

    def queries(self, episode: Episode) -> Sequence[LogitQuery]:
        """None: the reward needs nothing from the policy."""
        return ()

    def control(self, episode: Episode, call: Call, answer: Answer) -> Call | None:
        """The same criterion asked about a neutral response where the answer is broken, else None.

        Broken: too little mass, or a fault that the call itself caused (a response beyond the judge's context). Any other
        `Fault` is not the response's doing and needs no control.
        """
        if not self.broken(answer):
            return None
        criterion = next(c for c in rubric_of(episode).criteria if _key(episode, c) == call.key)
        return replace(call, key=call.key + CONTROL, messages=self._asked(episode, NEUTRAL_RESPONSE, criterion))

    def broken(self, answer: Answer) -> bool:
        """Whether the judge was reached and gave no verdict (see `control`)."""
        if isinstance(answer, Choice):
            return p_yes(answer, self._min_mass) is None
        return isinstance(answer, Fault) and answer.lasting

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]],
        logits: Sequence[Sequence[LogitAnswer]],
    ) -> list[Verdict]:
        """The verdict of each episode from one answer a criterion."""
        return [self.verdict(episode, mine) for episode, mine in zip(episodes, answers, strict=True)]

    def verdict(self, episode: Episode, answers: Sequence[Answer]) -> Verdict:
        """The episode's worth from one answer a criterion.

        A passing `Fault` among the answers makes the whole episode `Unscored`: a reward from the rest could be gamed. A
        broken answer (see `control`) is the response's own doing (the caller turns it into a passing `Fault` where the
        control question failed as well) and counts in the worst way: not met where that is good, met where that is bad.
        """
        rubric = rubric_of(episode)
        judgements: dict[str, float] = {}
        for criterion, answer in zip(rubric.criteria, answers, strict=True):
            if isinstance(answer, Fault) and not answer.lasting:
                return Unscored(f"criterion {criterion.id}: {answer.reason}")
            if isinstance(answer, Turn):
                raise TypeError(f"criterion {criterion.id} of {episode.id}: the judge answered with a text")
            probability = p_yes(answer, self._min_mass) if isinstance(answer, Choice) else None
            judgements[criterion.id] = probability if probability is not None else float(criterion.weight < 0)
        met = judgements if self._soft else {key: float(value > 0.5) for key, value in judgements.items()}
        components = {
            "positive": share_met(rubric, met, 1),
            "negative": share_met(rubric, met, -1),
            "official": official_score(rubric, met),
            "cut_off": float(episode.trained[-1].finish_reason == "length"),
            "mass": fmean(map(mass_of, answers)),
        }
        reward = self._formula(rubric, met) - self._cut_off_penalty * components["cut_off"]
        return Scored(reward, components, judgements)


def judged_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """judge_NAME: the mean of each component over the scored episodes that have it; nothing where none was scored."""
    values: dict[str, list[float]] = {}
    for verdict in (verdict for group in groups for verdict in group.verdicts if isinstance(verdict, Scored)):
        for name, value in verdict.components.items():
            values.setdefault(f"judge_{name}", []).append(value)
    return {name: fmean(found) for name, found in values.items()}
