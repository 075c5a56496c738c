"""What policy and raters are asked, in words of our own after the gist of the released prompts; and in those of the miniature world.

A rater sees story, question and reasoning, never the answer: it is to judge how somebody thought, not whether the letter is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from string import ascii_uppercase
from typing import Any

from orchestrator.values import Message

LETTERS = ascii_uppercase
Reference = Mapping[str, Any]
"""`Task.reference`: story, question and options of what was asked."""
Mention = Callable[[str, Reference], float | None]
"""(thinking, reference) -> where the first option is mentioned, 0 (first sign) to 1; None where none is."""

POLICY = (
    "Read the story and answer the question about the people in it. Think first, then answer. Write your reasoning between <think> and "
    "</think>, and after it the letter of the one option that fits best between <Answer> and </Answer>, like this:\n"
    "<think> your reasoning </think>\n<Answer> B </Answer>"
)
STRUCTURE = """You audit how somebody reasoned about a social situation. Judge the flow of the reasoning alone: whether its conclusion \
is correct does not matter, and you are not told.

Sound reasoning passes once through four stages, in this order:
1. Cues: it takes up what the story says and shows: words, feelings, facts.
2. Interpretation: from the cues and knowledge of the world it infers what each person sees, knows, believes, feels and wants.
3. Goals: it makes clear what the person asked about is after in this situation.
4. Response: it draws its conclusion, strictly from what came before.

Take off for each of these:
- Option parasitism: answer options are mentioned or weighed before the interpretation is made.
- Backward justification: the conclusion comes first, and reasons are sought for it afterwards.
- Broken sequence: a stage is left out, or comes out of order.
- Looping: it returns to a stage, or repeats one, without anything new.

The scale:
0.0-0.3  no such stages, or the reasoning fails altogether
0.4-0.6  stages are left out, or are there in name only
0.7-0.8  sound, but redundant or looping
0.9-1.0  one short forward chain through all four stages

[Story]
{story}

[Question]
{question}

[Reasoning]
{reasoning}

Write nothing but the score, a number from 0 to 1: <Score>x</Score>"""
CONTENT = (
    "Given the [Story] and the [Question], is the [Reasoning] that follows like that of a person: does it use the social cues of the "
    "story, is it logically consistent, and is it concise?\n\n[Story]\n{story}\n\n[Question]\n{question}"
)
NEUTRAL = "The story tells what each person saw and heard. From that follows what each of them knows."
"""The reasoning that a control question is about."""
COMPARISON = (
    "Two people reason about a social situation. Which reasoning is better: more like that of a person, truer to the cues of the story "
    "and to what each one in it knows and feels, logically consistent, and concise?\n\n[Story]\n{story}\n\n[Question]\n{question}\n\n"
    "[Reasoning A]\n{first}\n\n[Reasoning B]\n{second}\n\nAnswer with one letter, A or B."
)


@dataclass(frozen=True, slots=True)
class Wording:
    """How everything is said. policy: the task's message. structure, content: what the raters are asked about a reasoning. score: how
    the structure judge writes one. neutral: the reasoning that a control question is about. mention: where options come up. pieces: the
    whole of a reasoning, which is what the reward asks about, and then its segments, in order."""

    policy: Callable[[Reference], str]
    structure: Callable[[Reference, str], tuple[Message, ...]]
    content: Callable[[Reference, str], tuple[Message, ...]]
    score: Callable[[float], str]
    neutral: str
    mention: Mention
    pieces: Callable[[str], tuple[str, ...]]


def lettered(reference: Reference) -> str:
    """The options, one a line."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, reference["options"], strict=False))


def _policy(reference: Reference) -> str:
    story, question = reference["story"].strip(), reference["question"].strip()
    return f"{POLICY}\n\n[Story]\n{story}\n\n[Question]\n{question}\n\n[Options]\n{lettered(reference)}"


def _structure(reference: Reference, thinking: str) -> tuple[Message, ...]:
    text = STRUCTURE.format(story=reference["story"], question=reference["question"], reasoning=thinking.strip())
    return ({"role": "user", "content": text},)


def _content(reference: Reference, thinking: str) -> tuple[Message, ...]:
    asked = CONTENT.format(story=reference["story"], question=reference["question"])
    return ({"role": "user", "content": asked}, {"role": "assistant", "content": f"[Reasoning]\n{thinking.strip()}"})


SEGMENTS = 10
"""Segments of a reasoning: the paper's 4,200 reasonings made about 42,000."""
_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|\n+")
_NAMED = re.compile(
    r"(?i:\boptions?\s+\(?[A-Z]\b)|\b(?i:choice|answer)s?\s+(?i:is\s+)?[A-Z]\b|\([A-Z]\)|\b[A-Z][.):](?=\s|$)|\b[B-HJ-Z]\b"
)
"""A letter as an option's name: after such a word, in brackets, before a dot; alone where it is no word of English. Only after "option"
may it be a small one: "don't" and "Ann's" name none."""


def mention(thinking: str, reference: Reference) -> float | None:
    """Where the first option is mentioned, by its letter or its whole text, as a share of the thinking; None where none is."""
    letters = LETTERS[: len(reference["options"])]
    named = [match for match in _NAMED.finditer(thinking) if match[0].rstrip(".):")[-1].upper() in letters]
    # A text within a longer word ("no" in "know") is none; Chinese has no blanks between words.
    texts = [rf"(?<![a-z0-9]){re.escape(option.strip())}(?![a-z0-9])" for option in reference["options"]]
    whole = re.search("|".join(texts), thinking, re.IGNORECASE)
    found = [match.start() for match in (*named[:1], whole) if match]
    return min(found) / len(thinking) if found else None


def pieces(thinking: str) -> tuple[str, ...]:
    """The whole and its segments: at most `SEGMENTS` runs of whole sentences, of about as many sentences each."""
    sentences = [part.strip() for part in _SENTENCE_END.split(thinking) if part.strip()]
    count = min(SEGMENTS, len(sentences))
    cuts = [round(len(sentences) * number / count) for number in range(count + 1)] if count else []
    return (thinking.strip(), *(" ".join(sentences[start:end]) for start, end in pairwise(cuts)))


REAL = Wording(_policy, _structure, _content, lambda score: f"<Score>{score:.1f}</Score>", NEUTRAL, mention, pieces)
"""Of real text."""
