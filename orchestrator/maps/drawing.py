"""The story of `orchestrate map`: answers are chosen, embedded, laid out in the plane and measured. Nothing is sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.maps.choice import FEWEST, Answer, Chosen, Question, Wanted, choose
from orchestrator.maps.compare import Line, Measured, lines_of
from orchestrator.maps.embed import WORDS, embed
from orchestrator.maps.match import matched
from orchestrator.maps.measure import Measures, measure
from orchestrator.maps.project import layout, perplexity_for
from orchestrator.records.folder import RunFolder

MOST_TOGETHER = 3_000
"""Points of the map of all questions: t-SNE's time grows faster than their number."""
EQUAL_N, MATCHED = "equal n", "matched length"


@dataclass(frozen=True, slots=True)
class Asked:
    """How the chosen answers are drawn. embed: `words` or a model; perplexity: None for the usual one."""

    embed: str = WORDS
    perplexity: float | None = None


@dataclass(frozen=True, slots=True)
class Basis:
    """The measures of all questions under one condition: n answers of each, the means over them."""

    name: str
    n: int
    measured: tuple[Measured, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True)
class Map:
    """runs: labels. places: of each question's answers of high reward, [n, 2]; together: those of the first of them in the map of
    all questions, [m, 2]. embedding: facts. bases: statistics; notes: sentences that belong beside the picture."""

    runs: tuple[str, ...]
    wanted: Wanted
    asked: Asked
    chosen: Chosen
    places: tuple[np.ndarray, ...]
    together: tuple[np.ndarray, ...]
    perplexities: tuple[float, float]
    embedding: Mapping[str, Any]
    bases: tuple[Basis, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Cloud:
    """Some answers with their vectors. high: whether they are a question's answers of high reward, and not those at large."""

    question: Question
    high: bool
    answers: tuple[Answer, ...]
    vectors: np.ndarray

    def measure(self, members: Sequence[int], seed: int) -> Measures:
        """Of the answers at these places."""
        mine = [self.answers[place] for place in members]
        return measure(self.vectors[list(members)], [one.text for one in mine], [one.tokens for one in mine], seed)


def draw_map(runs: Mapping[str, RunFolder], wanted: Wanted, asked: Asked, storage: Path) -> Map:
    """A map of the runs' stored answers. runs: by label. Raises RunError as `choose`, `embed` and `perplexity_for` do."""
    chosen = choose(runs, wanted)
    questions, n, seed = chosen.questions, chosen.n, wanted.seed
    shown = min(n, max(1, MOST_TOGETHER // len(questions)))
    perplexity, of_all = (perplexity_for(count, asked.perplexity) for count in (n, shown * len(questions)))
    sets = [
        (question, high, answers)
        for question in questions
        for high, answers in ((True, question.high), (False, question.large))
        if answers
    ]
    embedded = embed([answer.text for *_, answers in sets for answer in answers], asked.embed, storage, seed)
    clouds = [_Cloud(*one, part) for one, part in zip(sets, np.split(embedded.vectors, len(sets)), strict=True)]
    high = [cloud.vectors for cloud in clouds if cloud.high]
    together = np.split(layout(np.vstack([part[:shown] for part in high]), of_all, seed), len(high))
    bases = [_basis(EQUAL_N, clouds, [range(n)] * len(clouds), tuple(runs), seed)]
    alike = matched([[answer.tokens for answer in cloud.answers] for cloud in clouds], seed)
    if len(alike[0]) >= FEWEST:
        bases.append(_basis(MATCHED, clouds, alike, tuple(runs), seed))
    return Map(
        tuple(runs), wanted, asked, chosen, tuple(layout(part, perplexity, seed) for part in high), tuple(together),
        (perplexity, of_all), embedded.facts, tuple(bases),
        (*chosen.notes, *_notes(embedded.facts, len(alike[0]), shown, n)),
    )  # fmt: skip


def _notes(facts: Mapping[str, Any], alike: int, shown: int, n: int) -> list[str]:
    notes = []
    if alike < FEWEST:
        notes.append(
            f"At matched length nothing is measured: so that every question has as many answers of each class of length, {alike} of "
            f"each could stay, and {FEWEST} are needed. What differs between questions may be how long their answers are."
        )
    if facts.get("cut_texts"):
        notes.append(
            f"{facts['cut_texts']} texts have more than {facts['longest']} tokens: what came after them did not count."
        )
    if shown < n:
        notes.append(f"The map of all questions together shows the first {shown} answers of each.")
    return notes


def _basis(
    name: str, clouds: Sequence[_Cloud], members: Sequence[Sequence[int]], runs: Sequence[str], seed: int
) -> Basis:
    """members: of each cloud, the places of the answers that count, as many of each."""
    high: dict[Question, Measures] = {}
    large: dict[Question, Measures] = {}
    for cloud, those in zip(clouds, members, strict=True):
        (high if cloud.high else large)[cloud.question] = cloud.measure(those, seed)
    measured = [Measured(question.run, question.key, found, large.get(question)) for question, found in high.items()]
    return Basis(name, len(members[0]), tuple(measured), tuple(lines_of(measured, runs)))
