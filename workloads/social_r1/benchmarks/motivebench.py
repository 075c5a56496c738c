"""MotiveBench (Findings of ACL 2025): three six-way questions about each of 200 scenarios.

Protocol: each question in 18 fixed orders of its options; its score is the mean over them. Reported by type of question, by source, and
how often all three questions of a scenario are right. The released decoding has a repetition penalty of 1.05, which is left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, pvariance

from orchestrator.data.tables import Row
from orchestrator.values import Message
from workloads.benchmarks.results import Counted
from workloads.files import letter, tables_of, text, texts
from workloads.social_r1.benchmarks.items import (
    Asked,
    Benchmark,
    Form,
    Given,
    Item,
    Order,
    in_tags,
    position,
    unlettered,
    user,
)

_PUBLISHED = (
    "123456 654321 316542 235614 541263 462135 143256 254361 312546 235416 341265 562134",
    "132456 654231 315642 236514 541623 426135",
)
ORDERS: tuple[Order, ...] = tuple(
    tuple(int(digit) - 1 for digit in digits) for line in _PUBLISHED for digits in line.split(" ")
)
"""The 18 published ones."""
KINDS = {
    "Motivational": ("Motivation Reasoning Question", "Options 1", "Correct Answer 1"),
    "Behavioral": ("Behavior Reasoning Question", "Options 2", "Correct Answer 2"),
    "Motivational and Behavioral": ("Motivation and Behavior Reasoning Question", "Options 3", "Correct Answer 3"),
}
"""Type of question -> its fields."""
ENDS = {
    "direct": "Return one character alone: the letter of your answer.",
    "cot": "Think step by step. The last line of your reply must be one character alone: the letter of your answer.",
}


class MotiveBench(Benchmark):
    """600 questions, 18 tries each."""

    name = source = "motivebench"
    restricted = True

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From the folder of its three .json files, or one of them."""
        found = []
        for table in tables_of(path, (("default", "train"),), "*_questions.json"):
            source = table.name.removesuffix("_questions")
            for number, row in enumerate(table.rows):
                unit = f"{source}-{number}"
                found += [self._item(row, unit, source, kind) for kind in KINDS]
        return found

    def _item(self, row: Row, unit: str, source: str, kind: str) -> Item:
        question_name, options_name, answer_name = KINDS[kind]
        options = tuple(unlettered(option) for option in texts(row, options_name))
        if len(options) != len(ORDERS[0]):
            raise row.error(
                f"field {options_name!r} has {len(options)} options: the fixed orders are of {len(ORDERS[0])}."
            )
        gold = letter(row, answer_name, text(row, answer_name), options)
        asked = (Asked("", options, frozenset([gold])),)
        views = {"type": kind, "source": source}
        return Item(f"{unit}-{list(KINDS).index(kind) + 1}", unit, text(row, question_name), asked, views, kind)

    def orders(self, item: Item) -> list[tuple[Order, ...]]:
        """The 18 fixed ones."""
        return [(order,) for order in ORDERS]

    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """The type of question, the question with its scenario, the options as a list."""
        if form == "tagged":
            return in_tags(item, shown)
        options = ", ".join(f"{sign}. {option}" for sign, option in zip("ABCDEF", shown[0].options, strict=True))
        head = f"This is a {item.kind} Reasoning Question. Infer the answer that is most likely, and tell its letter."
        system: Message = {"role": "system", "content": "You are a helpful AI assistant."}
        return (system, user(head, item.story, f"Options: [{options}]", ENDS[form]))

    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """The first character of the reply, of one with steps of thought the last; signs around it do not count."""
        stripped = text.strip(" \n\t.'\"*")
        sign = (stripped[:1] if form == "direct" else stripped[-1:]).upper()
        return [position(sign if sign and sign in "ABCDEF" else None)]

    def components(self, counted: Sequence[Counted]) -> dict[str, dict[str, float]]:
        """`scenario`: the share of orders in which all questions of the scenario are right, on each of them; of scenarios that have
        all of these."""
        scenarios: dict[str, list[tuple[bool, ...]]] = defaultdict(list)
        for one in counted:
            scenarios[one.unit].append(one.tries)
        whole = {unit: tries for unit, tries in scenarios.items() if len(tries) == len(KINDS)}
        together = {unit: fmean(map(all, zip(*tries, strict=True))) for unit, tries in whole.items()}
        return {one.item: {"scenario": together[one.unit]} for one in counted if one.unit in together}

    def extras(self, counted: Sequence[Counted]) -> dict[str, float]:
        """How the accuracy varies with the order."""
        return {
            "variance over orders": pvariance(
                [fmean(tries) for tries in zip(*(one.tries for one in counted), strict=True)]
            )
        }
