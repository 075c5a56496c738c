"""What the measures of single questions come to: a run's means, with questions as the unit, and how runs differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from orchestrator.maps.choice import Key
from orchestrator.maps.measure import Measures
from orchestrator.sweep.statistics import Block, Interval, combined_interval

HIGH, LARGE, RATIO = "high reward", "at large", "high reward / at large"


@dataclass(frozen=True, slots=True)
class Statistic:
    """A field of `Measures`. form: of its numbers. ratio: whether that of high reward to answers at large says something."""

    name: str
    label: str
    form: str = ".2f"
    ratio: bool = False


STATISTICS = (
    Statistic("distance", "mean pairwise cosine distance", ".3f", ratio=True),
    Statistic("vendi", "Vendi score", ".2f", ratio=True),
    Statistic("distinct", "share of distinct texts", ".2f"),
    Statistic("hdbscan", "clusters (HDBSCAN)"),
    Statistic("noise", "share in no cluster (HDBSCAN)"),
    Statistic("kmeans", "clusters (k-means, highest silhouette)"),
    Statistic("silhouette", "silhouette of those", ".3f"),
    Statistic("tokens", "tokens of an answer", ".1f"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """The measures of one question. large: of as many answers of any reward; None where all answers are of high reward."""

    run: str
    key: Key
    high: Measures
    large: Measures | None


@dataclass(frozen=True, slots=True)
class Line:
    """A statistic of high reward, at large, or the ratio of the two. means: by run; differences: of every further run, less the
    first. None where no question has the statistic."""

    statistic: Statistic
    of: str
    means: tuple[Interval | None, ...]
    differences: tuple[Interval | None, ...]


def lines_of(measured: Sequence[Measured], runs: Sequence[str]) -> list[Line]:
    """Means over questions, each with a 95 % interval over questions, paired where runs have the same ones.

    The interval is about other questions of the kind, answered by these very runs. runs: labels.
    """
    found = []
    for statistic in STATISTICS:
        beside = [LARGE, RATIO] if statistic.ratio else [LARGE]
        for of in [HIGH, *(beside if any(one.large for one in measured) else [])]:
            blocks = [_block(measured, run, statistic.name, of) for run in runs]
            means = [_interval((1, block)) if block else None for block in blocks]
            first, *others = blocks
            differences = [_interval((1, other), (-1, first)) if first and other else None for other in others]
            found.append(Line(statistic, of, tuple(means), tuple(differences)))
    return found


def _interval(*terms: tuple[float, Block]) -> Interval:
    """Over questions; a single one, on either side, does not say how questions spread."""
    found = combined_interval(terms)
    return found if found.n > 1 else replace(found, low=math.nan, high=math.nan)


def _block(measured: Sequence[Measured], run: str, name: str, of: str) -> Block | None:
    """The values of a run's questions; those without the statistic are left out."""
    values = {one.key: _value(one, name, of) for one in measured if one.run == run}
    known = {key: value for key, value in values.items() if math.isfinite(value)}
    return Block(np.array([list(known.values())]), (run,), tuple(known)) if known else None


def _value(one: Measured, name: str, of: str) -> float:
    high = float(getattr(one.high, name))
    if of == HIGH:
        return high
    if one.large is None:
        return math.nan
    large = float(getattr(one.large, name))
    if of == LARGE:
        return large
    return high / large if large else math.nan


def told(interval: Interval | None, form: str) -> str:
    """A mean with its interval in words."""
    if interval is None:
        return "none"
    if math.isnan(interval.low):
        return f"{interval.mean:{form}} (one question)"
    return f"{interval.mean:{form}} ({interval.low:{form}} to {interval.high:{form}}; {interval.n})"


def as_data(line: Line, runs: Sequence[str]) -> dict[str, object]:
    """A line as plain data."""

    def plain(found: Interval | None) -> dict[str, float] | None:
        return asdict(found) if found else None

    return {
        "statistic": line.statistic.name,
        "of": line.of,
        "runs": dict(zip(runs, map(plain, line.means), strict=True)),
        f"less {runs[0]}": dict(zip(runs[1:], map(plain, line.differences), strict=True)),
    }
