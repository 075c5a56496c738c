"""What held-out answers are worth: by the run's reward, by the truth where it is known, and the best of n.

The reward's view is `eval/judge` where a judge gives it, `eval/reward` where no judge is asked. Either is the proxy for the truth:
`judge/gold_gap` is its distance from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from orchestrator.config.schema import RunConfig
from orchestrator.sweep.statistics import mean_interval
from orchestrator.values import JUDGE, Group, Scored


@dataclass(frozen=True, slots=True)
class Proxy:
    """How a verdict reads on the scale of the truth. by: "judge" or "reward", what the metrics call it."""

    by: str
    of: Callable[[Scored], float]


def proxy_of(config: RunConfig, workload: Any) -> Proxy:
    """The proxy of a run: a function of one's own reads as its reward."""
    by = JUDGE if JUDGE in config.roles() else "reward"
    return Proxy(by, (lambda verdict: verdict.reward) if config.reward.name else workload.proxy)


def evaluation_metrics(
    groups: Sequence[Group], gold: Mapping[str, float | None], proxy: Proxy, split: str = "eval"
) -> dict[str, float]:
    """Means with 95 % intervals over tasks: eval/judge or eval/reward of the scored episodes, eval/oracle of all whose gold is
    known, scored or not, for the truth needs no judge, and judge/gold_gap, their distance, of those that have both. eval/n,
    eval/oracle_n, judge/gold_gap_n: tasks of the one, of the other, of both. Of the split "test" the names begin with test/."""
    gap = "judge/gold_gap" if split == "eval" else f"{split}/gold_gap"
    scored = [
        (episode, proxy.of(verdict))
        for group in groups
        for episode, verdict in zip(group.episodes, group.verdicts, strict=True)
        if isinstance(verdict, Scored)
    ]
    episodes = [episode for group in groups for episode in group.episodes]
    known = [(episode.task.id, truth) for episode in episodes if (truth := gold[episode.id]) is not None]
    metrics: dict[str, float] = {}
    if scored:
        tasks = [episode.task.id for episode, _ in scored]
        metrics |= _interval(f"{split}/{proxy.by}", [value for _, value in scored], tasks)
        metrics[f"{split}/n"] = len(set(tasks))
    if known:
        tasks = [task for task, _ in known]
        metrics |= _interval(f"{split}/oracle", [truth for _, truth in known], tasks)
        metrics[f"{split}/oracle_n"] = len(set(tasks))
    # Over the same episodes, also where the truth or the verdict of some only is known.
    gaps = [(episode.task.id, value - truth) for episode, value in scored if (truth := gold[episode.id]) is not None]
    if gaps:
        tasks = [task for task, _ in gaps]
        metrics |= _interval(gap, [value for _, value in gaps], tasks) | {f"{gap}_n": len(set(tasks))}
    return metrics


def _interval(name: str, values: Sequence[float], tasks: Sequence[str]) -> dict[str, float]:
    interval = mean_interval(values, tasks)
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def best_of_metrics(
    groups: Sequence[Group], gold: Mapping[str, float | None], proxy: Proxy, samples: int, split: str = "eval"
) -> dict[str, float]:
    """Of each task's n answers (eval/best_of) the one with the highest reward: its score by the proxy and by the truth."""
    chosen = []
    for group in groups:
        pairs = zip(group.episodes, group.verdicts, strict=True)
        scored = [
            (verdict.reward, -episode.sample, episode, verdict)
            for episode, verdict in pairs
            if isinstance(verdict, Scored)
        ]
        if scored:
            *_, episode, verdict = max(scored, key=lambda entry: entry[:2])
            chosen.append((gold[episode.id], proxy.of(verdict)))
    if not chosen:
        return {}
    metrics = {f"{split}/best_of": samples, f"{split}/best_of_n_{proxy.by}": fmean(value for _, value in chosen)}
    truths = [truth for truth, _ in chosen if truth is not None]
    if truths:
        metrics[f"{split}/best_of_n"] = fmean(truths)
    return metrics
