"""What an evaluation comes to, part by part: a benchmark, with the score of each of its views."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its 95 % interval (NaN for a single unit). n: items. units: what is independent of each other (stories)."""

    mean: float
    low: float
    high: float
    n: int
    units: int


@dataclass(frozen=True, slots=True)
class Result:
    """A part. chance: what guessing would score. answers: given in all, tries of one item each counted; of them `cut_off` ended at the
    longest answer, `prompts_cut` were asked with a shortened prompt, and in `no_answer` none was found.

    views: by view and value, such as "order" and "2". extras: further numbers of the protocol by name.
    """

    part: str
    score: Estimate
    chance: float
    answers: int
    cut_off: int
    prompts_cut: int
    no_answer: int
    views: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    extras: Mapping[str, float] = field(default_factory=dict)


def estimate(values: Sequence[float], units: Sequence[Hashable]) -> Estimate:
    """Mean of the items' scores; the interval is over whole units.

    Where all items are wrong, or all right, resampling says nothing of the rest: then it is the exact one for so many units (Clopper &
    Pearson 1934), of which none or all succeed.
    """
    from orchestrator.sweep.statistics import mean_interval  # which takes long to import

    found = mean_interval(values, units)
    if set(values) in ({0.0}, {1.0}):
        reach = 0.025 ** (1 / found.n)
        low, high = (0.0, 1 - reach) if found.mean == 0 else (reach, 1.0)
        return Estimate(found.mean, low, high, len(values), found.n)
    return Estimate(found.mean, found.low, found.high, len(values), found.n)


HEADERS = ("benchmark", "score", "95 %", "n", "chance", "", "answers", "cut off", "prompts cut", "none found")
VIEW_HEADERS = ("benchmark", "view", "value", "score", "95 %", "n")


def rows_of(evaluation: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The evaluation of a summary.json as a table under `HEADERS`, a row a part. A part that training touched has no score."""
    return [_row(part) for part in evaluation["parts"]]


def _row(part: Mapping[str, Any]) -> tuple[str, ...]:
    counts = tuple(f"{part[name]:,}" for name in ("answers", "cut_off", "prompts_cut", "no_answer"))
    touched = part["touched"]
    if touched:
        told = f"touched by training: {touched['items']} of {touched['of']} items ({touched['run']})"
        return (part["part"], "", "", f"{touched['score']['n']:,}", f"{part['chance']:.3f}", told, *counts)
    score = part["score"]
    # Of a single unit the interval may be NaN, and holds nothing.
    verdict = "chance" if score["low"] <= part["chance"] <= score["high"] else ""
    return (
        part["part"],
        f"{score['mean']:.3f}",
        _interval(score),
        f"{score['n']:,}",
        f"{part['chance']:.3f}",
        verdict,
        *counts,
    )


def view_rows(evaluation: Mapping[str, Any], view: str) -> list[tuple[str, ...]]:
    """Scores by a view, under `VIEW_HEADERS`. Raises ConfigError where no part has it."""
    parts = evaluation["parts"]
    there = sorted({name for part in parts for name in part["views"]})
    if view not in there:
        raise ConfigError(f"--by {view}: the views of these benchmarks are {', '.join(there) or 'none'}.")
    return [
        (part["part"], view, value, f"{one['mean']:.3f}", _interval(one), f"{one['n']:,}")
        for part in parts
        for value, one in part["views"].get(view, {}).items()
    ]


def _interval(one: Mapping[str, Any]) -> str:
    return f"{one['low']:.3f} … {one['high']:.3f}" if one["low"] == one["low"] else ""
