"""PPO's critic: a second model that expects, before each token, what the rest of the episode is worth.

It has a DeepSpeed engine of its own, so that clipping by the global norm does not couple it to the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.config.schema import LearnerConfig
from orchestrator.learning.engine import Engine
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.objectives.surrogates import clipped_value_loss
from orchestrator.learning.parts import Part
from orchestrator.learning.rows import Microbatch


class ValueScores(NamedTuple):
    """values: the expected rest of the reward before each target, [T], float32 or wider."""

    values: torch.Tensor


class ValueScorer(nn.Module):
    """A language model's layers under a value head that starts at 0."""

    language_model: Any
    scores = ValueScores

    def __init__(self, policy: TokenScorer) -> None:
        """Takes over the layers of a model of the policy's kind; its output head is let go."""
        super().__init__()
        weight = next(policy.parameters())
        self.language_model = policy.language_model.model
        self.head = nn.Linear(policy.language_model.config.hidden_size, 1, device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: Microbatch, temperature: float = 1.0) -> ValueScores:
        hidden_BLH = self.language_model(
            input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
        ).last_hidden_state
        hidden_TH = hidden_BLH.reshape(-1, hidden_BLH.shape[-1])[batch.source]
        values_T = self.head(hidden_TH)[:, 0]
        return ValueScores(values_T if values_T.dtype == torch.float64 else values_T.float())


def value_loss(algorithm: AlgorithmConfig, part: Part, scores: ValueScores, microbatch: Microbatch) -> torch.Tensor:
    """The microbatch's part of the critic's loss: PPO's clipped squared error with the policy's weights of tokens."""
    here = part.columns.at(microbatch.flat.clamp_min(0).cpu())
    assert here.values is not None and here.returns is not None and here.weights is not None  # noqa: PT018
    old_T, returns_T, weights_T = (column.to(scores.values) for column in (here.values, here.returns, here.weights))
    loss_T = clipped_value_loss(scores.values, old_T, returns_T, algorithm.value_clip)
    return (weights_T * (microbatch.flat >= 0) * loss_T).sum()


class Critic:
    """Collective: every rank makes the same calls with the same arguments."""

    def __init__(self, policy: TokenScorer, learner: LearnerConfig, algorithm: AlgorithmConfig, dtype: str) -> None:
        """policy: the model whose layers the critic starts from; it is used up."""
        self.engine = Engine(ValueScorer(policy), learner, algorithm.critic_learning_rate, dtype)
        self._algorithm = algorithm

    def values(self, microbatches: Sequence[Microbatch], total: int) -> torch.Tensor:
        """What the critic expects before each of `total` tokens, float64 on the CPU, the same on every rank."""
        values: torch.Tensor = self.engine.score(microbatches, total).values
        return values

    def update(self, part: Part, microbatches: Sequence[Microbatch], warmth: float) -> dict[str, float]:
        """One optimizer step towards the part's returns. warmth: the schedule's share of the peak learning rate."""

        def loss(scores: ValueScores, microbatch: Microbatch) -> torch.Tensor:
            return value_loss(self._algorithm, part, scores, microbatch)

        values_T = self.engine.score(microbatches, part.total, loss=loss).values
        grad_norm = self.engine.step(self._algorithm.critic_learning_rate * warmth)
        returns_T = part.columns.returns
        assert returns_T is not None
        spread = float(returns_T.var(correction=0))
        return {
            "critic/loss": float((returns_T - values_T).square().mean()) / 2,
            # Of the returns' variance; 0 where they do not vary.
            "critic/explained_variance": 1 - float((returns_T - values_T).var(correction=0)) / spread
            if spread
            else 0.0,
            "critic/grad_norm": grad_norm,
        }
