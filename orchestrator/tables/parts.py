"""What a cell is made of, and how averages and differences are made of other cells."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from orchestrator.sweep.statistics import Block
from orchestrator.tables.episodes import Scores, names_of


@dataclass(slots=True)
class Found:
    """value: the mean; terms: what moves it (`combined_interval`); None where there is nothing.

    seen: a number of each thing that was counted. presets: of its runs, also of those that are not there. unpaired: tasks that a
    difference leaves out.
    """

    value: float | None = None
    terms: list[tuple[float, Block]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    asked: int = 0
    seen: list[Scores] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    presets: frozenset[str] = frozenset()
    unpaired: int = 0
    chosen: bool = False
    blank: bool = False


def block_of(node: str, scored: Mapping[int, Scores]) -> Block:
    """Runs by tasks, named by the row's node and the seed. So two columns of a row pair its runs, and two arms of a node the runs of
    one seed, which began with the same policy.
    """
    tasks = names_of(list(scored.values()))
    values = [[scores.by_task.get(task, math.nan) for task in tasks] for scores in scored.values()]
    return Block(np.array(values), tuple((node, seed) for seed in scored), tuple(tasks))


def average(parts: Sequence[Found]) -> Found:
    """The plain mean of other cells."""
    found = _joined(parts)
    if all(part.value is not None for part in parts):
        found.value = sum(part.value for part in parts if part.value is not None) / len(parts)
        found.terms = [(weight / len(parts), block) for part in parts for weight, block in part.terms]
    return found


def difference(of: Found, baseline: Found, relative: bool) -> Found:
    """Of the tasks of which all runs of both sides have a score: else it would also be a difference of tasks.

    relative: of the quotient, whose spread is that of its linear part (the delta method).
    """
    found = _joined([of, baseline])
    if of.value is None or baseline.value is None:
        return found
    # Both sides are means of the same columns, or averages of them: their blocks match, one by one.
    blocks = [(mine, other) for (_, mine), (_, other) in zip(of.terms, baseline.terms, strict=True)]
    common = [_scored_by_all(mine) & _scored_by_all(other) for mine, other in blocks]
    if not all(common):
        found.reasons.append("there is no held-out task that all runs of it and of the baseline have a score of")
        return found
    found.unpaired = sum(
        len({*mine.tasks, *other.tasks} - tasks) for (mine, other), tasks in zip(blocks, common, strict=True)
    )
    terms, others = _on(of.terms, common), _on(baseline.terms, common)
    value, base = (sum(weight * block.mean for weight, block in side) for side in (terms, others))
    if relative and base == 0:
        found.reasons.append("the baseline is 0, of which nothing is a share")
        return found
    first = 1 / base if relative else 1.0
    second = value / base**2 if relative else 1.0
    found.value = value / base - 1 if relative else value - base
    found.terms = [(first * weight, block) for weight, block in terms]
    found.terms += [(-second * weight, block) for weight, block in others]
    return found


def quotient(above: Found, below: Found) -> Found:
    """The mean of one metric over that of another one of the same answers; its spread is that of its linear part (the delta method)."""
    found = replace(above)
    if above.value is None or below.value is None:
        return found
    if below.value == 0:
        found.value, found.terms = None, []
        found.reasons = [*above.reasons, "the sum below is 0, of which nothing is a share"]
        return found
    found.value = above.value / below.value
    found.terms = [(weight / below.value, block) for weight, block in above.terms]
    found.terms += [(-found.value * weight / below.value, block) for weight, block in below.terms]
    return found


def _scored_by_all(block: Block) -> set[Hashable]:
    """The tasks of which each of its runs has a score."""
    return {task for task, scored in zip(block.tasks, np.isfinite(block.scores).all(0), strict=True) if scored}


def _on(terms: Sequence[tuple[float, Block]], common: Sequence[Set[Hashable]]) -> list[tuple[float, Block]]:
    """Each term on its tasks alone."""
    found = []
    for (weight, block), tasks in zip(terms, common, strict=True):
        kept = [task in tasks for task in block.tasks]
        names = tuple(task for task in block.tasks if task in tasks)
        found.append((weight, Block(block.scores[:, kept], block.runs, names)))
    return found


def _joined(parts: Sequence[Found]) -> Found:
    """What several cells were computed from, without a value."""
    return Found(
        reasons=[reason for part in parts for reason in part.reasons],
        asked=min(part.asked for part in parts),
        seen=[scores for part in parts for scores in part.seen],
        files=[file for part in parts for file in part.files],
        presets=frozenset().union(*(part.presets for part in parts)),
        unpaired=sum(part.unpaired for part in parts),
        chosen=any(part.chosen for part in parts),
        blank=any(part.blank for part in parts),
    )
