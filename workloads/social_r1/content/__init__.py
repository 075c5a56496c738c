"""The content reward model of Social-R1, trained in a run of its own on pairs of reasoning pieces. `gathered` tells the way there.

The paper: K = 6 reasonings of each of 700 questions, about 42,000 segments and 20,000 pairs; Qwen3-4B; 89.2 % of 2,000 held-out pairs.
Who labelled its pairs is not told. Here a teacher is asked about each pair twice, in both orders, and a pair of which it says both
times that the first is better is left out: that is a preference for a place.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.errors import ConfigError, RunError
from orchestrator.values import Answer, Call, Choice, Fault, Gathered, Message, Sampling, Turn, Unscored, stable_hash
from workloads.base import Gathering, Lesson
from workloads.social_r1 import mini
from workloads.social_r1.asked import CONTENT
from workloads.social_r1.gathered import GRAMMAR, RaterRunConfig, RaterWorkload, Written, group_in, reference_in, row_of
from workloads.social_r1.prompts import COMPARISON
from workloads.social_r1.raters import Pair, candidates
from workloads.teachers import ORACLE, TEACHER, TeacherConfig, last_word, until_told

FIRST, SECOND = "A", "B"


@dataclass
class Config(RaterRunConfig):
    """A run of this workload."""

    rater: ClassVar[str] = CONTENT


@dataclass(frozen=True, slots=True)
class _Compared:
    """Two pieces about a question, of which somebody is to say which one is better."""

    split: str
    question: Any
    first: str
    second: str


class Workload(RaterWorkload):
    """Implements `workloads.base.Workload` and `Gatherer`."""

    config: Config
    fields: ClassVar[Mapping[str, type]] = {"better": str, "worse": str}

    def gather(self) -> Gathering:
        """Have reasonings written and their pieces compared, or read pairs. Raises RunError where the teacher left too much open."""
        if self.config.data.labels:
            rows = self.read_labels()
            same = next((row for row in rows if row["better"] == row["worse"]), None)
            if same is not None:
                raise ConfigError(f"data.labels: a pair has {same['better'][:60]!r} on both sides: leave it out.")
            return Gathered(rows, f"{len(rows):,} pairs were read")
        rows, told = [], ""
        oracle, grammar = self.config.teacher.name == ORACLE, GRAMMAR in self.config.writers
        written = yield from self.written()
        if grammar and oracle:
            rows += [
                self._row(split, task, pair) for split in ("train", "eval") for task, pair in self.mini_pairs(split)
            ]
        elif grammar:
            written += self._drawn()
        if oracle:
            rows += self._by_oracle(written)
        else:
            labelled, told = yield from self._by_teacher(self._candidates(written))
            rows += labelled
        return Gathered(rows, f"{len(rows):,} pairs of pieces by {len(self.config.writers)} writer(s){told}")

    def lessons(self) -> Sequence[Lesson]:
        """The reward model's, on pairs about training stories; held-out ones tell its accuracy."""
        taught, asked = (
            [Pair(group_in(row), reference_in(row), row["better"], row["worse"]) for row in self.rows(split)]
            for split in ("train", "eval")
        )
        return [self.content_lesson(taught, asked)]

    def _row(self, split: str, task: str, pair: Pair) -> dict[str, Any]:
        return row_of(split, self.known[task][1], better=pair.better, worse=pair.worse)

    def _drawn(self) -> list[Written]:
        """The grammar's reasonings, for a teacher."""
        rng = random.Random(stable_hash("content", "drawn", self.config.data.seed))
        return [
            Written(split, question, GRAMMAR, thinking)
            for split, question in self.known.values()
            for _ in range(self.config.answers.per_question)
            if (thinking := mini.thinking(self.items[question.id], rng))
        ]

    def _by_question(self, written: Sequence[Written]) -> dict[str, list[Written]]:
        found: dict[str, list[Written]] = defaultdict(list)
        for one in written:
            found[one.question.id].append(one)
        return found

    def _by_oracle(self, written: Sequence[Written]) -> list[dict[str, Any]]:
        rng = random.Random(stable_hash("content", "oracle", self.config.data.seed))
        return [
            self._row(mine[0].split, task, pair)
            for task, mine in self._by_question(written).items()
            for pair in self.oracle_pairs(self.items[task], [one.thinking for one in mine], rng)
        ]

    def _candidates(self, written: Sequence[Written]) -> list[_Compared]:
        rng = random.Random(stable_hash("content", "teacher", self.config.data.seed))
        return [
            _Compared(mine[0].split, mine[0].question, first, second)
            for mine in self._by_question(written).values()
            for first, second in candidates([self.wording.pieces(one.thinking) for one in mine], rng)
        ]

    def _by_teacher(
        self, compared: Sequence[_Compared]
    ) -> Generator[Sequence[Call], Sequence[Answer], tuple[list[dict[str, Any]], str]]:
        """(rows of the pairs of which the teacher says the same in both orders, a line about the others)."""
        teacher = self.config.teacher
        asked = [(index, swapped) for index in range(len(compared)) for swapped in (False, True)]
        said = yield from until_told(
            asked,
            lambda one, attempt: _call(*one, compared[one[0]], attempt, teacher),
            lambda _, answer: _first_is_better(answer, teacher.min_mass),
            teacher.retries,
        )
        rows, undecided, unscored = [], 0, []
        for index, one in enumerate(compared):
            plain, swapped = said[2 * index : 2 * index + 2]
            if isinstance(plain, Unscored) or isinstance(swapped, Unscored):
                unscored += [verdict.reason for verdict in (plain, swapped) if isinstance(verdict, Unscored)][:1]
            elif plain == swapped:
                undecided += 1
            else:
                better, worse = (one.first, one.second) if plain else (one.second, one.first)
                rows.append(row_of(one.split, one.question, better=better, worse=worse))
        first = f" (the first: {unscored[0]})" if unscored else ""
        told = f", {undecided:,} that it orders by place, {len(unscored):,} without a verdict{first}"
        most = self.config.judge.max_unscored_share
        if len(unscored) > most * len(compared):
            raise RunError(f"teacher{told}. That is more than judge.max_unscored_share={most:g}: look at the teacher.")
        return rows, told


def comparison(one: _Compared, swapped: bool) -> tuple[Message, ...]:
    """What the teacher is asked about two pieces, in this order or the other."""
    first, second = (one.second, one.first) if swapped else (one.first, one.second)
    text = COMPARISON.format(story=one.question.story, question=one.question.question, first=first, second=second)
    return ({"role": "user", "content": text},)


def _call(index: int, swapped: bool, one: _Compared, attempt: int, teacher: TeacherConfig) -> Call:
    key, messages, seed = (
        f"label/{index}/{int(swapped)}/{attempt}",
        comparison(one, swapped),
        stable_hash("label", attempt),
    )
    if teacher.max_tokens:
        return Call(key, TEACHER, messages, Sampling(teacher.max_tokens, teacher.temperature), seed=seed, route=key)
    return Call(key, TEACHER, messages, choices=(FIRST, SECOND), seed=seed, route=key)


def _first_is_better(answer: Answer, min_mass: float) -> bool | Unscored:
    """Whether the teacher prefers what it read first, or why it says neither."""
    if isinstance(answer, Fault):
        return Unscored(answer.reason)
    if isinstance(answer, Choice):
        first, second = (answer.probabilities.get(word, 0.0) for word in (FIRST, SECOND))
        if first + second < min_mass:
            return Unscored(f"P(A)+P(B) is {first + second:.2f}, less than teacher.min_mass={min_mass:g}")
        return first > second
    assert isinstance(answer, Turn), "a teacher speaks"
    word = last_word(answer, (FIRST, SECOND))
    return word if isinstance(word, Unscored) else word == FIRST
