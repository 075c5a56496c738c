"""FlowRL (arXiv 2509.15207): match a distribution of answers, exp(beta r) times a prior, instead of maximising the reward."""

from __future__ import annotations

import torch

from orchestrator.learning.objectives.advantages import group_standardised, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_episode_means
from orchestrator.learning.objectives.base import Objective, Outcome, Settings, TokenInputs

LARGEST_WEIGHT = 10.0


def credit(scores_E: torch.Tensor, outcome: Outcome, settings: Settings) -> torch.Tensor:
    """The r of the loss: the reward standardised within its group, as published, or as it was given."""
    return to_each_token(scores_E if settings.flow_reward == "group" else outcome.totals_E, outcome, settings)


def importance(log_ratio_T: torch.Tensor, settings: Settings) -> torch.Tensor:
    """Weight of an episode whose probability has changed by exp(log_ratio) since it was drawn.

    "clipped" into the clip range (the paper), "unclipped" (its first public release), "capped" at 10 (a later branch), "none".
    Its logarithm is cut at 20 before, as in verl.
    """
    if settings.flow_importance == "none":
        return torch.ones_like(log_ratio_T)
    ratio_T = torch.exp(log_ratio_T.clamp_max(20))
    if settings.flow_importance == "clipped":
        return ratio_T.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    return ratio_T.clamp_max(LARGEST_WEIGHT) if settings.flow_importance == "capped" else ratio_T


def trajectory_balance(inputs: TokenInputs, settings: Settings) -> torch.Tensor:
    """w (log Z + mean log p - beta r - mean log prior)^2 of the episode, the same at each of its tokens.

    Means are over the episode's tokens. log Z is of its first prompt, 0 where none is learned. w has no gradient.
    """
    index_T, member_ET = inputs.episodes()
    gap_T = inputs.episode_means(inputs.logprobs_T) - settings.beta * inputs.advantages_T
    if inputs.log_partition_T is not None:
        first_E = member_ET.argmax(1)
        gap_T = gap_T + inputs.log_partition_T[first_E][index_T]
    if settings.flow_prior == "reference":
        assert inputs.reference_T is not None, "flow_prior=reference needs the reference's log-probabilities"
        gap_T = gap_T - inputs.episode_means(inputs.reference_T)
    elif settings.flow_prior == "old":
        gap_T = gap_T - inputs.episode_means(inputs.old_T)
    mean_log_ratio_T = inputs.episode_means((inputs.logprobs_T - inputs.old_T).detach())
    return importance(mean_log_ratio_T * member_ET.sum(1)[index_T], settings) * gap_T.square()


OBJECTIVE = Objective(
    group_standardised,
    credit,
    mean_of_episode_means,
    trajectory_balance,
    of_sequences=True,
    partition=True,
)
