"""The eight benchmarks, and what their episodes are worth.

Components that protocols add: `joint` of Hi-ToM, `scenario` of MotiveBench.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from orchestrator.values import Episode, Scored, Verdict
from workloads.benchmarks.results import Counted
from workloads.social_r1.benchmarks.choices import SimpleToM, SocialIQA
from workloads.social_r1.benchmarks.emobench import EmoBenchEA, EmoBenchEU
from workloads.social_r1.benchmarks.hitom import HiToM
from workloads.social_r1.benchmarks.items import Asked, Benchmark, Given, item_of, shown_of
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
                parts = {"right": float(right), "found": found, **more.get(one.item, {})}
                verdicts[place] = Scored(one.score, parts)
    return [verdicts[place] for place in range(len(episodes))]


def _counted(benchmark: Benchmark, episodes: Sequence[Episode], given: Sequence[Sequence[Given]]) -> Counted:
    """The score of an item from its tries: what most of them name, or their mean."""
    references = [episode.task.reference for episode in episodes]
    tries = tuple(is_right(answers, shown_of(reference)) for answers, reference in zip(given, references, strict=True))
    if not benchmark.vote:
        return Counted(references[0], fmean(tries), tries)
    # Of what is named as often, what was named first. A try in which nothing is found names the first option that it shows.
    named = Counter(
        _published(answers[0] or (0,), reference["order"][0])
        for answers, reference in zip(given, references, strict=True)
    )
    chosen = named.most_common(1)[0][0]
    gold = item_of(references[0]).asked[0].gold
    return Counted(references[0], float(chosen == gold), tries)


def _published(shown: tuple[int, ...], order: Sequence[int]) -> frozenset[int]:
    """Positions of shown options as those of the published ones; of what was not shown none."""
    return frozenset(order[place] for place in shown if place < len(order))


def is_right(answers: Sequence[Given], shown: Sequence[Asked]) -> bool:
    """Whether every question is answered by exactly what is right."""
    return all(answer is not None and frozenset(answer) == one.gold for answer, one in zip(answers, shown, strict=True))
