"""What held-out answers are worth: by the judge, by the truth where it is known, and the best of n."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from orchestrator.sweep.statistics import mean_interval
from orchestrator.values import Group, Scored


def evaluation_metrics(groups: Sequence[Group], gold: Mapping[str, float | None], workload: Any) -> dict[str, float]:
    """Means on a 0–1 scale with 95 % intervals over tasks: eval/judge, and eval/oracle where gold is known. eval/n: tasks."""
    scored = [
        (episode, workload.proxy(verdict))
        for group in groups
        for episode, verdict in zip(group.episodes, group.verdicts, strict=True)
        if isinstance(verdict, Scored)
    ]
    if not scored:
        return {}
    tasks = [episode.task.id for episode, _ in scored]
    metrics = _interval("eval/judge", [proxy for _, proxy in scored], tasks) | {"eval/n": len(set(tasks))}
    known = [(episode.task.id, proxy, truth) for episode, proxy in scored if (truth := gold[episode.id]) is not None]
    if known:
        metrics |= _interval("eval/oracle", [truth for *_, truth in known], [task for task, *_ in known])
        # Over the same episodes, also where the truth is known of some only.
        metrics["judge/gold_gap"] = fmean(proxy - truth for _, proxy, truth in known)
    return metrics


def _interval(name: str, values: Sequence[float], tasks: Sequence[str]) -> dict[str, float]:
    interval = mean_interval(values, tasks)
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def best_of_metrics(
    groups: Sequence[Group], gold: Mapping[str, float | None], workload: Any, samples: int
) -> dict[str, float]:
    """Of each task's n answers (eval/best_of) the one that the judge rewards most: its score by the judge and by the truth."""
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
            chosen.append((gold[episode.id], workload.proxy(verdict)))
    if not chosen:
        return {}
    metrics = {"eval/best_of": samples, "eval/best_of_n_judge": fmean(proxy for _, proxy in chosen)}
    truths = [truth for truth, _ in chosen if truth is not None]
    if truths:
        metrics["eval/best_of_n"] = fmean(truths)
    return metrics
