"""TactfulToM (EMNLP 2025): white lies in conversations, asked as multiple choice, yes or no, and lists of characters.

Protocol: numbered options, the answer its number; yes or no; a list is right only if it names exactly the right ones. The right option
is published first, so options are shuffled. Temperature 0.2. Free-form answers are another evaluation, and left out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.data.tables import Row
from orchestrator.values import Message, stable_hash
from workloads.files import tables_of, text
from workloads.social_r1.benchmarks.items import Asked, Benchmark, Form, Given, Item, Order, in_tags, user

SEED = 42
CHOICE, BINARY, LIST = "choice", "binary", "list"
YES_NO = ("Yes", "No")
INFORMATION = ("information", "fact_question_real_reason", "fact_question_truth", "comprehension_q")
"""Fields of a question that hold what it is about; any other that begins as one of them counts too."""
ENDS = {
    CHOICE: "Answer with the number of the right option and nothing else.",
    BINARY: "Answer with Yes or No and nothing else.",
    LIST: "Answer with the numbers of all right options, with commas, and nothing else.",
}
THINK = "Think step by step. Give your answer in the last line. "


class TactfulToM(Benchmark):
    """All counted questions of the published sets."""

    name = source = "tactfultom"
    restricted = True
    temperature = 0.2
    lists = True

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From the folder of Tactful_conv_set_*.json, or one of them."""
        tables = tables_of(path, (("default", "train"),), "Tactful_conv_set_?.json")
        return [
            item
            for table in tables
            for number, row in enumerate(table.rows)
            for item in self._items(row, f"{table.name}-{number}")
        ]

    def _items(self, row: Row, unit: str) -> Iterator[Item]:
        story = text(row, "full_context")
        for name, questions in row.values.items():
            if "QA" not in name or not isinstance(questions, list):
                continue
            group = name.partition("QA")[0]
            for number, question in enumerate(questions):
                place = Row(f"{row.where}, {name}[{number}]", question if isinstance(question, dict) else {})
                asked, kind = _asked(place)
                yield Item(f"{unit}-{name}-{number}", unit, story, (asked,), {"question": group, "answer": kind}, kind)

    def orders(self, item: Item) -> list[tuple[Order, ...]]:
        """One shuffle; Yes and No stay as they are."""
        count = len(item.asked[0].options)
        if item.kind == BINARY:
            return [((0, 1),)]
        return [(tuple(random.Random(stable_hash(SEED, item.id)).sample(range(count), count)),)]

    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """Context, what the question is about, the question, numbered options."""
        if form == "tagged":
            return in_tags(item, shown, item.kind == LIST)
        (one,) = shown
        about, _, question = one.question.rpartition("\n")
        options = "\n".join(f"{number}. {option}" for number, option in enumerate(one.options, 1))
        return (
            user(
                f"# Context\n{item.story}",
                about and f"# Information\n{about}",
                f"# Question\n{question}",
                "" if item.kind == BINARY else f"# Options\n{options}",
                (THINK if form == "cot" else "") + ENDS[item.kind],
            ),
        )

    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """Yes or No, or numbers; of steps of thought those of the last line. Names are taken where a list has no numbers."""
        said = text.splitlines()[-1] if form == "cot" and text else text
        options = shown[0].options
        if kind == BINARY:
            found = re.search(r"\b(yes|no)\b", said, re.IGNORECASE)
            return [(YES_NO.index(found[1].capitalize()),) if found else None]
        numbers = [int(number) - 1 for number in re.findall(r"\d+", said)]
        if kind == CHOICE:
            return [tuple(numbers[:1]) or None]
        named = [place for place, option in enumerate(options) if re.search(rf"\b{re.escape(option)}\b", said)]
        return [tuple(sorted(set(numbers or named))) or None]


def _asked(row: Row) -> tuple[Asked, str]:
    """A question with its kind, which is told by what its right answer is. Raises DataError."""
    about = _about(row.values)
    question = "\n".join(filter(None, (about, " ".join(text(row, "question").split()))))
    right, wrong = row.values.get("correct_answer"), row.values.get("wrong_answer", [])
    wrong = [wrong] if isinstance(wrong, str) else wrong  # some questions have a single one
    if isinstance(right, list) and isinstance(wrong, list) and right:
        options = tuple(map(str, (*right, *wrong)))
        return Asked(question, options, frozenset(range(len(right)))), LIST
    if isinstance(right, str) and right.strip().capitalize() in YES_NO:
        return Asked(question, YES_NO, frozenset([YES_NO.index(right.strip().capitalize())])), BINARY
    if isinstance(right, str) and isinstance(wrong, list) and wrong:
        return Asked(question, tuple(map(str, (right, *wrong))), frozenset([0])), CHOICE
    raise row.error(
        f"field 'correct_answer' is {right!r:.60}: it must be yes or no, a list, or a text beside wrong answers."
    )


def _about(values: Mapping[str, Any]) -> str:
    """What a question is about, on one line."""
    found = [str(value) for name, value in values.items() if name.startswith(INFORMATION) and isinstance(value, str)]
    return " ".join(" ".join(found).split())
