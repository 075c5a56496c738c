"""What an answer is worth, by LegalΔ's released rules (arXiv 2508.12281; src/reward.py of NEUIR/LegalDelta at e165a909a628).

    R_format (-0.25 to 1): the four tags, a marker, one `<eoa>`, and reasoning and answer that are both there
    R_legal  (0 to 5): F1 of articles and of charges, a log distance of prison terms, exactness of amounts and letters

Where text and code of the paper differ, this is the code: terms lose with ln((t + 1) / (p + 1)) over ln 36, linearly (the paper has
exp(-|ln p - ln t| / 36), which is hardly below 0.85), and everything is 5 times the paper's 0 to 1.

Its readers are kept as strict as they are, since they are what ran:
- Width is not folded. Full-width digits are read, but charges are parted by the half-width `;` alone.
- Brackets in charges count: `[窝藏、包庇]` is not `窝藏、包庇`.
- A paragraph takes its article with it: `第264条第1款` is no article.
- Articles that nothing parts run together: `第26条第4条` is 264. 万元 is 元: `二百万元` is article 200.
- Of `3年6个月` the months alone are read; `1,200元` is 1, and `1.5万元` is 1.5.
- Repetitions are not merged: a gold answer `第196条、第196条` is never worth 5, at most 3.333, for a single 196.
- A reasoning without a line of its own between its tags passes for one in R_format.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from math import log

import cn2an

from workloads.legal_delta.answers import DEATH, END, LIFE, MARKER, Kind, said

MOST = 5.0
"""R_legal of a right answer."""
LAST_ARTICLE = 490
"""Greater numbers are no articles."""
TERM_SCALE = log(36)
"""Log distance of prison terms at which nothing is left."""
PART = 0.125
"""Of R_format, for each tag, for a marker and for one `<eoa>`; twice that for reasoning and answer being there."""
TAGS = ("<reasoning>\n", "\n</reasoning>\n", "<answer>\n", "\n</answer>")
"""Each is to be there once."""
TRAILING_COST, MOST_TRAILING = 0.01, 0.375
"""Of each character after the answer's end, and of all of them."""
_CRIME = ("犯罪所得", "犯罪分子", "经济犯")
"""Charges with these keep a 罪 at their end."""
_LONGEST_NUMBER = 9
_LONGEST_VALUE = 2000
"""Characters. Longer ones, which the 512 tokens of the released runs can hardly hold, would be read for minutes."""

Value = int | float | str
Values = list[int] | list[str]


def format_reward(text: str) -> float:
    """R_format of a completion, -0.25 to 1. Where no `</answer>` follows the `<eoa>`, all of the text counts as trailing."""
    score = PART * sum(text.count(tag) == 1 for tag in TAGS)
    score += PART * bool(MARKER.search(text))
    if text.count(END) == 1:
        trailing = text.rpartition(f"{END}\n</answer>")[2]
        score += PART - min(TRAILING_COST * len(trailing), MOST_TRAILING)
    return score + 2 * PART * _is_whole(text)


def _is_whole(text: str) -> bool:
    """Whether there is a reasoning, and an answer with something in brackets and the end sign. The first of each tag counts."""
    reasoning, answer = _first(text, "<reasoning>\n", "\n</reasoning>\n"), _first(text, "<answer>\n", "\n</answer>")
    return bool(reasoning) and END in answer and re.search(r"\[[^\]]+\]", answer) is not None


def _first(text: str, start: str, end: str) -> str:
    """Between a tag and the next of its kind, up to the closing one if there is one there; empty where there is no tag."""
    return [*text.split(start, 2), ""][1].partition(end)[0]


def articles(value: str) -> list[int]:
    """Numbers of articles, in order, repeated ones too: the first number of each piece between commas and blanks."""
    numbers = []
    for piece in re.split(r"[,，、\s]+", value):
        digits = article_digits(piece)
        number = None if digits is None else _whole(digits)
        if number is not None and number <= LAST_ARTICLE:
            numbers.append(number)
    return numbers


def article_digits(piece: str) -> str | None:
    """The first number of a piece, Chinese numerals included: without 第…款, without 第 and 条 around it, and with 万元 as 元; None
    where there is none. LawBench reads so too."""
    bare = re.sub("第(.*?)条", r"\1", re.sub("第.*?款", "", piece.replace("万元", "元")))
    found = re.search(r"\d+", arabic(bare))
    return found[0] if found else None


def charges(value: str) -> list[str]:
    """Names of charges in lower case, in order, without the 罪 at their end."""
    return [_bare(charge.strip().lower()) for charge in value.split(";") if charge.strip()]


def _bare(charge: str) -> str:
    if len(charge) > 1 and charge.endswith("罪") and not any(word in charge for word in _CRIME):
        return charge[:-1].strip()
    return charge


def term(value: str) -> int | str | None:
    """A prison term: months, 无期 or 死刑; None where there is none. Years count where no months are told."""
    for word in (LIFE, DEATH):
        if word in value:
            return word
    told = arabic(value)
    for pattern, months in ((r"(\d+)个月", 1), (r"(\d+)月", 1), (r"(\d+)年", 12)):
        if found := re.search(pattern, told):
            number = _whole(found[1])
            return None if number is None else number * months
    return None


def amount(value: str) -> float | None:
    """The first number; None where there is none."""
    found = re.search(r"\d+\.?\d*", value.replace("元", ""))
    return float(found[0]) if found else None


def letter(value: str) -> str | None:
    """The first letter from A to E; None where there is none."""
    found = re.search("[A-E]", value)
    return found[0] if found else None


def arabic(text: str) -> str:
    """With Chinese numerals as digits; those that are no number stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(cn2an.transform(text, "cn2an"))


def _whole(digits: str) -> int | None:
    """None of a number that no article and no term has, and that `int` may refuse for its length."""
    return int(digits) if len(digits) <= _LONGEST_NUMBER else None


LISTS: dict[Kind, Callable[[str], Values]] = {Kind.ARTICLE: articles, Kind.CHARGE: charges}
"""Readers of the tasks whose answers have several parts."""
SINGLES: dict[Kind, Callable[[str], Value | None]] = {Kind.SENTENCE: term, Kind.AMOUNT: amount, Kind.CHOICE: letter}
"""Readers of the others."""


def read(kind: Kind, value: str | None) -> Sequence[Value]:
    """The parts of an answer's value, in order; empty where there is none, or it cannot be read."""
    if value is None or len(value) > _LONGEST_VALUE:
        return ()
    if kind in LISTS:
        return LISTS[kind](value.strip())
    found = SINGLES[kind](value.strip())
    return () if found is None else (found,)


def read_gold(kind: Kind, gold: str) -> Sequence[Value]:
    """As `read`, of a gold answer with its marker and `<eoa>`."""
    return read(kind, said(gold).value_of(kind))


def legal_reward(kind: Kind, value: str | None, gold: str) -> float:
    """R_legal, 0 to 5. value: what `Said.value_of` has, None where the answer is missing. gold: `[刑期]36月<eoa>` and the like."""
    found, true = read(kind, value), read_gold(kind, gold)
    if not found or not true:
        return 0.0
    if kind in LISTS:
        return round(MOST * f1(found, true), 3)
    if kind is Kind.SENTENCE:
        return MOST * _closeness(found[0], true[0])
    return MOST * (found[0] == true[0])


def f1(found: Sequence[Value], true: Sequence[Value]) -> float:
    """2 P R / (P + R), with the common distinct parts over the length of each list, repetitions counted."""
    common = len(set(found) & set(true))
    # P = common / found and R = common / true make F1 = 2 common / (found + true).
    return 2 * common / (len(found) + len(true))


def _closeness(found: Value, true: Value) -> float:
    if found == true:
        return 1.0
    if isinstance(found, str) or isinstance(true, str):
        return 0.0
    return max(0.0, 1 - abs(log(true + 1) - log(found + 1)) / TERM_SCALE)


def exact(kind: Kind, value: str | None, gold: str) -> bool:
    """Whether an answer is right: the same parts as the gold one, whatever their order and repetitions."""
    found = read(kind, value)
    return bool(found) and set(found) == set(read_gold(kind, gold))
