"""How token losses become one loss: the weight of a token of each episode, [E]. The loss is the weighted sum over tokens.

lengths_E: trained tokens of every episode of the optimizer step, those included that are left out of the passes because their
gradient is 0. cap: longest completion that is sampled. An episode without tokens counts as an episode.
"""

from __future__ import annotations

import torch


def mean_of_episode_means(lengths_E: torch.Tensor, cap: int) -> torch.Tensor:
    """Each episode counts the same, each token of an episode the same ("seq-mean-token-mean")."""
    return 1.0 / (lengths_E.double().clamp_min(1) * len(lengths_E))


def mean_of_tokens(lengths_E: torch.Tensor, cap: int) -> torch.Tensor:
    """Each token counts the same ("token-mean"): longer episodes weigh more."""
    return torch.full((len(lengths_E),), 1.0 / max(1, int(lengths_E.sum())), dtype=torch.float64)


def mean_of_episode_sums(lengths_E: torch.Tensor, cap: int) -> torch.Tensor:
    """Tokens of an episode are summed, as the logarithm of its probability is; episodes are averaged ("seq-mean-token-sum")."""
    return torch.full((len(lengths_E),), 1.0 / len(lengths_E), dtype=torch.float64)


def sums_over_cap(lengths_E: torch.Tensor, cap: int) -> torch.Tensor:
    """As the sums, divided by a constant instead of a length (Dr. GRPO's "seq-mean-token-sum-norm")."""
    return mean_of_episode_sums(lengths_E, cap) / cap
