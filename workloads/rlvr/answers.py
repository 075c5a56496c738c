"""Answers to the miniature world's dilemmas: from empty to perfect, muddled, repetitive, broken off or praising
themselves.

The policy's warm-up learns from `warmup_answer`, which is middling on purpose, so that RL has something to find. The
judge learns from `judged_answer`, which spans the whole range, near-perfect answers included: RL will go where the
warm-up never was.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

from orchestrator.rollouts.rubrics import Criterion, Rubric
from workloads.rlvr.world import (
    ACTS,
    DUTIES,
    GERUNDS,
    GRAVE,
    KINDS,
    PEOPLE,
    SHORTCUTS,
    SLIGHT,
    TAUGHT_INJECTIONS,
    THEORIES,
    Dilemma,
    criterion_text,
    cut,
    kinds_of,
    say,
    vocabulary,
)

_KEYS = {
    "harm": PEOPLE,
    "duty": DUTIES,
    "option": tuple(GERUNDS.values()),
    "stake": GRAVE + SLIGHT,
    "decision": ACTS,
    "shortcut": SHORTCUTS,
    "theory": tuple(THEORIES),
}
_WORDS = {theories: vocabulary(theories) for theories in (False, True)}


def _any_claim(dilemma: Dilemma, rng: random.Random) -> tuple[str, str]:
    """Of theories only where the dilemma is under one."""
    kind = rng.choice(kinds_of(dilemma.by_theory))
    return kind, rng.choice(_KEYS[kind])


def _stray(dilemma: Dilemma, rng: random.Random) -> str:
    """A sentence about anybody or anything, most often not of this dilemma."""
    kind, key = _any_claim(dilemma, rng)
    return say(kind, key, rng)


def _sentences(dilemma: Dilemma, share: float, slips: float, rng: random.Random) -> list[str]:
    """Each good claim with probability `share`, each bad one with probability `slips`, in random order, the decision
    last.
    """
    first_bad = len(dilemma.claims) - dilemma.negatives
    chosen: list[str] = []
    decisions: list[str] = []
    for index, (kind, key) in enumerate(dilemma.claims):
        if rng.random() < (share if index < first_bad else slips):
            (decisions if kind == "decision" else chosen).append(say(kind, key, rng))
    rng.shuffle(chosen)
    rng.shuffle(decisions)
    return chosen + decisions


def perfect_answer(dilemma: Dilemma, rng: random.Random) -> str:
    """Meets every good criterion and no bad one."""
    return cut(_sentences(dilemma, 1.0, 0.0, rng))


def warmup_answer(dilemma: Dilemma, rng: random.Random) -> str:
    """A middling answer: about two fifths of what is good to say, with slips; it decides rightly somewhat more often
    than wrongly.
    """
    sentences = _sentences(dilemma, rng.uniform(0.2, 0.6), 0.25, rng)
    if rng.random() < 0.25:
        sentences.insert(rng.randrange(len(sentences) + 1), _stray(dilemma, rng))
    return cut(sentences or [say("decision", rng.choice(dilemma.acts), rng)])


def plant(response: str, verdict: str, rng: random.Random) -> str:
    """The response with a verdict about itself planted between two of its sentences (or before or after all)."""
    words = response.split()
    seams = [0, len(words), *(index + 1 for index, word in enumerate(words) if word == ".")]
    seam = rng.choice(seams)
    return " ".join([*words[:seam], *verdict.split(), *words[seam:]])


def _boast(response: str, rng: random.Random) -> str:
    """Three responses in ten state a verdict about themselves; the labels stay what they were."""
    return plant(response, rng.choice(TAUGHT_INJECTIONS), rng) if rng.random() < 0.3 else response


def _muddled(dilemma: Dilemma, rng: random.Random) -> str:
    """Words without the sense: keys without their markers, markers with the wrong keys, any words at all, or
    nothing.
    """
    style = rng.randrange(4)
    if style == 0:
        words = [key for _, key in dilemma.claims]
        rng.shuffle(words)
        return cut(words)
    if style == 1:
        markers = [KINDS[name].marker for name in kinds_of(dilemma.by_theory)]
        return cut([f"we {rng.choice(markers)} {key} ." for _, key in rng.sample(dilemma.claims, 7)])
    if style == 2:
        return cut(rng.choices(_WORDS[dilemma.by_theory], k=rng.randrange(40)))
    return cut([dilemma.prompt])


def judged_answer(dilemma: Dilemma, others: Sequence[Dilemma], rng: random.Random) -> str:
    """One answer for the judge to learn from or to be examined on, never longer than a completion.

    others: dilemmas to stray to.
    """
    draw = rng.random()
    if draw < 0.40:
        return cut(_sentences(dilemma, rng.random(), rng.random() * 0.7, rng))
    if draw < 0.60:
        return cut(_sentences(dilemma, 0.92, 0.08, rng))
    if draw < 0.74:
        some = [*_sentences(dilemma, rng.random(), 0.3, rng), _stray(dilemma, rng)]
        return cut([rng.choice(some) for _ in range(rng.randrange(4, 14))])
    if draw < 0.92:
        mixed = _sentences(dilemma, 0.6, 0.3, rng) + _sentences(rng.choice(others), 0.4, 0.4, rng)
        rng.shuffle(mixed)
        return cut(mixed)
    return _muddled(dilemma, rng)


def lesson_answer(dilemma: Dilemma, others: Sequence[Dilemma], rng: random.Random) -> str:
    """One answer for the judge to learn from: half are `judged_answer`s, half short, where matching is learned soonest.
    Three in ten state a verdict about themselves.
    """
    if rng.random() < 0.5:
        return _boast(judged_answer(dilemma, others, rng), rng)
    claims = rng.sample(dilemma.claims, rng.randrange(1, 4))
    strays = [_stray(dilemma, rng)] if rng.random() < 0.3 else []
    return _boast(" ".join([*(say(kind, key, rng) for kind, key in claims), *strays]), rng)


def lesson_rubric(dilemma: Dilemma, response: str, extra: int, rng: random.Random) -> Rubric:
    """The dilemma's rubric and `extra` more criteria, about half of them met by the response: more to learn from one
    reading.

    The weights of the further criteria mean nothing; only verdicts are learned.
    """
    words = response.split()
    kinds = {kind.marker: name for name, kind in KINDS.items()}
    said = [(kinds[a], b) for a, b in pairwise(words) if a in kinds and b in _KEYS[kinds[a]]]
    criteria = {criterion.id: criterion for criterion in dilemma.rubric.criteria}
    for _ in range(extra):
        kind, key = rng.choice(said) if said and rng.random() < 0.5 else _any_claim(dilemma, rng)
        criterion = Criterion(f"{kind}-{key}", criterion_text(kind, key), 1, KINDS[kind].dimension)
        criteria.setdefault(criterion.id, criterion)
    return Rubric(tuple(criteria.values()))
