"""FlowRL's log Z: a head on the policy that estimates the log-partition of a prompt from its hidden states.

It is trained with the policy by one optimizer and saved with it, but it is no part of what engines are given to serve.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from orchestrator.learning.model import TokenScorer
from orchestrator.learning.rows import Microbatch


class PartitionScores(NamedTuple):
    """As `TokenScores`; log_partition: log Z of the prompt of each target's row, [T]."""

    logprobs: torch.Tensor
    entropies: torch.Tensor
    logits: torch.Tensor
    log_partition: torch.Tensor


class LogPartition(nn.Module):
    """[..., H] -> [...]: two layers of width H with GELU, LayerNorm and dropout, and a linear one (arXiv 2509.15207)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = [
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Dropout(dropout))
            for _ in range(2)
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 1))

    def forward(self, prompt: torch.Tensor) -> torch.Tensor:
        logarithm: torch.Tensor = self.layers(prompt)[..., 0]
        return logarithm


class PartitionScorer(TokenScorer):
    """A token scorer that also tells log Z of each row's prompt."""

    scores = PartitionScores

    def __init__(self, policy: TokenScorer, dropout: float, seed: int = 0) -> None:
        """Takes over the policy's model. The same seed gives the same head on every rank."""
        super().__init__(policy.language_model)
        weight = next(policy.parameters())
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            head = LogPartition(policy.language_model.config.hidden_size, dropout)
        self.log_partition = head.to(weight.device, weight.dtype)

    def forward(self, batch: Microbatch, temperature: float = 1.0) -> PartitionScores:  # type: ignore[override]
        hidden_BLH = self.hidden(batch)
        scores = self.score_hidden(hidden_BLH, batch, temperature)
        length = hidden_BLH.shape[1]
        # Rows stand on the left, their prompt first. Gradients flow on into the policy, as published.
        prompt_BL = torch.arange(length, device=hidden_BLH.device) < batch.prefixes[:, None]
        share_BL = prompt_BL.to(hidden_BLH) / batch.prefixes[:, None]
        prompt_BH = torch.einsum("bl,blh->bh", share_BL.to(hidden_BLH), hidden_BLH)
        log_partition_B = self.log_partition(prompt_BH).to(scores.logprobs)
        return PartitionScores(*scores, log_partition_B[batch.source // length])
