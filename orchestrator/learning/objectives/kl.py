"""Estimates of KL(policy || reference) from one sampled token each (Schulman, "Approximating KL divergence", 2020)."""

from __future__ import annotations

import torch


def k1(logprobs_T: torch.Tensor, reference_T: torch.Tensor) -> torch.Tensor:
    """log policy - log reference: unbiased, of either sign. In the loss its gradient averages to 0; use it in the reward."""
    return logprobs_T - reference_T


def k2(logprobs_T: torch.Tensor, reference_T: torch.Tensor) -> torch.Tensor:
    """Half the squared difference of the logarithms: biased as a value, but its gradient is that of the divergence."""
    return (logprobs_T - reference_T).square() / 2


def k3(logprobs_T: torch.Tensor, reference_T: torch.Tensor) -> torch.Tensor:
    """exp(d) - d - 1 with d = log reference - log policy: unbiased as a value and never negative.

    As in verl, d is clamped to ±20 and the estimate to ±10, so that one token cannot drown a batch.
    """
    difference_T = (reference_T - logprobs_T).clamp(-20, 20)
    return (difference_T.exp() - difference_T - 1).clamp(-10, 10)


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}


def divergence(estimator: str, logprobs_T: torch.Tensor, reference_T: torch.Tensor) -> torch.Tensor:
    """The named estimate a token."""
    return ESTIMATORS[estimator](logprobs_T, reference_T)
