"""The miniature: the world's items as questions, what raters are asked in its words, and reasonings of all qualities."""

from __future__ import annotations

import random
from dataclasses import replace

from orchestrator.values import Message
from workloads.social_r1 import reasoning, world
from workloads.social_r1.prompts import LETTERS, Reference, Wording
from workloads.social_r1.questions import Question
from workloads.social_r1.reward import said

GLUE = ("reasoning", "score", "<Score>", "</Score>", "0", "1")
"""Words of the raters' questions and answers that no story holds."""
NEUTRAL = "so : ."
TWIN = "-b"
"""Ends the id of a pair's adversarial twin."""


def vocabulary() -> tuple[str, ...]:
    """Every word that is read or written."""
    return tuple(dict.fromkeys((*world.vocabulary(), *GLUE)))


def question_of(item: world.Item) -> Question:
    """An item as a question."""
    return Question(
        item.id,
        item.pair,
        item.story,
        item.question,
        item.options,
        item.answer,
        item.ability,
        item.order,
        item.id.endswith(TWIN),
    )


def thinking(item: world.Item, rng: random.Random) -> str:
    """A reasoning of any quality: half as the policy's warm-up has them, half of qualities that it never shows. Its answer's format
    holds, as that of any reasoning that a rater is asked about; it may be empty."""
    quality = (reasoning.warmup_quality if rng.random() < 0.5 else reasoning.any_quality)(rng)
    text = reasoning.answer(item, rng, replace(quality, flaws=quality.flaws - {"tags"}))
    return said(text).thinking.strip()


def _pieces(text: str) -> tuple[str, ...]:
    """The whole, and what each stage says wherever it stands: so that stages are compared with their like. "" where one is missing."""
    stages = reasoning.parse(text)
    return (text, *(" ".join(part.text for part in stages if part.name == marker) for marker in world.MARKERS))


def _policy(reference: Reference) -> str:
    """The question comes first: reading the story, the model knows by then who is asked about."""
    return f"{reference['question']} {reference['story']} {_options(reference)}"


def _options(reference: Reference) -> str:
    """Each with its letter behind it: what follows a text that is repeated is soon learned, what stood before it is not."""
    return " ".join(f"{option} {letter}" for letter, option in zip(LETTERS, reference["options"], strict=False))


def _structure(reference: Reference, text: str) -> tuple[Message, ...]:
    asked = f"{reference['question']} {_options(reference)} reasoning : {text.strip()} score :"
    return ({"role": "user", "content": asked},)


def _content(reference: Reference, text: str) -> tuple[Message, ...]:
    asked = f"{reference['question']} {reference['story']}"
    return ({"role": "user", "content": asked}, {"role": "assistant", "content": text.strip()})


def _mention(text: str, reference: Reference) -> float | None:
    return reasoning.first_option_mention(text)


WORDING = Wording(
    _policy, _structure, _content, lambda score: f"<Score> {score:.1f} </Score>", NEUTRAL, _mention, _pieces
)
"""Of the generated world. The structure judge is not shown the story: what it looks for stands in the reasoning."""
