"""The story of `orchestrate train --replay RUN@STEP`: one stored step's update, done again and looked into.

stored episodes and verdicts -> batch; checkpoint of the step before -> learner; update -> terms by episode, metrics beside the
recorded ones. One process, no servers; the run's folder is only read.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cluster.session import WORKER_ENVIRONMENT
from orchestrator.config.compose import compose
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.contamination import guard
from orchestrator.errors import RunError
from orchestrator.learning.starting import StartingModel, starting_model
from orchestrator.records import episodes, metrics
from orchestrator.records.folder import RunFolder, step_name, step_of
from orchestrator.values import POLICY, Group, Unscored

if TYPE_CHECKING:
    from orchestrator.learning.batch import Batch
    from orchestrator.learning.replay import EpisodeTerms

CLOSE = 1e-3
"""Relative difference up to which a metric counts as the same: float32 sums in another order, from other ranks."""
TINY = 1e-6
"""Absolute one: below it a number is rounding (a gap, a KL at the start)."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One of the update's metrics. recorded: None where the run has no row of the step."""

    name: str
    recorded: float | None
    replayed: float

    @property
    def same(self) -> bool:
        """Whether they agree but for rounding."""
        return self.recorded is not None and math.isclose(self.recorded, self.replayed, rel_tol=CLOSE, abs_tol=TINY)


@dataclass(frozen=True, slots=True)
class Replayed:
    """terms: of the episodes that were learned from, largest share of the loss first. played, unscored: of all of the step."""

    run: str
    step: int
    terms: tuple[EpisodeTerms, ...]
    metrics: tuple[Metric, ...]
    played: int
    unscored: int
    start: Path


def replay(run: Path, step: int | None) -> Replayed:
    """Do the update of a stored step again; None: of the last one that can be. Raises RunError for what is not there."""
    folder = RunFolder.open(run)
    stored = compose(str(folder.config), [f"storage={folder.path.parent.parent}"])
    config = _alone(stored)
    possible = replayable(folder)
    step = step if step is not None else max(possible, default=0)
    if step not in possible:
        raise RunError(_refusal(folder, step, possible, config))
    checkpoint = folder.checkpoints / step_name(step - 1) if step > 1 else None
    groups = episodes.read_groups(folder, "train", step)
    batch, ids = batch_of(groups, config)
    if batch is None:
        raise RunError(f"step {step} of {folder.name} learned from nothing: the rewards of no group differ.")
    policy = _starting_policy(folder, stored)
    terms, measured = _update(config, policy, checkpoint, batch, ids)
    rows = metrics.read(folder.metrics_log)
    recorded = next((row for row in rows if row["step"] == step), {})
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    return Replayed(
        f"{folder.workload}/{folder.name}",
        step,
        tuple(sorted(terms, key=lambda term: -abs(term.share))),
        tuple(Metric(name, recorded.get(name), value) for name, value in measured.items()),
        len(verdicts),
        sum(isinstance(verdict, Unscored) for verdict in verdicts),
        checkpoint or Path(policy.folder),
    )


def replayable(folder: RunFolder) -> list[int]:
    """The steps whose episodes are stored and whose weights are: the first, and those after a checkpoint."""
    starts = {step_of(path) for path in folder.checkpoints.glob("step-*")} | {0}
    return [step for split, step in episodes.parts(folder) if split == "train" and step - 1 in starts]


def _refusal(folder: RunFolder, step: int, possible: Sequence[int], config: RunConfig) -> str:
    there = f"Steps that can be replayed: {', '.join(map(str, possible)) or 'none'}."
    if step not in {number for split, number in episodes.parts(folder) if split == "train"}:
        return f"{folder.name} has no episodes of step {step}. {there}"
    kept = config.checkpoint
    return (
        f"{folder.name}: step {step} began with the weights of step {step - 1}, of which there is no checkpoint. {there} More are "
        f"kept with checkpoint.every_steps=1 checkpoint.keep=N (this run: every {kept.every_steps}, the newest {kept.keep})."
    )


def _alone(config: RunConfig) -> RunConfig:
    """The settings for one rank without servers, which does not stop where trainer and engine disagree: it is to show that."""
    return replace(
        config,
        learner=replace(config.learner, ranks=1),
        placement=replace(config.placement, name="split"),
        sync=replace(config.sync, transport="object_store"),
        limits=replace(config.limits, logprob_gap_max=math.inf, logprob_gap_mean=math.inf),
    )


def batch_of(groups: Sequence[Group], config: RunConfig) -> tuple[Batch | None, list[str]]:
    """The batch of a step as the run made it, and the ids of its episodes."""
    from orchestrator.learning.batch import chosen, make_batch, select
    from orchestrator.learning.objectives import OBJECTIVES
    from orchestrator.rollouts.dynamic import differing

    algorithm, rollout = config.algorithm, config.rollout
    cap = rollout.max_completion_tokens
    if algorithm.dynamic_sampling:
        groups = differing(groups, algorithm, cap)[: rollout.prompts_per_step]
    selection = select(groups, algorithm, cap)
    listed = chosen(selection) if OBJECTIVES[algorithm.name].chosen_only else selection
    return make_batch(selection, algorithm, cap), [episode.id for episode in listed.episodes]


def _starting_policy(folder: RunFolder, config: RunConfig) -> StartingModel:
    """What the run's policy started from, by all of its own settings. Raises RunError where it would have to be taught again."""
    workload: Any = guard.recall(find_workload(config.workload).workload(config), folder)
    storage = Path(config.storage).resolve()
    model = starting_model(POLICY, config.roles()[POLICY], config.learner, workload, workload.lessons(), storage)
    if model.to_teach:
        raise RunError(
            f"the policy that {folder.name} started from is no longer in {storage / '.cache'}: the update needs it beside the "
            "checkpoint. A run with the same settings teaches it again, even one of steps=1."
        )
    return model


def _update(
    config: RunConfig, policy: StartingModel, checkpoint: Path | None, batch: Batch, ids: Sequence[str]
) -> tuple[list[EpisodeTerms], dict[str, float]]:
    os.environ.update({key: value for key, value in WORKER_ENVIRONMENT.items() if key not in os.environ})
    from orchestrator.learning import checkpoints
    from orchestrator.learning.replay import only_rank, watched_update
    from orchestrator.loop import Rank

    if checkpoint:
        checkpoints.verify(checkpoint)
    with only_rank():
        rank = Rank(config, find_workload(config.workload).workload(config), None)
        learner = rank.learner(policy)
        done = rank.restore(learner, checkpoint) if checkpoint else 0
        return watched_update(learner, batch, done, config.algorithm, ids)
