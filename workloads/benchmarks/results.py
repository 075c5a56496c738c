"""Stored episodes of an evaluation as columns of a table, and as results: nothing is asked again.

The score of an item stands on each of its tries as the reward, so that the mean over tasks is the mean over items. Components:
`right` (this try), `found` (an answer was found in it), and what a protocol adds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar

from orchestrator.fitting import CUT
from orchestrator.rollouts.parts import Estimate, Result, estimate
from orchestrator.tables.declare import Measured, Metric
from orchestrator.values import Episode, Group, Scored


@dataclass(frozen=True, slots=True)
class Counted:
    """An item with its score. reference: of the task of its first try. tries: whether each was right."""

    reference: Mapping[str, Any]
    score: float
    tries: tuple[bool, ...]

    @property
    def item(self) -> str:
        """Its id."""
        return str(self.reference["item"])

    @property
    def unit(self) -> str:
        """Items that share it are not independent."""
        return str(self.reference["unit"])

    @property
    def views(self) -> Mapping[str, str]:
        """What it is reported by, such as {"ability": "Belief"}."""
        found: Mapping[str, str] = self.reference["views"]
        return found


class Published:
    """One benchmark by its published protocol.

    source: the setting data.SOURCE that names its files. temperature: of its protocol. restricted: its licence, or that it has none,
    forbids passing texts on. told_by: the view by whose values the means of components are told.
    """

    name: str
    source: str
    temperature: ClassVar[float] = 0.0
    restricted: ClassVar[bool] = False
    told_by: ClassVar[str] = ""

    def is_there(self, path: str) -> bool:
        """Whether the files of its source, which others may share, have its own."""
        return True

    def extras(self, counted: Sequence[Counted]) -> dict[str, float]:
        """Further numbers of the protocol."""
        return {}


def score_of(
    benchmark: str, *, view: str | None = None, value: str | None = None, component: str | None = None
) -> Metric:
    """A column's metric: the score of a benchmark, or a component, of all its items or those of one value of a view.

    `score_of("hitom", view="order", value="4", component="joint")`. None for episodes of other benchmarks.
    """

    def metric(measured: Measured) -> float | None:
        reference, verdict = measured.episode.task.reference, measured.verdict
        if reference.get("benchmark") != benchmark or not isinstance(verdict, Scored):
            return None
        if view is not None and reference["views"].get(view) != value:
            return None
        return verdict.reward if component is None else verdict.components.get(component)

    return metric


def results(groups: Sequence[Group], published: Mapping[str, Published]) -> list[Result]:
    """What each benchmark comes to, in the order of `published`. groups: scored ones, such as those that a run has stored."""
    pairs = [pair for group in groups for pair in zip(group.episodes, group.verdicts, strict=True)]
    by_part: dict[str, list[tuple[Episode, Scored]]] = defaultdict(list)
    for episode, verdict in pairs:
        if isinstance(verdict, Scored):
            by_part[episode.task.reference["benchmark"]].append((episode, verdict))
    return [_result(one, by_part[name]) for name, one in published.items() if name in by_part]


def _result(benchmark: Published, pairs: Sequence[tuple[Episode, Scored]]) -> Result:
    items: dict[str, list[tuple[Episode, Scored]]] = defaultdict(list)
    for pair in pairs:
        items[pair[0].task.reference["item"]].append(pair)
    firsts = [mine[0] for mine in items.values()]
    counted = [
        Counted(mine[0][0].task.reference, mine[0][1].reward, tuple(one.components["right"] == 1 for _, one in mine))
        for mine in items.values()
    ]
    names = sorted({view for one in counted for view in one.views})
    extras = benchmark.extras(counted)
    for name in dict.fromkeys(name for _, one in firsts for name in one.components if name not in ("right", "found")):
        extras |= _component(firsts, name, benchmark.told_by)
    turns = [episode.trained[-1] for episode, _ in pairs]
    return Result(
        benchmark.name,
        _estimate(counted),
        fmean(one.reference["chance"] for one in counted),
        len(pairs),
        sum(turn.finish_reason == "length" for turn in turns),
        sum(CUT in episode.task.reference for episode, _ in pairs),
        sum(one.components["found"] == 0 for _, one in pairs),
        {name: _view(counted, name) for name in names},
        extras,
    )


def _component(firsts: Sequence[tuple[Episode, Scored]], name: str, view: str) -> dict[str, float]:
    """The mean of a component over the items that have it, by a view where one is named."""
    values: dict[str, list[float]] = defaultdict(list)
    for episode, one in firsts:
        if name in one.components:
            value = episode.task.reference["views"].get(view)
            values[name if value is None else f"{name}, {view} {value}"].append(one.components[name])
    return {label: fmean(found) for label, found in sorted(values.items())}


def _view(counted: Sequence[Counted], name: str) -> dict[str, Estimate]:
    by_value: dict[str, list[Counted]] = defaultdict(list)
    for one in counted:
        if name in one.views:
            by_value[one.views[name]].append(one)
    return {value: _estimate(mine) for value, mine in sorted(by_value.items())}


def _estimate(counted: Sequence[Counted]) -> Estimate:
    return estimate([one.score for one in counted], [one.unit for one in counted])
