"""What every objective is made of. Suffixes: E episodes, T target tokens, of all episodes end to end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from orchestrator.learning.objectives.kl import divergence


class Settings(Protocol):
    """The settings that objectives read; `AlgorithmConfig` has them and says what each means."""

    clip_low: float
    clip_high: float
    dual_clip: float
    kl_weight: float
    kl_estimator: str
    kl_in: str
    discount: float
    gae_lambda: float
    value_clip: float
    beta: float
    flow_reward: str
    flow_prior: str
    flow_importance: str
    dpo_beta: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A batch of episodes as its advantages see it, all float64.

    rewards_E; group_E: number of the episode's group; episode_T: the token's episode, as an index into E, where the tokens of
    an episode stand together and in the order of generation. penalty_T: what the KL penalty in the reward takes from each
    token, or None. values_T: what the critic expects before each token, or None. An episode may have no tokens.
    """

    rewards_E: torch.Tensor
    group_E: torch.Tensor
    episode_T: torch.Tensor
    penalty_T: torch.Tensor | None = None
    values_T: torch.Tensor | None = None

    @property
    def totals_E(self) -> torch.Tensor:
        """Rewards less the episode's whole KL penalty."""
        if self.penalty_T is None:
            return self.rewards_E
        return self.rewards_E.index_add(0, self.episode_T, self.penalty_T, alpha=-1)

    @property
    def rewards_T(self) -> torch.Tensor:
        """A reward a token: the episode's on its last one, and each token's own KL penalty."""
        rewards_T = torch.zeros(len(self.episode_T), dtype=self.rewards_E.dtype)
        if len(rewards_T):
            last_T = torch.ones_like(self.episode_T, dtype=torch.bool)
            last_T[:-1] = self.episode_T[1:] != self.episode_T[:-1]
            rewards_T[last_T] = self.rewards_E[self.episode_T[last_T]]
        return rewards_T if self.penalty_T is None else rewards_T - self.penalty_T


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """Per target token of a microbatch, [T]: log-probability now (with gradient), when the batch was drawn (old), under the
    reference (or None), and the advantage.

    episode_T: any numbering of the tokens' episodes. log_partition_T: FlowRL's log Z of the row's prompt, with gradient.
    Where an objective is `of_sequences`, all tokens of an episode are here. group_T: any numbering of the tokens' groups; where an
    objective is `of_groups`, all trained tokens of a group are here.
    """

    logprobs_T: torch.Tensor
    old_T: torch.Tensor
    reference_T: torch.Tensor | None
    advantages_T: torch.Tensor
    episode_T: torch.Tensor | None = None
    log_partition_T: torch.Tensor | None = None
    group_T: torch.Tensor | None = None

    def episodes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(index of the token's episode among those here [T], whether a token belongs to an episode [E, T])."""
        assert self.episode_T is not None, "an objective of sequences needs the tokens' episodes"
        _, index_T = self.episode_T.unique(return_inverse=True)
        return index_T, torch.nn.functional.one_hot(index_T).T

    def episode_means(self, values_T: torch.Tensor) -> torch.Tensor:
        """Of each token, the mean over its whole episode."""
        index_T, member_ET = self.episodes()
        # As a product of matrices: adding by index has no fixed order on GPUs.
        share_ET = member_ET.to(values_T)
        return ((share_ET @ values_T) / share_ET.sum(1))[index_T]


Relative = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(rewards_E, group_E) -> what each episode is worth beside its group, [E]."""

Credit = Callable[[torch.Tensor, Outcome, Settings], torch.Tensor]
"""(relative rewards_E, outcome, settings) -> advantages_T: how an episode's worth is dealt to its tokens."""


@dataclass(frozen=True, slots=True)
class Objective:
    """advantage = credit of the relative rewards. aggregation: (lengths_E, cap) -> weight of one token of each episode, which
    turn token losses into the loss as their weighted sum; computed over whole optimizer steps, so that microbatches and ranks
    cannot change it. token_loss: loss of each token, to be minimised, without the KL penalty.

    compares: an episode without another scored one in its group says nothing. zero_if_equal: where a group's rewards are all
    equal, its tokens' losses have no gradient. of_sequences: the loss of a token depends on its whole episode. critic: needs
    values. partition: has FlowRL's log Z. chosen_only: episodes whose relative worth is 0 take part in nothing; that of the others
    must not change when they alone are compared. of_groups: the loss of a token depends on all of its group. metrics: of one
    optimizer step, from all of its tokens.
    """

    relative: Relative
    credit: Credit
    aggregation: Callable[[torch.Tensor, int], torch.Tensor]
    token_loss: Callable[[TokenInputs, Settings], torch.Tensor]
    compares: bool = True
    zero_if_equal: bool = False
    of_sequences: bool = False
    critic: bool = False
    partition: bool = False
    chosen_only: bool = False
    of_groups: bool = False
    metrics: Callable[[TokenInputs, Settings], dict[str, float]] = lambda inputs, settings: {}

    def advantage(self, outcome: Outcome, settings: Settings) -> torch.Tensor:
        """Advantages of all tokens, [T]."""
        return self.credit(self.relative(outcome.totals_E, outcome.group_E), outcome, settings)

    def loss(self, inputs: TokenInputs, settings: Settings) -> torch.Tensor:
        """Loss of each token, [T], with the KL penalty where it belongs into the loss."""
        loss_T = self.token_loss(inputs, settings)
        if settings.kl_weight and settings.kl_in == "loss" and inputs.reference_T is not None:
            penalty_T = divergence(settings.kl_estimator, inputs.logprobs_T, inputs.reference_T)
            loss_T = loss_T + settings.kl_weight * penalty_T
        return loss_T

    def penalises_reward(self, settings: Settings) -> bool:
        """Whether the KL penalty is taken from the rewards."""
        return bool(settings.kl_weight) and settings.kl_in == "reward"

    def skips_equal(self, settings: Settings) -> bool:
        """Whether episodes of groups without a difference can be left out of the passes: their gradient is exactly 0."""
        return self.zero_if_equal and not settings.kl_weight
