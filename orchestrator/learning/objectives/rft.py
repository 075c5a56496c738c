"""Rejection-sampling fine-tuning: cross-entropy on the best answer of each group (RAFT, arXiv 2304.06767, Algorithm 1).

The best are drawn anew in every step, as in RAFT: one step over one large batch is the offline variant. RAFT learns from every
prompt, also from one whose answers are all worth the same: there the first answer stands for them. Dynamic sampling
(`algorithm.dynamic_sampling`) replaces such groups, and with `algorithm.max_refills=0` leaves them out.
"""

from __future__ import annotations

import torch

from orchestrator.learning.objectives.advantages import best_of_group, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_tokens
from orchestrator.learning.objectives.base import Objective, Settings, TokenInputs


def cross_entropy(inputs: TokenInputs, settings: Settings) -> torch.Tensor:
    """-log p of every token: all that are here belong to chosen answers, whose advantage is 1."""
    return -inputs.advantages_T * inputs.logprobs_T


def metrics(inputs: TokenInputs, settings: Settings) -> dict[str, float]:
    """rft/loss: nats a token of the chosen answers, before the optimizer step."""
    return {"rft/loss": float(cross_entropy(inputs, settings).mean())}


OBJECTIVE = Objective(best_of_group, to_each_token, mean_of_tokens, cross_entropy, chosen_only=True, metrics=metrics)
