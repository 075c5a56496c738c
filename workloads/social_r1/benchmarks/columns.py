"""Stored episodes of an evaluation as columns of a table, and as results: nothing is asked again.

The score of an item stands on each of its tries as the reward, so that the mean over tasks is the mean over items. Components:
`right` (this try), `found` (an answer was found in it), and what a protocol adds (`joint` of Hi-ToM, `scenario` of MotiveBench).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from orchestrator.fitting import CUT
from orchestrator.rollouts.parts import Estimate, Result, estimate
from orchestrator.tables.declare import Measured, Metric
from orchestrator.values import Episode, Group, Scored, Verdict
from workloads.social_r1.benchmarks.choices import SimpleToM, SocialIQA
from workloads.social_r1.benchmarks.emobench import EmoBenchEA, EmoBenchEU
from workloads.social_r1.benchmarks.hitom import HiToM
from workloads.social_r1.benchmarks.items import Asked, Benchmark, Counted, Given, item_of, shown_of
from workloads.social_r1.benchmarks.motivebench import MotiveBench
from workloads.social_r1.benchmarks.tactfultom import TactfulToM
from workloads.social_r1.benchmarks.tombench import ToMBench, ToMBenchHard

BENCHMARKS: Mapping[str, Benchmark] = {
    one.name: one
    for one in (
        ToMBenchHard(), ToMBench(), SocialIQA(), SimpleToM(), EmoBenchEA(), EmoBenchEU(), MotiveBench(), HiToM(), TactfulToM(),
    )
}  # fmt: skip
"""By name; EmoBench is two."""


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


def scored(episodes: Sequence[Episode]) -> list[Verdict]:
    """A verdict an episode. Episodes of an item must all be there: it is scored as a whole."""
    by_part: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, episode in enumerate(episodes):
        reference = episode.task.reference
        by_part[reference["benchmark"]][reference["item"]].append(place)
    verdicts: dict[int, Verdict] = {}
    for name, items in by_part.items():
        benchmark = BENCHMARKS[name]
        given = {
            place: benchmark.answer(episodes[place].text, episodes[place].task.reference)
            for places in items.values()
            for place in places
        }
        counted = [
            _counted(benchmark, [episodes[place] for place in places], [given[place] for place in places])
            for places in items.values()
        ]
        more = benchmark.components(counted)
        for one, places in zip(counted, items.values(), strict=True):
            for place, right in zip(places, one.tries, strict=True):
                found = float(all(answer is not None for answer in given[place]))
                parts = {"right": float(right), "found": found, **more.get(one.item.id, {})}
                verdicts[place] = Scored(one.score, parts)
    return [verdicts[place] for place in range(len(episodes))]


def _counted(benchmark: Benchmark, episodes: Sequence[Episode], given: Sequence[Sequence[Given]]) -> Counted:
    """The score of an item from its tries: what most of them name, or their mean."""
    references = [episode.task.reference for episode in episodes]
    item = item_of(references[0])
    tries = tuple(is_right(answers, shown_of(reference)) for answers, reference in zip(given, references, strict=True))
    if not benchmark.vote:
        return Counted(item, fmean(tries), tries)
    # Of what is named as often, what was named first. A try in which nothing is found names the first option that it shows.
    named = Counter(
        _published(answers[0] or (0,), reference["order"][0])
        for answers, reference in zip(given, references, strict=True)
    )
    chosen = named.most_common(1)[0][0]
    return Counted(item, float(chosen == item.asked[0].gold), tries)


def _published(shown: tuple[int, ...], order: Sequence[int]) -> frozenset[int]:
    """Positions of shown options as those of the published ones; of what was not shown none."""
    return frozenset(order[place] for place in shown if place < len(order))


def is_right(answers: Sequence[Given], shown: Sequence[Asked]) -> bool:
    """Whether every question is answered by exactly what is right."""
    return all(answer is not None and frozenset(answer) == one.gold for answer, one in zip(answers, shown, strict=True))


def results(groups: Sequence[Group]) -> list[Result]:
    """What each benchmark comes to, in the order of `BENCHMARKS`. groups: scored ones, such as those that a run has stored."""
    pairs = [pair for group in groups for pair in zip(group.episodes, group.verdicts, strict=True)]
    by_part: dict[str, list[tuple[Episode, Scored]]] = defaultdict(list)
    for episode, verdict in pairs:
        if isinstance(verdict, Scored):
            by_part[episode.task.reference["benchmark"]].append((episode, verdict))
    return [_result(BENCHMARKS[name], by_part[name]) for name in BENCHMARKS if name in by_part]


def _result(benchmark: Benchmark, pairs: Sequence[tuple[Episode, Scored]]) -> Result:
    items: dict[str, list[tuple[Episode, Scored]]] = defaultdict(list)
    for pair in pairs:
        items[pair[0].task.reference["item"]].append(pair)
    firsts = [mine[0] for mine in items.values()]
    counted = [
        Counted(
            item_of(mine[0][0].task.reference),
            mine[0][1].reward,
            tuple(one.components["right"] == 1 for _, one in mine),
        )
        for mine in items.values()
    ]
    names = sorted({view for one in counted for view in one.item.views})
    views = {name: _view(counted, name) for name in names}
    extras = benchmark.extras(counted)
    for name in dict.fromkeys(name for _, one in firsts for name in one.components if name not in ("right", "found")):
        extras |= _component(firsts, name)
    turns = [episode.trained[-1] for episode, _ in pairs]
    return Result(
        benchmark.name,
        _estimate(counted),
        fmean(benchmark.chance(one.item) for one in counted),
        len(pairs),
        sum(turn.finish_reason == "length" for turn in turns),
        sum(CUT in episode.task.reference for episode, _ in pairs),
        sum(one.components["found"] == 0 for _, one in pairs),
        views,
        extras,
    )


def _component(firsts: Sequence[tuple[Episode, Scored]], name: str) -> dict[str, float]:
    """The mean of a component over the items that have it, and by order where items have one."""
    values: dict[str, list[float]] = defaultdict(list)
    for episode, one in firsts:
        if name in one.components:
            order = episode.task.reference["views"].get("order")
            values[name if order is None else f"{name}, order {order}"].append(one.components[name])
    return {label: fmean(found) for label, found in sorted(values.items())}


def _view(counted: Sequence[Counted], name: str) -> dict[str, Estimate]:
    by_value: dict[str, list[Counted]] = defaultdict(list)
    for one in counted:
        if name in one.item.views:
            by_value[one.item.views[name]].append(one)
    return {value: _estimate(mine) for value, mine in sorted(by_value.items())}


def _estimate(counted: Sequence[Counted]) -> Estimate:
    return estimate([one.score for one in counted], [one.item.unit for one in counted])
