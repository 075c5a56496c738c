"""Metrics that most tables need. Each is a function of one stored episode; a workload adds its own beside its tables."""

from __future__ import annotations

from orchestrator.tables.declare import Measured, Metric
from orchestrator.values import Scored


def truth(measured: Measured) -> float | None:
    """What the answer is truly worth (0 to 1), scored by the run's judge or not."""
    return measured.gold


def judged(measured: Measured) -> float | None:
    """What the run's own judge or reward says of it, on the scale of the truth."""
    return measured.proxy(measured.verdict) if isinstance(measured.verdict, Scored) else None


def gap(measured: Measured) -> float | None:
    """By how much the judge says more than the truth."""
    score = judged(measured)
    return None if score is None or measured.gold is None else score - measured.gold


def reward(measured: Measured) -> float | None:
    """What it would be trained on."""
    return measured.verdict.reward if isinstance(measured.verdict, Scored) else None


def component(name: str) -> Metric:
    """A named part of the reward; None where an episode has no such part."""

    def part(measured: Measured) -> float | None:
        return measured.verdict.components.get(name) if isinstance(measured.verdict, Scored) else None

    return part


def length(measured: Measured) -> float:
    """Tokens that the policy wrote, in all of its turns."""
    return float(sum(len(turn.completion_ids) for turn in measured.episode.trained))


def cut_off(measured: Measured) -> float:
    """1 where a turn of the policy did not end by itself, else 0: its mean is a share."""
    return float(any(turn.finish_reason == "length" for turn in measured.episode.trained))
