"""Fleets without servers: functions from calls to answers, that remember what they were asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.values import Answer, Call, Score


def scalars(raw_of: Callable[[str], float], mean: float = 0.0, spread: float = 1.0) -> Callable[[Call, int], Answer]:
    """Answers of a reward model that gives the last message's text this raw score; mean and spread are of its reference answers."""

    def answer(call: Call, attempt: int) -> Answer:
        assert call.scalar, f"call {call.key} asks a reward model for words"
        raw = raw_of(call.messages[-1]["content"])
        return Score((raw - mean) / spread, raw)

    return answer


@dataclass
class FakeAnswerer:
    """Answers each call by `answer(call, attempt)`, attempt from 0: how often a call of this key came before.

    purposes: of the steps that have begun. statistics: what the next `take_statistics` returns, once.
    """

    answer: Callable[[Call, int], Answer]
    retry_delay_s: float = 0.0
    purposes: list[str] = field(default_factory=list)
    statistics: dict[str, float] = field(default_factory=dict)
    batches: list[list[Call]] = field(default_factory=list)
    _attempts: dict[str, int] = field(default_factory=dict)

    def begin_step(self, purpose: str) -> None:
        self.purposes.append(purpose)

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        self.batches.append(list(calls))
        answers = []
        for call in calls:
            attempt = self._attempts.get(call.key, 0)
            self._attempts[call.key] = attempt + 1
            answers.append(self.answer(call, attempt))
        return answers

    def take_statistics(self) -> dict[str, float]:
        taken, self.statistics = self.statistics, {}
        return taken

    @property
    def asked(self) -> list[str]:
        """Keys of all calls, batch after batch."""
        return [call.key for batch in self.batches for call in batch]
