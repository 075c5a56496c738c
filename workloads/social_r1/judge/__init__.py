"""The structure judge of Social-R1, taught in a run of its own to write the score of a reasoning. `gathered` tells the way there.

The paper asks GPT-4o, untaught; a judge that is smaller learns from what a larger one says.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.errors import DataError, RunError
from orchestrator.values import JUDGE, Answer, Call, Gathered, Sampling, Unscored, stable_hash
from workloads.base import Gathering, Lesson
from workloads.social_r1 import reasoning
from workloads.social_r1.gathered import GRAMMAR, RaterRunConfig, RaterWorkload, Written, group_in, reference_in, row_of
from workloads.social_r1.raters import Reasoned, StructureLesson, score_of
from workloads.teachers import ORACLE, TEACHER, until_told


@dataclass
class Config(RaterRunConfig):
    """A run of this workload. A teacher that is to reason first needs teacher.max_tokens; 0 lets it write reward.judge_max_tokens."""

    rater: ClassVar[str] = JUDGE


class Workload(RaterWorkload):
    """Implements `workloads.base.Workload` and `Gatherer`."""

    config: Config
    fields: ClassVar[Mapping[str, type]] = {"reasoning": str, "score": float}

    def gather(self) -> Gathering:
        """Have reasonings written and scored, or read both. Raises RunError where the teacher left too much open."""
        if self.config.data.labels:
            rows = self.read_labels()
            for row in rows:
                if not 0 <= row["score"] <= 1:
                    raise DataError(
                        f"{self.config.data.labels}: a row has the score {row['score']:g}, which is out of 0 to 1."
                    )
            return Gathered(rows, f"{len(rows):,} scored reasonings were read")
        oracle = self.config.teacher.name == ORACLE
        drawn = [
            Written(split, self.known[one.task][1], GRAMMAR, one.thinking)
            for split in ("train", "eval")
            for one in (self.mini_reasoned(split) if GRAMMAR in self.config.writers else ())
        ]
        written = [*drawn, *(yield from self.written())]
        scores = [self._truth(one) for one in written] if oracle else (yield from self._asked(written))
        rows = [
            row_of(one.split, one.question, reasoning=one.thinking, score=score, writer=one.writer)
            for one, score in zip(written, scores, strict=True)
            if not isinstance(score, Unscored)
        ]
        unscored = [score.reason for score in scores if isinstance(score, Unscored)]
        first = f" (the first: {unscored[0]})" if unscored else ""
        told = f"{len(rows):,} scored reasonings of {len(self.config.writers)} writer(s), {len(unscored):,} without a score{first}"
        most = self.config.judge.max_unscored_share
        if len(unscored) > most * len(written):
            raise RunError(f"{told}. That is more than judge.max_unscored_share={most:g}: look at the teacher.")
        return Gathered(rows, told)

    def lessons(self) -> Sequence[Lesson]:
        """The judge's, on reasonings about training stories; its exam is on those about held-out ones."""
        taught, asked = ([self._reasoned(row) for row in self.rows(split)] for split in ("train", "eval"))
        return [StructureLesson(taught, asked, self.wording, self.config.reward, self.config.judge)]

    def _reasoned(self, row: Any) -> Reasoned:
        group = group_in(row)
        return Reasoned(group, str(row.get("task", group)), reference_in(row), row["reasoning"], row["score"])

    def _truth(self, one: Written) -> float:
        return reasoning.structure(self.items[one.question.id], one.thinking)

    def _asked(self, written: Sequence[Written]) -> Generator[Sequence[Call], Sequence[Answer], list[float | Unscored]]:
        """The teacher's scores."""
        teacher, settings = self.config.teacher, self.config.reward
        sampling = Sampling(teacher.max_tokens or settings.judge_max_tokens, teacher.temperature)

        def call(index: int, attempt: int) -> Call:
            one = written[index]
            key, messages = (
                f"label/{index}/{attempt}",
                self.wording.structure(self.task_of(one.question).reference, one.thinking),
            )
            return Call(key, TEACHER, messages, sampling, seed=stable_hash("label", attempt), route=key)

        return (yield from until_told(range(len(written)), call, lambda _, answer: score_of(answer), teacher.retries))
