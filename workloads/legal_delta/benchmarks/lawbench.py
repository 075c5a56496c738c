"""LawBench (EMNLP 2024): judgement prediction and case analysis in Chinese, 500 items a task, each by the rule of its own scorer.

Protocol (open-compass/LawBench at e30981b): the instruction and the question are the prompt, greedy, and the score is the mean over
items. Texts are from CAIL2018, JEC-QA and LAIC2021, which have terms of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any, ClassVar

from orchestrator.data.tables import Row
from orchestrator.values import Scored
from workloads.files import text
from workloads.legal_delta.answers import DEATH, LIFE, Kind
from workloads.legal_delta.benchmarks.items import Benchmark, Item, marked, overlap
from workloads.legal_delta.data import facts
from workloads.legal_delta.scores import article_digits, term

LONGEST_TERM = log(216)
"""Log distance of a prison term that is worth nothing; also what an answer without a term counts as."""
BANDS = (12, 36, 120)
"""Months up to which prison terms are told together."""


class LawBench(Benchmark):
    """A task. begins: what every published answer begins with, ends: with what it may end."""

    source = "lawbench"
    restricted = True
    begins: ClassVar[str]
    ends: ClassVar[str] = ""

    def read(self, rows: Sequence[Row]) -> Iterable[Item]:
        """From rows of instruction, question and answer."""
        return [self.item(str(number), row, self.answer(row)) for number, row in enumerate(rows)]

    def answer(self, row: Row) -> str:
        """The right answer of a row. Raises DataError where it has not the task's form."""
        published = text(row, "answer")
        value = published.removeprefix(self.begins).removesuffix(self.ends)
        if not published.startswith(self.begins) or not self.is_answer(value):
            raise row.error(
                f"field 'answer' is {published!r:.60}: {self.name} has answers such as {self.begins}…{self.ends}."
            )
        return value

    def is_answer(self, value: str) -> bool:
        """Whether it can be right."""
        return bool(value)

    def item(self, number: str, row: Row, answer: str, **more: Any) -> Item:
        """The facts are the story, without their heading."""
        question = text(row, "question")
        story = facts(question.removeprefix("文书:"))
        return Item(number, text(row, "instruction"), question, story, answer, self.views(answer), more)

    def views(self, answer: str) -> dict[str, str]:
        """What an item is reported by."""
        return {}


class Articles(LawBench):
    """3-1, articles of the criminal law by facts and charge: F1 of their numbers, and the Jaccard index."""

    name, files = "lawbench_3_1", "3-1.*"
    kind = Kind.ARTICLE
    begins = "法条:"

    def is_answer(self, value: str) -> bool:
        """Whether it names an article."""
        return bool(articles(value))

    def views(self, answer: str) -> dict[str, str]:
        """By how many are right."""
        return {"articles": several(articles(answer))}

    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """Numbers against numbers."""
        return overlap(articles(told), articles(reference["answer"]))


class Charges(LawBench):
    """3-3, charges by facts: F1 of names, and the Jaccard index.

    Those of the listed names count that stand anywhere in an answer, a name inside of another one too: 合同诈骗 says 诈骗 as well. The
    published list has 189 names; here it is all that are right answers in the file, 202 in the published one.
    """

    name, files = "lawbench_3_3", "3-3.*"
    kind = Kind.CHARGE
    begins = "罪名:"

    def read(self, rows: Sequence[Row]) -> Iterable[Item]:
        """Each with the list of all names."""
        answers = [self.answer(row) for row in rows]
        listed = sorted({charge for answer in answers for charge in answer.split(";")})
        return [
            self.item(str(number), row, answer, listed=listed)
            for number, (row, answer) in enumerate(zip(rows, answers, strict=True))
        ]

    def views(self, answer: str) -> dict[str, str]:
        """By how many are right."""
        return {"charges": several(answer.split(";"))}

    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """Names against names."""
        return overlap(
            {charge for charge in reference["listed"] if charge in told}, set(reference["answer"].split(";"))
        )


class Terms(LawBench):
    """3-4, the prison term by facts, charge and numbers of articles: (ln 216 - |ln(t + 1) - ln(p + 1)|) / ln 216, in months.

    Below 0 of a term further off than 215 months from none. Items whose sentence is for life or death are left out, as published.
    """

    name, files = "lawbench_3_4", "3-4.*"
    kind = Kind.SENTENCE
    begins = "刑期:"

    def read(self, rows: Sequence[Row]) -> Iterable[Item]:
        """Those with a number of months."""
        return [item for item in super().read(rows) if item.answer not in (LIFE, DEATH)]

    def is_answer(self, value: str) -> bool:
        """Whether it is a number, or one of the two words that have none."""
        return re.fullmatch(r"\d+个月", value) is not None or value in (LIFE, DEATH)

    def views(self, answer: str) -> dict[str, str]:
        """By how long it is."""
        months = term(answer)
        if not isinstance(months, int):
            return {}
        return {"months": next((f"up to {most}" for most in BANDS if months <= most), f"over {BANDS[-1]}")}

    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """The first number of months counts, of years where there is none; words for life and death do not."""
        months, true = term(told.replace(LIFE, "").replace(DEATH, "")), term(reference["answer"])
        assert isinstance(true, int)
        if not isinstance(months, int):
            return marked(0.0, False)
        return marked(1 - abs(log(true + 1) - log(months + 1)) / LONGEST_TERM, True)


class TermsByText(Terms):
    """3-5, as 3-4 with the text of the articles."""

    name, files = "lawbench_3_5", "3-5.*"


class CaseAnalysis(LawBench):
    """3-6, multiple choice about a case: right if the right letter is the only one of A to D in the answer."""

    name, files = "lawbench_3_6", "3-6.*"
    kind = Kind.CHOICE
    chance = 0.25
    begins, ends = "正确答案:", "。"

    def is_answer(self, value: str) -> bool:
        """Whether it is a letter."""
        return value in tuple("ABCD")

    def item(self, number: str, row: Row, answer: str, **more: Any) -> Item:
        """The question with its options is all there is."""
        question = text(row, "question")
        return Item(number, text(row, "instruction"), question, "", answer, {"letter": answer})

    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """Letters against the letter."""
        letters = {letter for letter in "ABCD" if letter in told}
        return marked(float(letters == {reference["answer"]}), bool(letters))


class Amounts(LawBench):
    """3-7, the total amount of a crime: right if it is among the numbers of the answer."""

    name, files = "lawbench_3_7", "3-7.*"
    kind = Kind.AMOUNT
    begins, ends = "上文涉及到的犯罪金额:", "元。"

    def is_answer(self, value: str) -> bool:
        """Whether it is a number."""
        return numbers(value) != set() and re.fullmatch(r"[\d.]+", value) is not None

    def mark(self, told: str, reference: Mapping[str, Any]) -> Scored:
        """Numbers against the number."""
        found = numbers(told)
        return marked(float(float(reference["answer"]) in found), bool(found))


def articles(told: str) -> set[float]:
    """Numbers of articles: of each piece between 、 the first number, Chinese numerals included. As published, what stands between 第
    and 款 is left out, so that 第264条第1款 is no article, and articles without 、 between them run together: 第26条第4条 is 264."""
    return {float(digits) for piece in told.split("、") if (digits := article_digits(piece)) is not None}


def numbers(told: str) -> set[float]:
    """All numbers of a text; commas end one."""
    return {float(found) for found in re.findall(r"\d+\.?\d*", told)}


def several(parts: Sequence[Any] | set[Any]) -> str:
    """A number of parts as a view tells it."""
    return str(len(parts)) if len(parts) < 4 else "4 or more"
