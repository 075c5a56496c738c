"""Policy-gradient losses a token: the ratio's level and what is clipped. [T] in, [T] out."""

from __future__ import annotations

import torch

from orchestrator.learning.objectives.base import Settings, TokenInputs


def token_ratio(inputs: TokenInputs) -> torch.Tensor:
    """Probability now over probability when the batch was drawn."""
    return torch.exp(inputs.logprobs_T - inputs.old_T)


def sequence_ratio(inputs: TokenInputs) -> torch.Tensor:
    """GSPO's geometric mean of an episode's token ratios, in its token form (arXiv 2507.18071).

    The value is the sequence's, the gradient flows through the token's own log-probability: sg(s) * p / sg(p).
    """
    mean_T = inputs.episode_means((inputs.logprobs_T - inputs.old_T).detach())
    return torch.exp(mean_T + inputs.logprobs_T - inputs.logprobs_T.detach())


def clipped(ratio_T: torch.Tensor, inputs: TokenInputs, settings: Settings) -> torch.Tensor:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) a token (PPO, arXiv 1707.06347 eq. 7).

    With dual_clip = c > 0, where A < 0 the loss is at most -c A (arXiv 1912.09729).
    """
    clipped_T = ratio_T.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    loss_T = -torch.minimum(ratio_T * inputs.advantages_T, clipped_T * inputs.advantages_T)
    if not settings.dual_clip:
        return loss_T
    bounded_T = torch.minimum(loss_T, -settings.dual_clip * inputs.advantages_T)
    return torch.where(inputs.advantages_T < 0, bounded_T, loss_T)


def clipped_ratio_loss(inputs: TokenInputs, settings: Settings) -> torch.Tensor:
    """PPO's clip on the ratio of each token."""
    return clipped(token_ratio(inputs), inputs, settings)


def clipped_sequence_loss(inputs: TokenInputs, settings: Settings) -> torch.Tensor:
    """PPO's clip on the ratio of each sequence."""
    return clipped(sequence_ratio(inputs), inputs, settings)


def clipped_weight_loss(inputs: TokenInputs, settings: Settings) -> torch.Tensor:
    """-sg(clip(ratio, 1 - clip_low, 1 + clip_high)) A log p: no token loses its gradient (CISPO, arXiv 2506.13585)."""
    weight_T = token_ratio(inputs).detach().clamp(1 - settings.clip_low, 1 + settings.clip_high)
    return -weight_T * inputs.advantages_T * inputs.logprobs_T


def clipped_value_loss(
    values_T: torch.Tensor, old_T: torch.Tensor, returns_T: torch.Tensor, clip: float
) -> torch.Tensor:
    """Half the larger squared error of the value and of the value held within `clip` of the old one; clip 0 holds nothing."""
    error_T = (values_T - returns_T).square()
    if clip:
        error_T = torch.maximum(error_T, (values_T.clamp(old_T - clip, old_T + clip) - returns_T).square())
    return error_T / 2
