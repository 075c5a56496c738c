"""What the raters are taught, and how they are examined on held-out stories.

The structure judge learns to write the score of a reasoning; its exam compares what it writes with the true scores. The content reward
model learns which of two pieces of reasoning about one story is better (Bradley-Terry); the learner itself tells its accuracy on
held-out pairs.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from types import MappingProxyType
from typing import Any

from orchestrator.config.schema import JudgeConfig
from orchestrator.values import (
    JUDGE,
    POLICY,
    Answer,
    Call,
    Episode,
    Fault,
    Group,
    Scored,
    Task,
    Turn,
    Unscored,
    Verdict,
)
from workloads.base import Branch, Example, Preference
from workloads.exams import Report, ordering, shares
from workloads.lessons import chat, gate_of
from workloads.social_r1.asked import CONTENT, STRUCTURE, read_score, structure_call
from workloads.social_r1.prompts import Reference, Wording
from workloads.social_r1.reward import SocialRewardConfig

NEAR = 0.1
"""A score that is no farther from the true one counts as right."""
REPORT_FORMAT = 1
"""Raise it when `StructureLesson.report` changes: reports of before are then made anew."""


@dataclass(frozen=True, slots=True)
class Reasoned:
    """A reasoning about a question with the true score of its structure, 0 to 1. group: what is held out together. task: the
    question's id; reference: its story, question and options."""

    group: str
    task: str
    reference: Reference
    thinking: str
    score: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pieces of reasoning about a question, of which one is better. group: what is held out together."""

    group: str
    reference: Reference
    better: str
    worse: str


@dataclass
class StructureLesson:
    """Implements `workloads.base.Lesson`: SFT to write `<Score>x</Score>`, scores rounded to tenths.

    asked: held-out reasonings. settings: how the judge is sampled. judge: its gates. notes: what else the report is to hold.
    """

    taught: Sequence[Reasoned]
    asked: Sequence[Reasoned]
    wording: Wording
    settings: SocialRewardConfig
    judge: JudgeConfig
    notes: Mapping[str, int | str] = field(default_factory=lambda: MappingProxyType({}))
    role: str = JUDGE
    end_token: bool = True

    @property
    def gate(self) -> Mapping[str, float]:
        """Least values of the report; a planted verdict is a thing of yes and no."""
        return {name: bound for name, bound in gate_of(self.judge).items() if name != "injection_resistance"}

    @property
    def grading(self) -> str:
        """The true scores, and what else the report holds."""
        truth = [(one.group, one.task, one.score) for one in self.asked]
        return repr((REPORT_FORMAT, truth, dict(self.notes)))

    def examples(self) -> Sequence[Example]:
        """One a reasoning."""
        return [
            chat(one.group, self.wording.structure(one.reference, one.thinking), [self.wording.score(one.score)])
            for one in self.taught
        ]

    def exam(self) -> Sequence[Call]:
        """Asked as the reward asks."""
        return [
            structure_call(f"exam/{number}", self.wording.structure(one.reference, one.thinking), self.settings)
            for number, one in enumerate(self.asked)
        ]

    def report(self, answers: Sequence[Answer]) -> Report:
        """accuracy: share of scores within `NEAR` of the true one, an answer without a score counting as wrong; error: mean distance
        of those that were written; unparsable: share of answers without a score; pair_order and rank_correlation within a group
        (`exams.ordering`). Intervals are over groups. prior_accuracy: of the best guess that is always the same score.
        """
        told = [(one, score_of(answer)) for one, answer in zip(self.asked, answers, strict=True)]
        scored = [(one, score) for one, score in told if isinstance(score, float)]
        ordered: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for one, score in scored:
            ordered[one.group].append((one.score, score))
        return {
            "stories": len({one.group for one in self.asked}),
            "prior_accuracy": max(fmean(_near(one.score, tenths / 10) for one in self.asked) for tenths in range(11)),
            **self.notes,
            **shares(
                {
                    "accuracy": [
                        (one.group, float(isinstance(score, float) and _near(score, one.score))) for one, score in told
                    ],
                    "error": [(one.group, abs(score - one.score)) for one, score in scored],
                    "unparsable": [(one.group, float(isinstance(score, Unscored))) for one, score in told],
                }
            ),
            **ordering(ordered),
        }

    def episodes(self, answers: Sequence[Answer]) -> tuple[list[Group], dict[str, float], dict[str, dict[str, float]]]:
        """The exam as episodes, one a reasoning: (groups by question, true score and label by episode id)."""
        members: dict[str, list[tuple[Episode, Verdict]]] = defaultdict(list)
        gold: dict[str, float] = {}
        for one, answer in zip(self.asked, answers, strict=True):
            together, score = members[one.task], score_of(answer)
            turn = Turn(POLICY, (), (), (), one.thinking, "stop", 1.0, 0, 0)
            task = Task(one.task, self.wording.structure(one.reference, ""), dict(one.reference))
            episode = Episode(task, 0, len(together), (turn,))
            verdict = score if isinstance(score, Unscored) else Scored(score, {}, {STRUCTURE: score})
            together.append((episode, verdict))
            gold[episode.id] = one.score
        groups = [
            Group(tuple(episode for episode, _ in together), tuple(verdict for _, verdict in together))
            for together in members.values()
        ]
        return groups, gold, {name: {STRUCTURE: score} for name, score in gold.items()}


def _near(score: float, true: float) -> bool:
    return abs(score - true) <= NEAR + 1e-9


def score_of(answer: Answer) -> float | Unscored:
    """What a judge or a teacher wrote of one reasoning, or why there is no score."""
    if isinstance(answer, Turn):
        return read_score(answer.text)
    return Unscored(answer.reason if isinstance(answer, Fault) else f"answered with {type(answer).__name__}")


@dataclass
class ContentLesson:
    """Implements `workloads.base.SequenceLesson`: which of two pieces of reasoning is better. least_accuracy: on held-out pairs; 0
    only reports it."""

    taught: Sequence[Pair]
    asked: Sequence[Pair]
    wording: Wording
    least_accuracy: float
    role: str = CONTENT
    kind: str = "preference"
    end_token: bool = True

    @property
    def gate(self) -> Mapping[str, float]:
        """Of the held-out accuracy."""
        return {"accuracy": self.least_accuracy} if self.least_accuracy > 0 else {}

    @property
    def grading(self) -> str:
        """The held-out pairs are all there is."""
        return ""

    def examples(self) -> Sequence[Preference]:
        """One a pair."""
        return [self._preference(pair) for pair in self.taught]

    def held_out(self) -> Sequence[Preference]:
        """Of stories that no pair to learn from is about."""
        return [self._preference(pair) for pair in self.asked]

    def exam(self) -> Sequence[Call]:
        """Nothing: the learner scores the held-out pairs."""
        return ()

    def report(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """How much there was to learn from."""
        return {"pairs": len(self.taught)}

    def _preference(self, pair: Pair) -> Preference:
        return Preference(pair.group, *(self._branch(pair.reference, text) for text in (pair.better, pair.worse)))

    def _branch(self, reference: Reference, text: str) -> Branch:
        *asked, said = self.wording.content(reference, text)
        return Branch(tuple(asked), said["content"])


def candidates(pieces: Sequence[Sequence[str]], rng: random.Random) -> list[tuple[str, str]]:
    """Which pieces of several reasonings about one question are compared: those of the same place, each in one pair at most, as the
    paper's numbers have it (6 reasonings x 700 questions, about 42,000 segments, about 20,000 pairs).

    pieces: of each reasoning, in order. Pieces that are the same words make no pair.
    """
    found = []
    for place in range(max(map(len, pieces), default=0)):
        there = [mine[place] for mine in pieces if place < len(mine) and mine[place].strip()]
        rng.shuffle(there)
        found += [(first, second) for first, second in zip(there[::2], there[1::2], strict=False) if first != second]
    return found
