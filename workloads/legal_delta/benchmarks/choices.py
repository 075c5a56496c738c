"""Multiple choice of LexEval (3_3, prison terms) and DISC-Law-Eval (five exams), each by the rule of its own scorer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.data.tables import Row
from orchestrator.errors import DataError
from orchestrator.values import Message, Scored
from workloads.files import tables_of, text
from workloads.legal_delta.answers import Kind
from workloads.legal_delta.benchmarks.items import Benchmark, Item, marked

EXAMS = {
    "pae": "专利代理人资格考试",
    "nje": "国家统一法律职业资格考试",
    "pfe": "公务员及事业单位招聘考试",
    "ungee": "法律硕士研究生入学考试",
    "lbk": "法律基础知识题库",
}
EXAMPLES = "mcq_sing_examples.csv"
"""The worked examples of DISC-Law-Eval, in the order in which they are shown."""
ASKED = "下面是{exam}中的单项选择题，只有一个选项正确。请写出正确选项的字母和内容，不要解释。"
SHORT = 10
"""Answers of fewer characters are taken whole."""
_LETTERS = "([A-D](?:[ 、,，和及]*[A-D])*)"
SAYS = (re.compile(f"答案(?:应该|应当|应)?[是为选]?[ :：]*{_LETTERS}"), re.compile(f"选(?:择|项)?[ :：]*{_LETTERS}"))
"""How an answer names its letters; the first that is found counts."""
OPENS = re.compile("([A-D])[ ]*[.．、:：]")
"""How it repeats the options that it takes; all of them count."""


class Choice(Benchmark):
    """One of four options, A to D."""

    kind = Kind.CHOICE
    chance = 0.25


class LexEval(Choice):
    """LexEval 3_3 (NeurIPS 2024): which of four prison terms, by facts, charge and articles; 1,000 items.

    Protocol (CSHaitao/LexEval at 044c695): the letters of the answer, in order, are exactly the right one.
    """

    name, source, files = "lexeval_3_3", "lexeval", "3_3.*"

    def read(self, rows: Sequence[Row]) -> Iterable[Item]:
        """From rows of instruction, input and answer."""
        for number, row in enumerate(rows):
            letter = right_letter(row, "answer")
            yield Item(str(number), text(row, "instruction"), text(row, "input"), "", letter, {"letter": letter})

    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """Letters against the letter."""
        letters = named_letters(told)
        return marked(float(letters == reference["answer"]), bool(letters))


class DiscLaw(Choice):
    """An exam of DISC-Law-Eval, single choice (FudanDISC/DISC-LawLLM at f40d023): the set of letters is exactly the right one."""

    source = "disclaw"

    def __init__(self, exam: str) -> None:
        self._exam = EXAMS[exam]
        self.name, self.files = f"disclaw_{exam}", f"mcq_sing_{exam}.*"

    def read(self, rows: Sequence[Row]) -> Iterable[Item]:
        """From rows of input, A to D, output and source."""
        for number, row in enumerate(rows):
            letter = right_letter(row, "output")
            options = (f"{sign}.{text(row, sign)}" for sign in "ABCD")
            question = "\n".join((text(row, "input"), *options))
            views = {"letter": letter, "exam": text(row, "source")}
            yield Item(str(number), ASKED.format(exam=self._exam), question, "", letter, views)

    def messages(self, item: Item, examples: Sequence[Row]) -> tuple[Message, ...]:
        """What is asked, the examples as turns of before, the question."""
        shown = [
            message
            for row in examples
            for message in (
                {"role": "user", "content": text(row, "input")},
                {"role": "assistant", "content": text(row, "output")},
            )
        ]
        return (
            {"role": "system", "content": item.instruction},
            *shown,
            {"role": "user", "content": item.question},
        )

    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """Letters against the letter, in any order."""
        letters = chosen_letters(told)
        return marked(float(letters == {reference["answer"]}), bool(letters))


def named_letters(told: str) -> str:
    """The letters A to E in their order, each once: of what stands before an explanation, without separators, in runs of at most five
    that repeat none."""
    before = re.split("解析|分析", told)[0]
    runs = re.findall("[A-E]{1,5}", re.sub("[、.,;，和]", "", before))
    return "".join(dict.fromkeys("".join(run for run in runs if len(run) == len(set(run)))))


def chosen_letters(told: str) -> set[str]:
    """The letters A to D of a short answer; of a longer one those that it says are the answer, or begin an option."""
    if len(told) < SHORT:
        return set(re.findall("[A-D]", told))
    named = next((found[1] for pattern in SAYS if (found := pattern.search(told))), "")
    return set(re.findall("[A-D]", named)) or set(OPENS.findall(told))


def right_letter(row: Row, name: str) -> str:
    """The one right letter of a row. Raises DataError."""
    letter = text(row, name)
    if letter not in tuple("ABCD"):
        raise row.error(f"field {name!r} is {letter!r:.60}: it must be one of A, B, C, D.")
    return letter


def examples_of(path: str, count: int) -> list[Row]:
    """The first so many worked examples of the folder of DISC-Law-Eval. Raises DataError where they are not there."""
    if not count:
        return []
    if not Path(path).expanduser().is_dir():
        raise DataError(f"{path}: must be a folder with {EXAMPLES} in it: shots={count} shows examples from there.")
    rows = [row for table in tables_of(path, (), EXAMPLES) for row in table.rows]
    if len(rows) < count:
        raise DataError(f"{path}: {EXAMPLES} has {len(rows)} examples: set shots={len(rows)} at most.")
    return rows[:count]
