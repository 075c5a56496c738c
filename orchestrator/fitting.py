"""Prompts that are too long for a model lose the middle of their story; none is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jinja2 import TemplateError

from orchestrator.errors import ConfigError
from orchestrator.records.canary import rendered
from orchestrator.values import Message, Task

GAP = " … "
"""Stands where the middle was."""
CUT = "cut"
"""Of a task's reference: how many characters its prompt lost."""
BYTES_PER_TOKEN = 3
"""Of text in any language, rather few: what is estimated is rather cut too much than refused."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Tasks in their order, those that were too long with `CUT` in their reference. cut: how many were."""

    tasks: tuple[Task, ...]
    cut: int


@dataclass(frozen=True, slots=True)
class Fitting:
    """count: tokens of a chat as the model is given it. most: tokens that there is room for, None where nobody knows. overhead: tokens
    of a message without a word, at most."""

    count: Callable[[Sequence[Message]], int]
    most: int | None
    overhead: int = 0

    @classmethod
    def of(cls, tokenizer: Any, thinking: bool, most: int) -> Fitting:
        """Counted with a model's own chat template. Raises ConfigError where it has none, or one that refuses a message."""

        def count(messages: Sequence[Message]) -> int:
            try:
                return len(rendered(tokenizer, tuple(messages), thinking))
            except (ValueError, TemplateError) as error:
                raise ConfigError(f"model.name: its tokenizer cannot render a chat ({error}).") from error

        return cls(count, most, count([{"role": "user", "content": ""}]))

    @classmethod
    def estimated(cls, most: int | None) -> Fitting:
        """By the length of the text in bytes."""
        return cls(lambda messages: -(-_bytes(messages) // BYTES_PER_TOKEN), most)

    def fitted(self, tasks: Sequence[Task]) -> Fitted:
        """The tasks with prompts that fit. Raises ConfigError where the room is not even enough for a prompt without its text."""
        found = tuple(map(self._fit, tasks))
        return Fitted(found, sum(CUT in task.reference for task in found))

    def _fit(self, task: Task) -> Task:
        # A token is a byte at least.
        if self.most is None or _bytes(task.messages) + self.overhead * len(task.messages) <= self.most:
            return task
        if self.count(task.messages) <= self.most:
            return task
        story = str(task.reference.get("story") or "")
        for text in filter(None, (story, max((message["content"] for message in task.messages), key=len))):
            kept = self._most_kept(task, text)
            if kept is not None:
                cut = {CUT: len(text) - kept}
                return replace(task, messages=_shortened(task, text, kept), reference={**task.reference, **cut})
        raise ConfigError(
            f"the prompt of task {task.id} has no room in {self.most} tokens, however much of it is cut: raise model.context_tokens, "
            "or lower rollout.max_completion_tokens."
        )

    def _most_kept(self, task: Task, text: str) -> int | None:
        """About the most characters of a text that may stay, by how many make a token in it; None where the prompt does not fit
        without any of it."""
        assert self.most is not None
        fixed = self.count(_shortened(task, text, 0))
        if fixed > self.most:
            return None
        each = max(self.count(task.messages) - fixed, 1) / len(text)
        kept = min(int((self.most - fixed) / each), len(text))
        while (count := self.count(_shortened(task, text, kept))) > self.most:
            kept = max(0, kept - max(1, int((count - self.most) / each)))
        return kept


def _shortened(task: Task, text: str, kept: int) -> tuple[Message, ...]:
    """The task's messages with `kept` characters of a text, from its beginning and its end."""
    head = -(-kept // 2)
    short = text[:head] + GAP + text[len(text) - (kept - head) :]
    return tuple(_replaced(message, text, short) for message in task.messages)


def _replaced(message: Message, text: str, short: str) -> Mapping[str, str]:
    return {**message, "content": message["content"].replace(text, short)}


def _bytes(messages: Sequence[Message]) -> int:
    return sum(len(message["content"].encode()) for message in messages)
