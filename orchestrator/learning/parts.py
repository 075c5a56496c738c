"""A batch on the learner's side: what is known about each token, split into optimizer steps, and the loss of a microbatch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from orchestrator.learning.batch import Batch
from orchestrator.learning.objectives import Objective, Outcome, Settings, TokenInputs
from orchestrator.learning.objectives.advantages import generalised
from orchestrator.learning.objectives.kl import divergence
from orchestrator.learning.rows import Microbatch, Row


@dataclass(frozen=True, slots=True)
class Columns:
    """[T] each, float64 on the CPU, the same on every rank; None where an objective does without.

    episode: index of the token's episode. old: log-probability before the update, None where it is that of the only pass.
    group: number of its group. reference: under the starting policy. correction: factor of the loss of what older weights
    sampled. weights: share in the loss of its optimizer step, given by `split`, correction included. values, returns: the
    critic's estimate before the update, and what it should have been.
    """

    episode: torch.Tensor
    behaviour: torch.Tensor
    advantages: torch.Tensor
    old: torch.Tensor | None = None
    reference: torch.Tensor | None = None
    values: torch.Tensor | None = None
    returns: torch.Tensor | None = None
    correction: torch.Tensor | None = None
    weights: torch.Tensor | None = None
    group: torch.Tensor | None = None

    def at(self, chosen: torch.Tensor) -> Columns:
        """The columns at some tokens, given as indices or as a mask."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: column[chosen] for name, column in columns.items() if column is not None})


@dataclass(frozen=True, slots=True)
class Part:
    """What one optimizer step learns from: some of a batch's episodes. episode_R: the episode of each row."""

    rows: tuple[Row, ...]
    episode_R: torch.Tensor
    columns: Columns
    temperature: float

    @property
    def total(self) -> int:
        return len(self.columns.episode)


def columns_of(
    batch: Batch,
    objective: Objective,
    settings: Settings,
    old_T: torch.Tensor | None,
    reference_T: torch.Tensor | None,
    values_T: torch.Tensor | None,
) -> Columns:
    """The columns of a whole batch, with the objective's advantages, from what passes over it with the models of before told."""
    penalty_T = None
    if objective.penalises_reward(settings):
        assert old_T is not None and reference_T is not None, "a penalty in the reward needs both"  # noqa: PT018
        penalty_T = settings.kl_weight * divergence(settings.kl_estimator, old_T, reference_T)
    episode_T = batch.episode_T
    outcome = Outcome(batch.rewards_E, batch.group_E, episode_T, penalty_T, values_T)
    return Columns(
        episode=episode_T,
        behaviour=batch.behaviour_T,
        advantages=objective.advantage(outcome, settings),
        old=old_T,
        reference=reference_T,
        values=values_T,
        returns=None if values_T is None else values_T + generalised(outcome, settings),
        group=batch.group_E[episode_T],
    )


def token_weights(batch: Batch, objective: Objective, episodes: torch.Tensor) -> torch.Tensor:
    """The weight in one optimizer step's loss of a token of each episode, [E]; 0 for episodes that are not in the step."""
    weights_E = torch.zeros(len(batch.lengths_E), dtype=torch.float64)
    weights_E[episodes] = objective.aggregation(batch.lengths_E[episodes], batch.cap)
    return weights_E


def split(batch: Batch, columns: Columns, objective: Objective, minibatches: int) -> list[Part]:
    """Split a batch by episodes into at most `minibatches` optimizer steps, each with weights of its own.

    Groups stay whole where the objective is `of_groups`.

    A step all of whose episodes have no rows has nothing to learn and is left out.
    """
    parts = []
    everything = torch.arange(len(batch.lengths_E))
    kept_E = batch.group_E if objective.of_groups else everything
    for kept in kept_E.unique().chunk(minibatches):
        episodes = everything[torch.isin(kept_E, kept)]
        chosen_R = torch.isin(batch.episode_R, episodes)
        chosen_T = torch.isin(columns.episode, episodes)
        rows = tuple(row for row, chosen in zip(batch.rows, chosen_R.tolist(), strict=True) if chosen)
        if not rows:
            continue
        chosen = columns.at(chosen_T)
        weights = token_weights(batch, objective, episodes)[chosen.episode]
        if chosen.correction is not None:
            weights = weights * chosen.correction
        chosen = replace(chosen, weights=weights)
        parts.append(Part(rows, batch.episode_R[chosen_R], chosen, batch.temperature))
    return parts


def together(part: Part, objective: Objective) -> list[list[int]] | None:
    """Row indices that one microbatch must hold, for `pack`; None where each row may stand alone."""
    if objective.of_groups:
        assert part.columns.group is not None
        starts = torch.tensor([0, *(row.targets for row in part.rows)]).cumsum(0)[:-1]
        return units(part.columns.group[starts])
    return units(part.episode_R) if objective.of_sequences else None


def units(number_R: torch.Tensor) -> list[list[int]]:
    """Row indices of each run of equal numbers: of the rows' episodes, or of their groups."""
    _, counts = number_R.unique_consecutive(return_counts=True)
    rows: Sequence[torch.Tensor] = torch.arange(len(number_R)).split(counts.tolist())
    return [indices.tolist() for indices in rows]


def loss_terms(
    objective: Objective, settings: Settings, columns: Columns, scores: Any, microbatch: Microbatch
) -> torch.Tensor:
    """What each target adds to the optimizer step's loss, [T]; 0 for fillers. The sum over microbatches and ranks is the loss.

    scores: `TokenScores`, or `PartitionScores` for an objective with a log Z.
    """
    now_T = scores.logprobs
    here = columns.at(microbatch.flat.clamp_min(0).cpu())
    real_T = microbatch.flat >= 0

    def beside(column: torch.Tensor | None) -> torch.Tensor | None:
        return None if column is None else column.to(now_T)

    old_T, advantages_T, weights_T = beside(here.old), beside(here.advantages), beside(here.weights)
    assert advantages_T is not None
    assert weights_T is not None
    inputs = TokenInputs(
        logprobs_T=now_T,
        # A filler's tokens are not those that the columns tell of: ratio 1 keeps its loss, of weight 0, finite.
        old_T=now_T.detach() if old_T is None else torch.where(real_T, old_T, now_T.detach()),
        reference_T=beside(here.reference),
        advantages_T=advantages_T,
        episode_T=here.episode.to(now_T.device),
        log_partition_T=getattr(scores, "log_partition", None),
        group_T=None if here.group is None else here.group.to(now_T.device),
    )
    return weights_T * real_T * objective.loss(inputs, settings)


def metrics_of(objective: Objective, settings: Settings, part: Part, scores: Any) -> dict[str, float]:
    """The objective's own metrics of an optimizer step. scores: of all targets of the part, float64 on the CPU."""
    columns = part.columns
    inputs = TokenInputs(
        logprobs_T=scores.logprobs,
        old_T=scores.logprobs if columns.old is None else columns.old,
        reference_T=columns.reference,
        advantages_T=columns.advantages,
        episode_T=columns.episode,
        group_T=columns.group,
    )
    return objective.metrics(inputs, settings)
