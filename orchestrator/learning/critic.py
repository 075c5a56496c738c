"""PPO's critic: a second model that expects, before each token, what the rest of the episode is worth.

It has a DeepSpeed engine of its own, so that clipping by the global norm does not couple it to the policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.config.schema import LearnerConfig
from orchestrator.learning.engine import Engine
from orchestrator.learning.head import HeadScorer
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.objectives.surrogates import clipped_value_loss
from orchestrator.learning.parts import Part
from orchestrator.learning.rows import Microbatch


class ValueScores(NamedTuple):
    """values: the expected rest of the reward before each target, [T], float32 or wider."""

    values: torch.Tensor


class ValueScorer(HeadScorer):
    """A language model's layers under a value head."""

    def __init__(self, policy: TokenScorer) -> None:
        """Takes over the layers of a model of the policy's kind."""
        super().__init__(policy, ValueScores, bias=True)


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
