"""Benchmarks of plain multiple choice, asked alike: SocialIQA, and SimpleToM with its three kinds of question."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from orchestrator.data.tables import Row
from orchestrator.values import Message
from workloads.benchmarks.results import Counted
from workloads.files import as_texts, letter, tables_of, text
from workloads.social_r1.benchmarks.items import (
    Asked,
    Benchmark,
    Form,
    Given,
    Item,
    in_tags,
    lettered,
    position,
    user,
)

THINK = "Think step by step. End your reply with `Therefore, the answer is: ` and the letter."
PLAIN = "Answer with the letter alone, such as (A)."
SYSTEM: Message = {"role": "system", "content": "You are a helpful assistant."}
KINDS = {"mental": "aware", "behavior": "action", "judgment": "judge", "judgement": "judge"}
"""How the name of a file or configuration of SimpleToM begins -> what its questions ask."""


class PlainChoice(Benchmark):
    """Story, question and (A), (B) … under a plain system prompt."""

    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """Story, question, options."""
        if form == "tagged":
            return in_tags(item, shown)
        (one,) = shown
        options = lettered(one.options, "({letter}) {option}")
        ends = THINK if form == "cot" else PLAIN
        return (SYSTEM, user(f"Story: {item.story}", f"Question: {one.question}", options, ends))

    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """The first letter in brackets, of steps of thought after the last "the answer is"; else the first that stands alone."""
        said = re.split(r"the answer is", text, flags=re.IGNORECASE)[-1] if form == "cot" else text
        return [position(bracketed(said, len(shown[0].options)))]


class SocialIQA(PlainChoice):
    """Social IQa (EMNLP 2019), the 1,954 questions of its development set: accuracy, three options."""

    name = source = "socialiqa"

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From rows of context, question, answerA, answerB, answerC and label, 1 to 3 (or A to C, or `correct`); of a folder those
        of the files with "dev" in their name, as training sets lie beside it."""
        rows = [row for table in tables_of(path, (("default", "validation"),), "*dev*") for row in table.rows]
        return [self._item(row, number) for number, row in enumerate(rows)]

    def _item(self, row: Row, number: int) -> Item:
        context = text(row, "context")
        options = tuple(text(row, f"answer{sign}") for sign in "ABC")
        name = next((name for name in ("label", "correct") if name in row.values), None)
        if name is None:
            raise row.error(
                "field 'label' is missing: write the labels, which may lie in a file of their own, into the rows."
            )
        told = str(row.values[name]).strip().removesuffix(".0")
        signs = {"1": "A", "2": "B", "3": "C"}
        gold = letter(row, name, signs.get(told, told), options)
        return Item(str(number), context, context, (Asked(text(row, "question"), options, frozenset([gold])),))


class SimpleToM(PlainChoice):
    """SimpleToM: is a character aware of something, what will they do, was that reasonable. Accuracy of each, and the mean."""

    name = source = "simpletom"

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From the three sets of questions: mental-state-qa, behavior-qa, judgment-qa; a folder of them, a file of one, or the hub."""
        hub = tuple((name, "test") for name in ("mental-state-qa", "behavior-qa", "judgment-qa"))
        found = []
        for table in tables_of(path, hub):
            kind = next((kind for begins, kind in KINDS.items() if begins in table.name.lower()), None)
            # The stories by themselves lie beside the questions.
            asked = [row for row in table.rows if "answerKey" in row.values]
            if kind is None and asked:
                raise asked[0].error(
                    f"field 'answerKey' is there, and {table.name} names no set of questions: name the file as the published ones, "
                    "mental-state-qa, behavior-qa or judgment-qa."
                )
            found += [self._item(row, str(kind), f"{table.name}-{number}") for number, row in enumerate(asked)]
        return found

    def _item(self, row: Row, kind: str, name: str) -> Item:
        choices = row.values.get("choices")
        if not isinstance(choices, dict):
            raise row.error(f"field 'choices' is {choices!r:.60}: it must have `text`, a list of the options.")
        options = as_texts(row, "choices.text", choices.get("text"))
        gold = letter(row, "answerKey", text(row, "answerKey"), options)
        story = text(row, "story")
        asked = (Asked(text(row, "question"), options, frozenset([gold])),)
        return Item(name, " ".join(story.split()), story, asked, {"question": kind})

    def extras(self, counted: Sequence[Counted]) -> dict[str, float]:
        """The mean over the kinds of question."""
        kinds: dict[str, list[float]] = defaultdict(list)
        for one in counted:
            kinds[one.views["question"]].append(one.score)
        return {"mean of question scores": fmean(map(fmean, kinds.values()))}


def bracketed(text: str, count: int) -> str | None:
    """The first of the first `count` letters in round brackets, else the first that stands alone."""
    last = chr(ord("A") + count - 1)
    for pattern in (rf"\(([A-{last}])\)", rf"\b([A-{last}])\b"):
        if found := re.search(pattern, text):
            return found[1]
    return None
