"""The miniature world of hard social stories: generated items with exact answers, and an adversarial twin of each.

Four people are in a room; things are put somewhere, people come and go, look away, whisper, lie. The answer is found by
playing the events (`world_minds`). Every item has a twin: one fact of the story is changed, and another of the same options is
right. Options are of equal length, and named equally often and in the same words: only the order of events tells (`world_kinds`).

Words stand apart by blanks: a word is a token. Sentences are numbered, as in Hi-ToM: a number says which one is meant, and what
follows it can be copied. Kinds are drawn in turn: belief of orders 0 to 4, perceptual access, asymmetric information, unobserved
change, deception, desire, intention, emotion, non-literal speech.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from orchestrator.errors import ConfigError
from orchestrator.values import stable_hash
from workloads.social_r1.world_kinds import ABILITIES, KINDS, Draft, Solution, draw_pair, targets_of
from workloads.social_r1.world_minds import SECRETLY
from workloads.social_r1.world_words import (
    CONTAINERS,
    CONTENT,
    FEELING,
    MEANING,
    MOTIVES,
    OPENLY,
    PEOPLE,
    PLACE,
    ROOMS,
    SENTENCES,
    TOYS,
    WISH,
)

Card = TypeVar("Card")
LETTERS = "ABCD"
MARKERS = ("cue", "mind", "goal", "so")
"""The stages of social information processing, in their order: cues, their interpretation, goals, response."""
FILLERS = ("let us see .", "this is not easy .", "let us think on .")
TAGS = ("<think>", "</think>", "<Answer>", "</Answer>")
_ASKED = (
    "where when what how does was is will think thinks feel then tell bring to please left opens mean means take : ? ."
)
_GLUE = "are in"
_NUMBERS = tuple(map(str, range(1, 14)))
"""Of sentences: no kind of story has more."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question about one story, as plain data.

    pair: id shared with its twin. sentences: of the story, each behind its number. options: one word each, the value with a
    capital. answer: index of the right one. ability: of `ABILITIES`. order: of the belief asked for, None for emotion and speech.
    Of perfect reasoning: cues: the deciding sentences, in the story's order; minds: what the agents think; goal: what the
    protagonist is after.
    """

    id: str
    pair: str
    sentences: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    answer: int
    ability: str
    order: int | None
    cues: tuple[str, ...]
    minds: tuple[str, ...]
    goal: str

    @property
    def story(self) -> str:
        """The story in one line."""
        return " ".join(self.sentences)


def option_texts() -> tuple[str, ...]:
    """Every option there is."""
    topics = (PLACE, CONTENT, FEELING, MEANING)
    return tuple(topic.option.replace("VALUE", value) for topic in topics for value in topic.values)


def vocabulary() -> tuple[str, ...]:
    """Every word of stories, questions, options and answers, tags included, each once, sorted."""
    slots = {"ACTOR", "THING", "VALUE", "TO"}
    texts = [_ASKED, _GLUE, *SENTENCES.values(), *FILLERS, *option_texts()]
    texts += [text for topic in (PLACE, CONTENT, WISH) for text in (topic.puts, topic.state)]
    words = {word for text in texts for word in text.split()} - slots
    lists = (PEOPLE, ROOMS, CONTAINERS, TOYS, MOTIVES, LETTERS, MARKERS, TAGS, _NUMBERS)
    return tuple(sorted(words.union(*lists, (OPENLY, SECRETLY))))


def make_items(
    counts: Mapping[str, int], seed: int, abilities: Sequence[str] = ABILITIES
) -> dict[str, tuple[Item, ...]]:
    """Items by split, twins side by side, all of different stories.

    counts: pairs by split, of "eval", "train", "test", "warmup". The first n pairs of a split do not depend on how many are asked for,
    and no split on those that come later in this order. abilities: of which alone items are made. Raises ConfigError where there is
    none of them.
    """
    kinds = [kind for kind in KINDS if kind.ability in abilities]
    if not kinds:
        raise ConfigError(f"no abilities of the world among {list(abilities)}: name some of {', '.join(ABILITIES)}.")
    seen: set[str] = set()
    splits: dict[str, tuple[Item, ...]] = {}
    for split, count in ((name, counts.get(name, 0)) for name in ("eval", "train", "test", "warmup")):
        rng = random.Random(stable_hash("social stories", split, seed))
        targets = {kind: _dealt(targets_of(kind), rng) for kind in kinds}
        items: list[Item] = []
        while len(items) < 2 * count:
            number = len(items) // 2
            kind = kinds[number % len(kinds)]
            drafts = draw_pair(kind, next(targets[kind]), rng)
            pair = [
                _item(f"{split}-{number}", side, draft, solution)
                for side, (draft, solution) in zip("ab", drafts, strict=True)
            ]
            if not seen.intersection(item.story for item in pair):
                seen.update(item.story for item in pair)
                items += pair
        splits[split] = tuple(items)
    return splits


def _dealt(cards: Sequence[Card], rng: random.Random) -> Iterator[Card]:
    """The cards in random order, again and again: each as often as the others."""
    while True:
        yield from rng.sample(cards, len(cards))


def _item(pair: str, side: str, draft: Draft, solution: Solution) -> Item:
    sentences = tuple(f"{number} {draft.sentence(event)}" for number, event in enumerate(draft.events, 1))
    topic = draft.kind.options
    wants = next(i for i, event in enumerate(draft.events) if event.kind == "motive" and event.actor == draft.chain[0])
    return Item(
        id=f"{pair}-{side}",
        pair=pair,
        sentences=sentences,
        question=draft.question,
        options=tuple(topic.option.replace("VALUE", value) for value in topic.values),
        answer=topic.values.index(solution.answer),
        ability=draft.kind.ability,
        order=draft.kind.order,
        cues=tuple(sentences[index] for index in solution.cues),
        minds=solution.minds,
        goal=sentences[wants],
    )
