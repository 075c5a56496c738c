"""ToMBench (ACL 2024) and ToMBench-Hard: multiple choice by ability and task, in Chinese and English.

Protocol of ToMBench: five tries an item with shuffled options, greedy, the letter in double square brackets; each try's letter is led
back to the published option, and the option that most tries name counts. Two-option items have NaN in place of the others.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from orchestrator.data.tables import Row
from orchestrator.values import Message, stable_hash
from workloads.benchmarks.results import Counted
from workloads.files import Table, fields_like, letter, tables_of, text
from workloads.social_r1.benchmarks.items import (
    LETTERS,
    Asked,
    Benchmark,
    Form,
    Given,
    Item,
    Order,
    in_tags,
    lettered,
    position,
    unlettered,
    user,
)
from workloads.social_r1.questions import question_of

SEED, TRIES = 42, 5
"""Of the shuffles. The order is drawn for each item apart, so that a limit changes no order of another item."""
TASKS = {
    "unexpected outcome": "UOT", "scalar implicature": "SIT", "persuasion story": "PST", "false belief": "FBT",
    "ambiguous story": "AST", "hinting": "HT", "strange story": "SST", "faux-pas recognition": "FRT",
}  # fmt: skip
"""How a file's name begins -> the task of the task view; the other files are in the ability view alone."""
COLUMNS = {"en": ("STORY", "QUESTION", "OPTION-"), "zh": ("故事", "问题", "选项")}
SYSTEM = {
    (
        "en",
        "direct",
    ): "You are given a short story, a question about it and possible answers. Choose the answer that is most likely "
    "right. Write nothing but its letter in double square brackets, such as [[A]]. You must always choose one.",
    (
        "en",
        "cot",
    ): "You are given a short story, a question about it and possible answers. Choose the answer that is most likely "
    "right. First reason step by step; end with its letter in double square brackets, such as [[A]]. You must always choose one.",
    (
        "zh",
        "direct",
    ): "下面给出一个短故事、一个相关问题和若干候选答案。请选出最可能正确的一项，只输出用双方括号括起的选项字母，"
    "例如[[A]]，不要输出其他内容。你必须作出选择。",
    (
        "zh",
        "cot",
    ): "下面给出一个短故事、一个相关问题和若干候选答案。请选出最可能正确的一项。请先逐步推理，最后输出用双方括号括起的"
    "选项字母，例如[[A]]。你必须作出选择。",
}
PARTS = {"en": ("[Story]", "[Question]", "[Candidate Answers]"), "zh": ("[故事]", "[问题]", "[候选答案]")}


class ToMBench(Benchmark):
    """The 2,860 published items."""

    name = source = "tombench"
    vote = True

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From the folder of its .jsonl files, or one of them."""
        found = []
        for table in tables_of(path, (("default", "train"),)):
            for number, row in enumerate(table.rows):
                found += [self._item(row, table, number, language) for language in languages if language in COLUMNS]
        return found

    def _item(self, row: Row, table: Table, number: int, language: str) -> Item:
        story_name, question_name, option_name = COLUMNS[language]
        story, question = text(row, story_name), text(row, question_name)
        options = tuple(unlettered(text(row, name)) for name in fields_like(row.values, option_name))
        if len(options) < 2:
            raise row.error(f"field '{option_name}A' and its neighbours hold {len(options)} options: two are needed.")
        name = next((name for name in row.values if "ANSWER" in name), "答案\nANSWER")
        gold = letter(row, name, text(row, name), options)
        ability = ability_of(text(row, *[name for name in row.values if "ABILITY" in name], "能力\nABILITY"))
        views = {"ability": ability.partition(":")[0], "kind of ability": ability, "language": language}
        task = " ".join(table.name.replace("_", " ").lower().split())
        views |= next(({"task": short} for words, short in TASKS.items() if task.startswith(words)), {})
        asked = (Asked(question, options, frozenset([gold])),)
        # The story in both languages is one.
        unit = " ".join(str(row.values.get("STORY", story)).split())
        return Item(f"{table.name}-{number}-{language}".replace(" ", "_"), unit, story, asked, views)

    def orders(self, item: Item) -> list[tuple[Order, ...]]:
        """Five shuffles."""
        drawn = random.Random(stable_hash(SEED, item.id))
        count = len(item.asked[0].options)
        return [(tuple(drawn.sample(range(count), count)),) for _ in range(TRIES)]

    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """A system prompt, and the story, question and answers under their headings."""
        return headed(item, shown, form, item.views["language"])

    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """The protocol's rule; where no letter is found the vote takes A."""
        return [position(bracketed(text))]

    def extras(self, counted: Sequence[Counted]) -> dict[str, float]:
        """The published averages: plain means over abilities and over tasks."""
        found = {}
        for view in ("ability", "task"):
            groups: dict[str, list[float]] = defaultdict(list)
            for one in counted:
                if view in one.views:
                    groups[one.views[view]].append(one.score)
            if groups:
                found[f"mean of {view} scores"] = fmean(fmean(values) for values in groups.values())
        return found


class ToMBenchHard(Benchmark):
    """800 adversarial items of up to six options: the letter's accuracy."""

    name = source = "tombench_hard"
    restricted = True

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From rows of story, question, options (or A to F) and answer, read as those that are trained on."""
        tables = tables_of(path, (("default", "validation"),))
        return [self._item(row, f"{table.name}-{number}") for table in tables for number, row in enumerate(table.rows)]

    def _item(self, row: Row, name: str) -> Item:
        one = question_of(row)
        asked = (Asked(one.question, one.options, frozenset([one.answer])),)
        views = {"ability": ability_of(one.ability).partition(":")[0]} if one.ability else {}
        return Item(name, one.group, one.story, asked, views)

    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """As ToMBench, in English."""
        return headed(item, shown, form, "en")

    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """As ToMBench, of up to six letters; nothing found is nothing."""
        return [position(bracketed(text, LETTERS[: len(shown[0].options)]))]


def headed(item: Item, shown: Sequence[Asked], form: Form, language: str) -> tuple[Message, ...]:
    """The prompt in a language."""
    if form == "tagged":
        return in_tags(item, shown)
    (one,) = shown
    parts = (item.story, one.question, lettered(one.options))
    asked = (f"{head}\n{part}" for head, part in zip(PARTS[language], parts, strict=True))
    return ({"role": "system", "content": SYSTEM[language, form]}, user(*asked))


def bracketed(text: str, letters: str = "ABCD") -> str | None:
    """The letter by ToMBench's rule: [[A]] … [[D]], looked for in this order; else [A] … [D]; else the last of these capitals that
    stands anywhere; else none."""
    for form in ("[[{}]]", "[{}]"):
        for sign in letters:
            if form.format(sign) in text:
                return sign
    found = re.findall(f"[{letters}]", text)
    return found[-1] if found else None


def ability_of(label: str) -> str:
    """A published label without the variants of its spelling: blanks at its end, capitals, a second label after the first."""
    label = " ".join(label.split())
    first, colon, rest = label.partition(":")
    area = first.strip().capitalize()
    for other in (f" {first}:", f" {first.lower()}:"):
        rest = rest.replace(other, " +")
    return f"{area}: {rest.strip()}" if colon else area
