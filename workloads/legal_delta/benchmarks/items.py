"""The items of the legal benchmarks, and what is the same for all of them: how they are asked, and where in a text the answer is.

An answer is cut out before a protocol's rule reads it: what stands between a marker and `<eoa>`, or inside `<answer>`, else all that
is outside the reasoning. The rules search whole texts, and of a model that reasons they would count what it only considered.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar, Literal

from orchestrator.data.tables import Row
from orchestrator.values import Message, Scored, Task, stable_hash
from workloads.benchmarks.results import Counted, Published
from workloads.files import ENDINGS, tables_of
from workloads.legal_delta import prompts
from workloads.legal_delta.answers import Kind, said
from workloads.legal_delta.benchmarks.instructions import instruction_of
from workloads.teachers import after_thought

Form = Literal["direct", "tagged"]
FORMS: tuple[Form, ...] = ("direct", "tagged")
"""How an answer is asked for: in the benchmark's own words, at once; or as LegalΔ trains it, reasoning and answer in tags."""
_REASONING = re.compile(r"<reasoning>.*?(?:</reasoning>|(?=<answer>)|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Item:
    """What counts once. story: the facts of the case, a part of the question; empty where the question is all there is. answer: the
    right one as it is published, without the words before it. more: what else scoring needs, as plain JSON data."""

    id: str
    instruction: str
    question: str
    story: str
    answer: str
    views: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """Items about one text are not independent."""
        return f"{stable_hash(' '.join((self.story or self.question).split())):x}"


class Benchmark(Published, ABC):
    """One benchmark. kind: of LegalΔ's tasks, which the form `tagged` asks in. files: the pattern of its file's name. chance: what
    guessing scores, 0 of what is not one of several options."""

    kind: ClassVar[Kind]
    files: str
    chance: ClassVar[float] = 0.0

    def is_there(self, path: str) -> bool:
        """Whether the folder holds its file, or the file is it."""
        place = Path(path).expanduser()
        found = place.rglob(self.files) if place.is_dir() else [place] if place.match(self.files) else []
        return any(file.suffix.lower() in ENDINGS for file in found)

    def items(self, path: str) -> list[Item]:
        """The items of its file, or of the one in a folder. Raises DataError, which names file and row."""
        rows = [row for table in tables_of(path, (), self.files) for row in table.rows]
        return list(self.read(rows))

    @abstractmethod
    def read(self, rows: Sequence[Row]) -> Iterable[Item]:
        """The items of the rows of its file. Raises DataError."""

    @abstractmethod
    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """What an answer that was cut out is worth, by the protocol's rule: 0 to 1, and the components `right` and `found`."""

    def messages(self, item: Item, examples: Sequence[Row]) -> tuple[Message, ...]:
        """The prompt of the form `direct`. examples: worked ones to be shown before."""
        return ({"role": "user", "content": f"{item.instruction}\n{item.question}"},)

    def task(self, item: Item, form: Form, examples: Sequence[Row] = ()) -> Task:
        """The one try of an item."""
        reference = {
            "benchmark": self.name,
            "item": item.id,
            "unit": item.unit,
            "kind": str(self.kind),
            "story": item.story,
            "question": item.question,
            "answer": item.answer,
            "views": dict(item.views),
            "form": form,
            "chance": self.chance,
            **item.more,
        }
        row = {"id": item.id, "instruction": instruction_of(self.kind), "question": item.question}
        messages = self.messages(item, examples) if form == "direct" else prompts.messages(row, direct=False)
        return Task(f"{self.name}/{item.id}", messages, reference, self.restricted)

    def extras(self, counted: Sequence[Counted]) -> dict[str, float]:
        """What one answer to all items would score: the one that is right most often."""
        ((commonest, _),) = Counter(str(one.reference["answer"]) for one in counted).most_common(1)
        return {"commonest answer": fmean(self.mark(commonest, one.reference).reward for one in counted)}


def cut(text: str) -> str:
    """The answer of a text. What a model thinks or reasons in tags is none, nor what stands before a closing tag that nothing opens."""
    told = _REASONING.sub("", after_thought(text)).rpartition("</reasoning>")[2]
    parts = said(told)
    return (parts.answer or told).strip() if parts.value is None else parts.value.strip()


def marked(score: float, found: bool, **components: float) -> Scored:
    """A verdict on a single try."""
    return Scored(score, {"right": float(score == 1.0), "found": float(found), **components})


def overlap(found: set[Any], true: set[Any]) -> Scored:
    """F1 of two sets, with their Jaccard index as a component: 0 of nothing found. true: not empty."""
    common = len(found & true)
    return marked(2 * common / (len(found) + len(true)), bool(found), jaccard=common / len(found | true))
