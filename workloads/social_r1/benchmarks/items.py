"""The items of benchmarks, and what is the same for all of them: options that are shown in an order, tries, tasks."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, ClassVar, Literal

from orchestrator.values import Message, Task
from workloads.benchmarks.results import Counted, Published
from workloads.teachers import after_thought

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
Form = Literal["direct", "cot", "tagged"]
FORMS: tuple[Form, ...] = ("direct", "cot", "tagged")
"""How an answer is asked for: by the protocol, at once or after steps of thought; or as Social-R1 trains it, in tags."""
Order = tuple[int, ...]
"""Positions of the published options, in the order in which they are shown."""
Given = tuple[int, ...] | None
"""Positions of the shown options that an answer names; None where none was found."""

TAGGED = (
    "First reason about the story inside <think> and </think>. Then give {what} inside <Answer> and </Answer>, and nothing else "
    "after it."
)
_TAG = re.compile(r"<Answer>\s*(.*?)\s*</Answer>", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """A question. gold: positions of what is right; one, but for lists."""

    question: str
    options: tuple[str, ...]
    gold: frozenset[int]


@dataclass(frozen=True, slots=True)
class Item:
    """What counts once. asked: one question, or several that must all be right. unit: items that share it are not independent. views:
    what it is reported by, such as {"ability": "Belief"}. kind: of question, as a protocol tells them apart."""

    id: str
    unit: str
    story: str
    asked: tuple[Asked, ...]
    views: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""

    @property
    def question(self) -> str:
        """All that is asked, as one text."""
        return "\n".join(one.question for one in self.asked)


class Benchmark(Published, ABC):
    """One benchmark of options.

    vote: whether the option that most tries name is the item's answer; without it the item's score is the mean over its tries. lists:
    whether some items, of the kind "list", have several right options.
    """

    vote: ClassVar[bool] = False
    lists: ClassVar[bool] = False

    @abstractmethod
    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """The items of published files (path, or hf:…). Raises DataError, which names file and row."""

    @abstractmethod
    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """The prompt, with the options as they are shown."""

    @abstractmethod
    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """What an answer says to each question, by the protocol's rule, and whether anything was found."""

    def orders(self, item: Item) -> list[tuple[Order, ...]]:
        """The orders of the options, a try each: as they are published."""
        return [tuple(tuple(range(len(one.options))) for one in item.asked)]

    def components(self, counted: Sequence[Counted]) -> dict[str, dict[str, float]]:
        """Further scores of an item that need other items: by item's id, then by name. Their means over items are reported too."""
        return {}

    def chance(self, item: Item) -> float:
        """What guessing scores: each option as likely, each subset that is not empty where a list is asked for."""
        return prod(1 / (2 ** len(one.options) - 1 if self._lists(item) else len(one.options)) for one in item.asked)

    def _lists(self, item: Item) -> bool:
        return self.lists and item.kind == "list"

    def tasks(self, item: Item, form: Form) -> list[Task]:
        """A task a try. Options are told as they are shown; `order` leads back to the published ones."""
        tasks = []
        for number, order in enumerate(self.orders(item)):
            shown = [reordered(one, mine) for one, mine in zip(item.asked, order, strict=True)]
            reference = {
                "benchmark": self.name,
                "item": item.id,
                "unit": item.unit,
                "try": number,
                "story": item.story,
                "question": item.question,
                "asked": [[one.question, list(one.options), sorted(one.gold)] for one in shown],
                "order": [list(mine) for mine in order],
                "views": dict(item.views),
                "kind": item.kind,
                "form": form,
                "chance": self.chance(item),
            }
            tasks.append(
                Task(f"{self.name}/{item.id}/{number}", self.messages(item, shown, form), reference, self.restricted)
            )
        return tasks

    def answer(self, text: str, reference: Mapping[str, Any]) -> list[Given]:
        """What an answer says to each question of a task, as positions of the shown options. A pure function of both."""
        shown = shown_of(reference)
        said = after_thought(text)
        if reference["form"] == "tagged":
            return tagged(said, shown, self.lists and reference["kind"] == "list")
        return self.read(said, shown, reference["form"], reference["kind"])


def reordered(one: Asked, order: Order) -> Asked:
    """The question with its options in an order."""
    return Asked(
        one.question,
        tuple(one.options[at] for at in order),
        frozenset(place for place, at in enumerate(order) if at in one.gold),
    )


def shown_of(reference: Mapping[str, Any]) -> list[Asked]:
    """The questions of a task as they were shown."""
    return [Asked(question, tuple(options), frozenset(gold)) for question, options, gold in reference["asked"]]


def item_of(reference: Mapping[str, Any]) -> Item:
    """The item of a task, its options in the published order."""
    asked = []
    for one, order in zip(shown_of(reference), reference["order"], strict=True):
        place = {at: number for number, at in enumerate(order)}
        asked.append(reordered(one, tuple(place[number] for number in range(len(order)))))
    return Item(
        reference["item"], reference["unit"], reference["story"], tuple(asked), reference["views"], reference["kind"]
    )


def tagged(text: str, shown: Sequence[Asked], lists: bool) -> list[Given]:
    """The letters in the last <Answer>…</Answer>, capitals as in training: one a question, or all of a list."""
    found = _TAG.findall(text)
    letters = re.findall(r"\b([A-Z])\b", found[-1]) if found else []
    if lists:
        return [tuple(sorted({LETTERS.index(letter) for letter in letters})) or None]
    return [(LETTERS.index(letters[place]),) if place < len(letters) else None for place in range(len(shown))]


def lettered(options: Iterable[str], form: str = "{letter}. {option}") -> str:
    """Options, a line each, with their letters."""
    return "\n".join(
        form.format(letter=letter, option=option) for letter, option in zip(LETTERS, options, strict=False)
    )


def unlettered(option: str) -> str:
    """A published option without the letter that it begins with, if it does."""
    return re.sub(r"^[A-O][.．、:)]\s*", "", option.strip())


def user(*parts: str) -> Message:
    """A message of the user, with a blank line between its parts; empty ones are left out."""
    return {"role": "user", "content": "\n\n".join(part for part in parts if part)}


def in_tags(item: Item, shown: Sequence[Asked], lists: bool = False) -> tuple[Message, ...]:
    """The prompt of the form `tagged`, the same for all benchmarks."""
    if lists:
        what = "the letters of all that are right, with commas,"
    elif len(shown) > 1:
        what = "the letters of your answers in the order of the questions, with a comma,"
    else:
        what = "the letter of your answer"
    questions = [
        "\n".join(filter(None, (one.question and f"Question: {one.question}", lettered(one.options)))) for one in shown
    ]
    return (user(item.story and f"Story: {item.story}", *questions, TAGGED.format(what=what)),)


def position(letter: str | None) -> Given:
    """The place of a letter."""
    return None if letter is None else (LETTERS.index(letter),)
