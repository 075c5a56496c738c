"""Reasoning of all qualities about the miniature world's items, and exact oracles of its structure and content.

Thinking has four stages behind marker words, in the order of social information processing: "cue : …" quotes the deciding
sentences with their numbers, "mind : …" says who thinks what, "goal : …" what the protagonist is after, "so : …" concludes in an
option and its letter, which is the answer. `answer` makes what is asked for, sound or flawed; `warmup` the mixture
that RL starts from.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workloads.social_r1.world import FILLERS, LETTERS, MARKERS, TAGS, Item, option_texts
from workloads.social_r1.world_words import CONTAINERS, MOTIVES, PEOPLE, TOYS

MAX_WORDS = 80
"""Longest answer: a word is a token."""
FLAWS = ("skip", "shuffle", "options", "backward", "loop", "pad", "bare", "tags")
"""Of form: a stage is left out; stages are out of order; an option is mentioned before it is inferred; the conclusion comes first;
stages return; nothing new is said; there is no thinking; a tag is missing or something stands before the first.
"""
_WEIGHTS = {"cues": 0.4, "minds": 0.4, "goal": 0.2}
OPTIONS = option_texts()
CONCISE_CUES = 4
"""As many cues as an item needs at most."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How a completion is to be. cues, mind, goal: whether the stage is right. right: whether the answer is, whatever was
    thought. flaws: of form, of `FLAWS`.
    """

    cues: bool = True
    mind: bool = True
    goal: bool = True
    right: bool = True
    flaws: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of thinking. name: its marker, or "" for what comes before the first. sentences: each with its stop."""

    name: str
    sentences: tuple[str, ...]

    @property
    def text(self) -> str:
        """The stage as it was written."""
        return " ".join([*([self.name, ":"] if self.name else []), *self.sentences])


def parse(thinking: str) -> tuple[Stage, ...]:
    """The stages as they come, repeated ones included. thinking: what stands between the tags."""
    words = thinking.split()
    starts = [i for i, (word, stop) in enumerate(pairwise(words)) if word in MARKERS and stop == ":"]
    preamble = _sentences(words[: starts[0] if starts else len(words)])
    stages = [Stage("", preamble)] if preamble else []
    for start, end in pairwise([*starts, len(words)]):
        stages.append(Stage(words[start], _sentences(words[start + 2 : end])))
    return tuple(stages)


def segments(thinking: str) -> tuple[str, ...]:
    """The stages as texts, markers included."""
    return tuple(stage.text for stage in parse(thinking))


def first_option_mention(text: str, options: Sequence[str] = OPTIONS) -> float | None:
    """Where the first option or its letter stands in the text: 0 at its first word, near 1 at its last; None for nowhere.

    options: of which the text may hold one; every one of the world unless given.
    """
    words = text.split()
    wholes = [tuple(option.split()) for option in options]
    for index, word in enumerate(words):
        if word in LETTERS or any(tuple(words[index : index + len(whole)]) == whole for whole in wholes):
            return index / len(words)
    return None


def structure(item: Item, thinking: str) -> float:
    """The structure judge's score, by rule: flow alone, right or wrong. The first rule that applies decides.

    Failed (0–0.3): 0.0 nothing is thought; 0.1 no stage is marked; 0.2 the conclusion comes first (backward justification);
    0.3 an option's letter or whole text stands before the first "mind" (option parasitism).
    Skips (0.4–0.6): 0.6, 0.5 or 0.4 for one, two or three stages that are missing or empty, 0.1 less if the rest is out of order,
    0.4 at least; 0.5 if all are there but out of order.
    Solid (0.7–0.8): 0.7 a stage returns (looping); 0.8 words before the first stage, a sentence twice, a filler, or seven cues or more.
    Concise (0.9–1.0): 0.9 five or six cues, more than any item needs; else 1.0.
    The bands are those of the published rubric ("Social Reasoning Logic Auditor"); the steps within them are this world's.
    """
    stages = parse(thinking)
    names = [stage.name for stage in stages if stage.name and stage.sentences]
    if not thinking.split():
        return 0.0
    if not any(stage.name for stage in stages):
        return 0.1
    if names[:1] == ["so"]:
        return 0.2
    if _parasitic(stages, item.options):
        return 0.3
    firsts = list(dict.fromkeys(names))
    missing, ordered = len(MARKERS) - len(firsts), firsts == sorted(firsts, key=MARKERS.index)
    if missing:
        return max(0.4, (7 - missing - (not ordered)) / 10)
    if not ordered:
        return 0.5
    if len(names) > len(firsts):
        return 0.7
    said = [sentence for stage in stages for sentence in stage.sentences]
    extra = sum(len(stage.sentences) for stage in stages if stage.name == "cue") - CONCISE_CUES
    if not stages[0].name or len(set(said)) < len(said) or set(FILLERS).intersection(said) or extra > 2:
        return 0.8
    return 0.9 if extra > 0 else 1.0


def content(item: Item, thinking: str) -> float:
    """How right what is thought is, 0 to 1: 0.4 x cues + 0.4 x minds + 0.2 x goal, form and conclusion aside.

    Cues, minds and goal are each the F1 of the stage's sentences against the needed ones, a sentence said twice counting twice against
    it; where a stage returns, all of it counts. A stage that is not there is worth 0.
    """
    said: dict[str, list[str]] = {name: [] for name in MARKERS}
    for stage in parse(thinking):
        said.setdefault(stage.name, []).extend(stage.sentences)
    parts = {
        "cues": (said["cue"], item.cues),
        "minds": (said["mind"], item.minds),
        "goal": (said["goal"], (item.goal,)),
    }
    return sum(weight * _f1(*parts[name]) for name, weight in _WEIGHTS.items())


def answer(item: Item, rng: random.Random, quality: Quality) -> str:
    """A whole completion of the quality, of `MAX_WORDS` words at most: "<think> cue : … </think> <Answer> B </Answer>"."""
    cues = item.cues if quality.cues else _wrong_cues(item, rng)
    minds = item.minds if quality.mind else _wrong_minds(item, cues, rng)
    choice = item.answer if quality.right else _wrong_choice(item, minds, rng)
    stages = [
        Stage("cue", cues),
        Stage("mind", minds),
        Stage("goal", (item.goal if quality.goal else _wrong_goal(item, rng),)),
        Stage("so", (f"{item.options[choice]} {LETTERS[choice]} .",)),
    ]
    thinking = " ".join(stage.text for stage in _flawed(item, stages, choice, quality.flaws, rng))
    if "bare" in quality.flaws:
        thinking = ""
    words = [TAGS[0], *thinking.split()[: MAX_WORDS - 5], TAGS[1], TAGS[2], LETTERS[choice], TAGS[3]]
    if "tags" in quality.flaws:
        broken = rng.randrange(5)
        words = [FILLERS[0], *words] if broken == 4 else [word for word in words if word != TAGS[broken]]
    return " ".join(" ".join(words).split()[:MAX_WORDS])


def warmup_quality(rng: random.Random) -> Quality:
    """What the policy's warm-up sees: one in eight has a flaw of form, and nearly all are right, or a small model would not learn
    which sentences decide. That it does not always find them is by the shortness of its lesson."""
    mind = rng.random() < 0.98
    return Quality(
        cues=rng.random() < (0.99 if mind else 0.3),
        mind=mind,
        goal=rng.random() < 0.95,
        right=rng.random() < (0.99 if mind else 0.1),
        flaws=frozenset({rng.choice(FLAWS)} if rng.random() < 0.125 else ()),
    )


def any_quality(rng: random.Random) -> Quality:
    """All qualities, for raters to learn from and be examined on: every stage right or wrong on its own, up to two flaws of form."""
    cues, mind, goal, right = (rng.random() < 0.6 for _ in range(4))
    return Quality(cues, mind, goal, right, frozenset(rng.sample(FLAWS, rng.choice((0, 0, 1, 1, 2)))))


def warmup(item: Item, rng: random.Random) -> str:
    """A completion of the warm-up: see `warmup_quality`."""
    return answer(item, rng, warmup_quality(rng))


def _sentences(words: Sequence[str]) -> tuple[str, ...]:
    """Cut after each stop; what is broken off is a sentence too."""
    ends = [index + 1 for index, word in enumerate(words) if word == "."]
    cuts = pairwise(dict.fromkeys([0, *ends, len(words)]))
    return tuple(" ".join(words[start:end]) for start, end in cuts)


def _parasitic(stages: Sequence[Stage], options: Sequence[str]) -> bool:
    """Whether one of the options is mentioned before the first "mind"; without one, before the "so"."""
    names = [stage.name for stage in stages]
    inference = next((names.index(name) for name in ("mind", "so") if name in names), len(names))
    before = [sentence for stage in stages[:inference] for sentence in stage.sentences]
    return any(first_option_mention(sentence, options) is not None for sentence in before)


def _f1(said: Sequence[str], needed: Sequence[str]) -> float:
    return 2 * len(set(said).intersection(needed)) / (len(said) + len(needed))


def _wrong_cues(item: Item, rng: random.Random) -> tuple[str, ...]:
    """One or all of the deciding sentences replaced: by others of the story, or by one that is not in it. Their numbers rise, as those
    of right ones do."""
    cues = list(item.cues)
    idle = [sentence for sentence in item.sentences[1:] if sentence not in (*cues, item.goal)]
    for index in rng.sample(range(len(cues)), rng.choice((1, len(cues)))):
        words = cues[index].split()
        strangers = [name for name in PEOPLE if name not in item.story.split()]
        invented = " ".join([words[0], rng.choice(strangers), *words[2:]])
        cues[index] = invented if rng.random() < 0.5 or not idle else idle.pop(rng.randrange(len(idle)))
    return tuple(sorted(cues, key=lambda cue: int(cue.split()[0])))


def _wrong_minds(item: Item, cues: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """One of the mental states is about another value: one that the quoted cues name, where they name another, else one of the
    story. Or it is another person's."""
    minds = list(item.minds)
    index = rng.randrange(len(minds))
    words = minds[index].split()
    others = [name for name in item.sentences[0].split() if name in PEOPLE and name not in words]
    if others and rng.random() < 0.2:
        words[0] = rng.choice(others)
    else:
        kind = CONTAINERS if words[-2] in CONTAINERS else TOYS
        quoted, told = (
            [word for word in dict.fromkeys(" ".join(said).split()) if word in kind and word != words[-2]]
            for said in (cues, item.sentences[1:])
        )
        words[-2] = rng.choice(quoted or told)
    minds[index] = " ".join(words)
    return tuple(minds)


def _wrong_choice(item: Item, minds: Sequence[str], rng: random.Random) -> int:
    """The wrong option that follows from wrong mental states, or any wrong one."""
    wrong = [index for index in range(len(item.options)) if index != item.answer]
    following = [index for index in wrong if item.options[index].split()[-1] == minds[-1].split()[-2]]
    return rng.choice(following or wrong)


def _wrong_goal(item: Item, rng: random.Random) -> str:
    """Another motive, often that of another person of the story."""
    words = item.goal.split()
    return " ".join([*words[:-2], rng.choice([verb for verb in MOTIVES if verb != words[-2]]), "."])


def _flawed(item: Item, stages: list[Stage], choice: int, flaws: frozenset[str], rng: random.Random) -> list[Stage]:
    """The stages with the flaws of form that concern them."""
    if "pad" in flaws:
        spot = rng.randrange(3)
        fillers = tuple(rng.sample(FILLERS, rng.choice((2, 3))))
        others = [sentence for sentence in item.sentences[1:] if sentence not in item.cues]
        idle = tuple(rng.sample(others, CONCISE_CUES + 3 - len(item.cues)))
        stages[spot] = Stage(stages[spot].name, (*stages[spot].sentences, *(idle if spot == 0 else fillers)))
    if "options" in flaws:
        hint = rng.choice((LETTERS[choice], item.options[choice], " ".join(LETTERS)))
        stages[0] = Stage("cue", (f"{hint} .", *stages[0].sentences))
    if "skip" in flaws:
        for _ in range(rng.choice((1, 1, 2))):
            del stages[rng.randrange(len(stages) - 1)]
    if "shuffle" in flaws:
        order = stages[:-1]
        stages = [*order[1:], order[0], stages[-1]] if rng.random() < 0.5 else [*order[::-1], stages[-1]]
    if "loop" in flaws:
        stages = [*stages[:-1], *stages[:-1][-rng.choice((1, 2)) :], stages[-1]]
    if "backward" in flaws:
        stages = [stages[-1], *stages[:-1]]
    return stages
