"""DAPO's dynamic sampling (arXiv 2503.14476): groups whose rewards do not differ are replaced by those of further tasks.

Bounded: after `algorithm.max_refills` rounds, or when every task has been played in the step, it learns from what there is.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.learning.batch import shaped
from orchestrator.learning.objectives.rewards import informative
from orchestrator.values import Group, Task, stable_hash


@dataclass(frozen=True, slots=True)
class Refill:
    """The director's answer in place of a batch: `missing` groups have yet to be found, so play another round."""

    missing: int


def differing(groups: Sequence[Group], algorithm: AlgorithmConfig, cap: int) -> list[Group]:
    """The groups that have something to teach. cap: longest completion that is sampled."""
    return [
        group
        for group in groups
        if informative([reward for _, reward in shaped(group, algorithm, cap)], algorithm.min_reward_spread)
    ]


def further_tasks(tasks: Sequence[Task], played: Collection[str], count: int, seed: int, step: int) -> list[Task]:
    """Up to `count` tasks that were not played in this step; a function of the seed, the step and what was played.

    played: ids.
    """
    order = list(tasks)
    random.Random(stable_hash("refill", seed, step)).shuffle(order)
    return [task for task in order if task.id not in played][:count]
