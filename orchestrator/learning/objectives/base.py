"""What every objective is made of. Suffixes: E episodes, T target tokens of all episodes end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch


class ClipSettings(Protocol):
    """The settings that the functions here read; `AlgorithmConfig` has them."""

    clip_low: float
    clip_high: float
    kl_weight: float


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """Per target token, [T]: log-probability now (with gradient), when the batch was drawn (old), under the reference (or None),
    and the advantage."""

    logprobs_T: torch.Tensor
    old_T: torch.Tensor
    reference_T: torch.Tensor | None
    advantages_T: torch.Tensor


@dataclass(frozen=True, slots=True)
class Objective:
    """advantage: (rewards_E, group_E) -> advantages_E. aggregation: episode_T -> weights_T, which turn token losses into the
    loss as their weighted sum; computed over the whole batch, so that microbatches and ranks cannot change it.
    token_loss: loss of each token, to be minimised."""

    advantage: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    aggregation: Callable[[torch.Tensor], torch.Tensor]
    token_loss: Callable[[TokenInputs, ClipSettings], torch.Tensor]


def group_standardised(rewards_E: torch.Tensor, group_E: torch.Tensor) -> torch.Tensor:
    """(r - mean) / (std + 1e-6) within each group, with the unbiased standard deviation (GRPO, arXiv 2402.03300 eq. 3 ff.).

    A group whose rewards are all equal gets 0. Groups have at least two episodes.
    """
    advantages_E = torch.empty_like(rewards_E)
    for group in group_E.unique():
        member_E = group_E == group
        rewards = rewards_E[member_E]
        # The mean of equal numbers may differ from them in the last bit, which the division would make 1e-10 of.
        centred = rewards - rewards.mean() if rewards.min() < rewards.max() else torch.zeros_like(rewards)
        advantages_E[member_E] = centred / (rewards.std() + 1e-6)
    return advantages_E


def mean_of_episode_means(episode_T: torch.Tensor) -> torch.Tensor:
    """Each episode counts the same, each token of an episode the same ("seq-mean-token-mean"). Weights sum to 1."""
    _, index_T, tokens_E = episode_T.unique(return_inverse=True, return_counts=True)
    return 1.0 / (tokens_E[index_T].double() * len(tokens_E))


def clipped_ratio_loss(inputs: TokenInputs, settings: ClipSettings) -> torch.Tensor:
    """-min(ratio A, clip(ratio, 1 - clip_low, 1 + clip_high) A) a token (PPO, arXiv 1707.06347 eq. 7)."""
    ratio_T = torch.exp(inputs.logprobs_T - inputs.old_T)
    clipped_T = ratio_T.clamp(1 - settings.clip_low, 1 + settings.clip_high)
    return -torch.minimum(ratio_T * inputs.advantages_T, clipped_T * inputs.advantages_T)


def k3(logprobs_T: torch.Tensor, reference_T: torch.Tensor) -> torch.Tensor:
    """The k3 estimate of KL(policy || reference): exp(d) - d - 1 with d = log reference - log policy.

    As in verl, d is clamped to ±20 and the estimate to ±10, so that one token cannot drown a batch.
    """
    difference_T = (reference_T - logprobs_T).clamp(-20, 20)
    return (difference_T.exp() - difference_T - 1).clamp(-10, 10)
