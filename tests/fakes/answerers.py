"""Fleets without servers: functions from calls to answers, that remember what they were asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from orchestrator.values import Answer, Call


@dataclass
class FakeAnswerer:
    """Answers each call by `answer(call, attempt)`, attempt from 0: how often a call of this key came before."""

    answer: Callable[[Call, int], Answer]
    batches: list[list[Call]] = field(default_factory=list)
    _attempts: dict[str, int] = field(default_factory=dict)

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        self.batches.append(list(calls))
        answers = []
        for call in calls:
            attempt = self._attempts.get(call.key, 0)
            self._attempts[call.key] = attempt + 1
            answers.append(self.answer(call, attempt))
        return answers

    def take_statistics(self) -> dict[str, float]:
        return {}

    @property
    def asked(self) -> list[str]:
        """Keys of all calls, batch after batch."""
        return [call.key for batch in self.batches for call in batch]
