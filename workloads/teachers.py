"""Teachers: models whose word others learn from. What they say is asked for again where it tells nothing, and then stays open."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.config.schema import ServedConfig, setting
from orchestrator.values import Answer, Call, Fault, Turn, Unscored

ORACLE, TEACHER = "oracle", "teacher"
Question = TypeVar("Question")
Word = TypeVar("Word")


@dataclass
class TeacherConfig(ServedConfig):
    """Whose word is learned."""

    name: str = setting(
        ORACLE,
        "`oracle` (the truth that comes with the data: that of a miniature world, or labels of their own), hf:ID, path:FOLDER, "
        "run:NAME@ROLE or the URL of an OpenAI-compatible server.",
    )
    max_tokens: int = setting(
        0,
        "0 asks for the probabilities of the words that a verdict may be, as the next word. More lets the teacher write so many, "
        "for one that reasons first or tells no probabilities: its verdict is the one of those words that stands in its last line.",
        low=0,
    )
    temperature: float = setting(1.0, "Sampling temperature of what it writes.", low=0.01)


def until_told(
    questions: Sequence[Question],
    call: Callable[[Question, int], Call],
    verdict: Callable[[Question, Answer], Word | Unscored],
    retries: int,
) -> Generator[Sequence[Call], Sequence[Answer], list[Word | Unscored]]:
    """A verdict a question. call: of a question and the number of its attempt, from 0. verdict: what an answer to a question tells.
    What told nothing is asked again."""
    told: list[Word | Unscored] = [Unscored("not asked")] * len(questions)
    open_ = list(range(len(questions)))
    for attempt in range(retries + 1):
        said = yield [call(questions[index], attempt) for index in open_]
        for index, answer in zip(open_, said, strict=True):
            told[index] = verdict(questions[index], answer)
        # A fault was insisted on already.
        open_ = [
            index
            for index, answer in zip(open_, said, strict=True)
            if isinstance(told[index], Unscored) and not isinstance(answer, Fault)
        ]
        if not open_:
            break
    return told


def after_thought(text: str) -> str:
    """What follows the thinking of a model that thinks aloud, as those of the Qwen and DeepSeek families do; nothing where the thought
    has no end."""
    if "</think>" in text:
        return text.rpartition("</think>")[2].strip()
    return "" if text.lstrip().startswith("<think>") else text.strip()


def last_word(turn: Turn, words: Sequence[str]) -> str | Unscored:
    """The one of the words that stands in a text's last line, in any case."""
    lines = [line for line in after_thought(turn.text).splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    found = {word for word in words if re.search(rf"\b{word}\b", last, re.IGNORECASE)}
    if len(found) != 1:
        return Unscored(f"its last line is {last!r:.80}, which says none of {', '.join(words)}, or several")
    return found.pop()
