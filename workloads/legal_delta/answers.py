"""The form of LegalΔ's answers: five tasks, each with a marker of its own, and where in a text the answer stands.

    <reasoning>
    ...
    </reasoning>
    <answer>
    [刑期]36月<eoa>
    </answer>

What is scored is the first `[marker]...<eoa>` of the task, as in the released code (src/reward.py of NEUIR/LegalDelta at e165a909a628).
Logits are read between the last marker and the first `<eoa` after it. The code (UnslothGRPOTrainer.py) reads them after the last `]`,
which inside a charge such as `[窝藏、包庇]` is no marker's. Of an answer in its form all of these are the same characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """The tasks (paper, Table 4): articles of the criminal law, charges, prison term, amount of money, multiple choice."""

    ARTICLE = "article"
    CHARGE = "charge"
    SENTENCE = "sentence"
    AMOUNT = "amount"
    CHOICE = "choice"


MARKERS = {
    Kind.ARTICLE: "[法条]",
    Kind.CHARGE: "[罪名]",
    Kind.SENTENCE: "[刑期]",
    Kind.AMOUNT: "[金额]",
    Kind.CHOICE: "[正确答案]",
}
"""What an answer to each task begins with."""
END = "<eoa>"
"""What every answer ends with."""
LIFE, DEATH = "无期", "死刑"
"""Sentences that are no number of months."""
PHRASES = {
    Kind.SENTENCE: "案件事实、罪名和法条的分析过程",
    Kind.ARTICLE: "案件事实和罪名的分析过程",
    Kind.AMOUNT: "所有涉案金额的计算过程",
    Kind.CHARGE: "如何得出最终罪名",
    Kind.CHOICE: "选择特定选项作为答案",
}
"""Words of the published instructions that tell the task: each stands in the instructions of its own task alone."""
MARKER = re.compile("|".join(map(re.escape, MARKERS.values())))
_UNIT = re.compile("元|个?月")


def kind_of(instruction: str) -> Kind | None:
    """The task of an instruction with a reasoning block, by its words; None where it has those of none, or of several."""
    kinds = [kind for kind, phrase in PHRASES.items() if phrase in instruction]
    return kinds[0] if len(kinds) == 1 else None


@dataclass(frozen=True, slots=True)
class Said:
    """A text in its parts. reasoning: within the first `<reasoning>`, answer: within the last `<answer>`, blanks at their ends
    aside; empty where a tag is missing. marker: the last one of the text, with its brackets. value: what stands between it and the
    first `<eoa` after it, span: the same as characters of the text, [start, stop); None where one of the two is missing.
    """

    text: str
    reasoning: str
    answer: str
    marker: str | None
    value: str | None
    span: tuple[int, int] | None

    def value_of(self, kind: Kind) -> str | None:
        """What is scored: between the first marker of the task and the next `<eoa>`; None where there is no such pair."""
        found = re.search(f"{re.escape(MARKERS[kind])}(.*?){END}", self.text, re.DOTALL)
        return found[1] if found else None


def said(text: str) -> Said:
    """The parts of a text. Never fails: what is not there is empty or None."""
    reasoning, reasoning_end, _ = text.partition("<reasoning>")[2].partition("</reasoning>")
    _, answer_start, rest = text.rpartition("<answer>")
    answer, answer_end, _ = rest.partition("</answer>")
    marker = max(MARKER.finditer(text), key=re.Match.end, default=None)
    stop = text.find("<eoa", marker.end()) if marker else -1
    span = (marker.end(), stop) if marker and stop >= 0 else None
    return Said(
        text,
        reasoning.strip() if reasoning_end else "",
        answer.strip() if answer_start and answer_end else "",
        marker[0] if marker else None,
        text[slice(*span)] if span else None,
        span,
    )


def rated(text: str, span: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """The pieces of a span whose tokens' logits are averaged: all but the units 元, 个月 and 月, which follow by themselves."""
    pieces, start = [], span[0]
    for unit in _UNIT.finditer(text, *span):
        pieces.append((start, unit.start()))
        start = unit.end()
    pieces.append((start, span[1]))
    return tuple((first, last) for first, last in pieces if first < last)


def written(kind: Kind, *values: int | float | str) -> str:
    """An answer in its form. values: numbers of articles, charges without 罪, months (or 无期, 死刑), yuan, or a letter."""
    if kind is Kind.ARTICLE:
        told = "、".join(f"刑法第{number}条" for number in values)
    elif kind is Kind.CHARGE:
        told = ";".join(map(str, values))
    elif kind is Kind.SENTENCE:
        told = str(values[0]) if values[0] in (LIFE, DEATH) else f"{values[0]}月"
    elif kind is Kind.AMOUNT:
        told = f"{float(values[0])}元"
    else:
        told = str(values[0])
    return f"{MARKERS[kind]}{told}{END}"


def direct(answer: str) -> str:
    """The assistant's message where no reasoning is asked for."""
    return f"<answer>\n{answer}\n</answer>"


def reasoned(reasoning: str, answer: str) -> str:
    """The assistant's message with its reasoning."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n{direct(answer)}"
