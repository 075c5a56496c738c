"""The learning rate of RL over the steps of a run."""

from __future__ import annotations

import math

from orchestrator.config.schema import LearnerConfig


def learning_rate_at(learner: LearnerConfig, step: int, steps: int) -> float:
    """Linear warm-up that ends at the peak, then constant or falling to its least share at the last step.

    step: counts from 0. steps: of the whole run; a run that goes on with more of them falls along the longer schedule.
    """
    peak, least = learner.learning_rate, learner.min_learning_rate_share
    if step < learner.warmup_steps:
        return peak * (step + 1) / learner.warmup_steps
    if learner.schedule == "constant":
        return peak
    top = max(0, learner.warmup_steps - 1)
    progress = min(1.0, (step - top) / max(1, steps - 1 - top))
    left = 1 - progress if learner.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return peak * (least + (1 - least) * left)
