"""GRPO (arXiv 2402.03300): group-standardised advantages, PPO's clip, episode means, k3 KL in the loss."""

from __future__ import annotations

import torch

from orchestrator.learning.objectives.base import (
    ClipSettings,
    Objective,
    TokenInputs,
    clipped_ratio_loss,
    group_standardised,
    k3,
    mean_of_episode_means,
)


def token_loss(inputs: TokenInputs, settings: ClipSettings) -> torch.Tensor:
    """Clipped surrogate plus the weighted KL estimate."""
    loss_T = clipped_ratio_loss(inputs, settings)
    if inputs.reference_T is not None and settings.kl_weight:
        loss_T = loss_T + settings.kl_weight * k3(inputs.logprobs_T, inputs.reference_T)
    return loss_T


OBJECTIVE = Objective(advantage=group_standardised, aggregation=mean_of_episode_means, token_loss=token_loss)
