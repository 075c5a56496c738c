"""Hi-ToM (Findings of EMNLP 2023): where does A think that B thinks that …, of orders 0 to 4, one of 15 places.

Protocol: accuracy by order of the question; joint accuracy of an order k: all questions about a story up to that order are right. The
two published prompts are the forms: VP, an answer at once, and CoTP, step by step.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from orchestrator.values import Message
from workloads.benchmarks.results import Counted
from workloads.social_r1.benchmarks.items import (
    LETTERS,
    Asked,
    Benchmark,
    Form,
    Given,
    Item,
    in_tags,
    user,
)
from workloads.social_r1.hitom import Published, read_hitom

LETTER = re.compile(r"[\W_]*(?![AI][ ,'’]+\w)([A-O])(?:\W|$)")
"""A letter at the beginning of an answer; A and I before another word are words themselves."""
NOTE = (
    "Note: someone in a room witnesses everything that happens there until leaving it. A can tell what B thinks only where A and B "
    "have been in the same room, or have spoken with each other. People tend to lie. Whoever is told something trusts the one who left "
    "the room later. What is told in private is heard by nobody else; a public claim is heard by everyone."
)
"""The rules of the world, which the published prompts end with, in other words."""
ENDS = {
    "direct": "Answer the multiple-choice question. Give the answer without an explanation.",
    "cot": "Think step by step. Then give the answer as `Answer: ` and one of the choices.",
}


class HiToM(Benchmark):
    """600 questions."""

    name = source = "hitom"
    told_by = "order"

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From Hi-ToM_data.json, its folder, or a file of such rows."""
        return [self._item(one) for one in read_hitom(path)]

    def _item(self, one: Published) -> Item:
        views = {
            "order": str(one.order),
            "deception": "yes" if one.deception else "no",
            "story length": one.length,
        }
        asked = (Asked(one.question, one.options, frozenset([one.answer])),)
        return Item(str(one.number), one.unit, one.story, asked, views)

    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """Story, question, choices, and the rules of the world."""
        if form == "tagged":
            *messages, last = in_tags(item, shown)
            return (*messages, {**last, "content": f"{NOTE}\n\n{last['content']}"})
        (one,) = shown
        choices = ", ".join(f"{letter}. {option}" for letter, option in zip(LETTERS, one.options, strict=False))
        return (user(f"Story:\n{item.story}", f"Question: {one.question}", f"Choices: {choices}", NOTE, ENDS[form]),)

    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """What follows the last "Answer:", where it is there: a letter at its beginning, else the choice that it names last."""
        said = re.split(r"answer\s*:", text, flags=re.IGNORECASE)[-1].strip()
        options = shown[0].options
        begins = LETTER.match(said)
        if begins and LETTERS.index(begins[1]) < len(options):
            return [(LETTERS.index(begins[1]),)]
        told = said.lower().replace(" ", "_")
        # Where each is named last, by its end: the longer of two of which one ends the other.
        ends = {
            option: told.rfind(name) + len(name)
            for option in options
            if (name := option.lower().replace(" ", "_")) in told
        }
        last = max(ends, key=lambda option: (ends[option], len(option)), default=None)
        return [None if last is None else (options.index(last),)]

    def components(self, counted: Sequence[Counted]) -> dict[str, dict[str, float]]:
        """`joint`: whether all questions about the story up to the item's order are right; of stories that have all of these."""
        stories: dict[str, dict[int, bool]] = defaultdict(dict)
        for one in counted:
            stories[one.unit][int(one.views["order"])] = one.score == 1.0
        found = {}
        for one in counted:
            orders, upto = stories[one.unit], range(int(one.views["order"]) + 1)
            if all(order in orders for order in upto):
                found[one.item] = {"joint": float(all(orders[order] for order in upto))}
        return found
