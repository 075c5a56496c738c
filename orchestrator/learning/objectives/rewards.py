"""What is done to rewards before any advantage. Suffix E: episodes."""

from __future__ import annotations

import torch


def soft_overlong(lengths_E: torch.Tensor, cap: int, buffer: float) -> torch.Tensor:
    """DAPO's length penalty (arXiv 2503.14476 eq. 13), from 0 down to -1.

    lengths_E: tokens of each completion. cap: longest completion that is sampled. buffer: the last so many tokens before the
    cap, over which the penalty grows linearly; 0 penalises nothing.
    """
    if not buffer:
        return torch.zeros(len(lengths_E), dtype=torch.float64)
    return -((lengths_E.double() - (cap - buffer)) / buffer).clamp(0, 1)


def informative(rewards: list[float], least_spread: float = 0.0) -> bool:
    """DAPO's test of a group for dynamic sampling (eq. 11): there is a difference to learn from.

    least_spread: the rewards' standard deviation must exceed it; for graded rewards, which are hardly ever all equal.
    """
    if len(rewards) < 2 or min(rewards) == max(rewards):
        return False
    return least_spread == 0 or float(torch.tensor(rewards, dtype=torch.float64).std()) > least_spread
