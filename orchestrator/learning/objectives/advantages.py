"""Advantages: what an episode is worth beside its group, and how that is dealt to its tokens. Suffixes: E episodes, T tokens."""

from __future__ import annotations

import torch

from orchestrator.learning.objectives.base import Outcome, Settings

# --- relative: (rewards_E, group_E) -> [E] ---


def as_given(rewards_E: torch.Tensor, group_E: torch.Tensor) -> torch.Tensor:
    """The rewards themselves: nothing is compared within groups."""
    return rewards_E


def group_centred(rewards_E: torch.Tensor, group_E: torch.Tensor) -> torch.Tensor:
    """r - mean of its group (Dr. GRPO, arXiv 2503.20783). Exactly 0 where all rewards of a group are equal, or it has only one."""
    centred_E = torch.empty_like(rewards_E)
    for group in group_E.unique():
        member_E = group_E == group
        rewards = rewards_E[member_E]
        # The mean of equal numbers may differ from them in the last bit, which dividing by 1e-6 would make 1e-10 of.
        centred_E[member_E] = rewards - rewards.mean() if rewards.min() < rewards.max() else torch.zeros_like(rewards)
    return centred_E


def group_standardised(rewards_E: torch.Tensor, group_E: torch.Tensor) -> torch.Tensor:
    """(r - mean) / (std + 1e-6) within each group, with the unbiased standard deviation (GRPO, arXiv 2402.03300 eq. 3 ff.).

    A group whose rewards are all equal, or that has only one, gets 0.
    """
    advantages_E = group_centred(rewards_E, group_E)
    for group in group_E.unique():
        member_E = group_E == group
        if member_E.sum() > 1:
            advantages_E[member_E] /= rewards_E[member_E].std() + 1e-6
    return advantages_E


def leave_one_out(rewards_E: torch.Tensor, group_E: torch.Tensor) -> torch.Tensor:
    """r - mean of the others of its group (RLOO, arXiv 2402.14740), which is G / (G - 1) times the centred reward.

    A group of one has no others and gets 0.
    """
    advantages_E = group_centred(rewards_E, group_E)
    for group in group_E.unique():
        member_E = group_E == group
        size = int(member_E.sum())
        if size > 1:
            advantages_E[member_E] *= size / (size - 1)
    return advantages_E


def best_of_group(rewards_E: torch.Tensor, group_E: torch.Tensor) -> torch.Tensor:
    """1 for the best episode of each group, the first of equals; 0 for the others."""
    chosen_E = torch.zeros_like(rewards_E)
    for member in _members(group_E):
        chosen_E[member[rewards_E[member].argmax()]] = 1
    return chosen_E


def best_against_worst(rewards_E: torch.Tensor, group_E: torch.Tensor) -> torch.Tensor:
    """1 for the best episode of each group and -1 for the worst, the first of equals; 0 for the others.

    A group whose rewards are all equal, or that has only one, gets 0.
    """
    signs_E = torch.zeros_like(rewards_E)
    for member in _members(group_E):
        best, worst = member[rewards_E[member].argmax()], member[rewards_E[member].argmin()]
        if rewards_E[best] > rewards_E[worst]:
            signs_E[best], signs_E[worst] = 1, -1
    return signs_E


def _members(group_E: torch.Tensor) -> list[torch.Tensor]:
    """Indices of each group's episodes, in order."""
    return [(group_E == group).nonzero()[:, 0] for group in group_E.unique()]


# --- credit: (relative rewards_E, outcome, settings) -> [T] ---


def to_each_token(scores_E: torch.Tensor, outcome: Outcome, settings: Settings) -> torch.Tensor:
    """Every token of an episode gets the episode's."""
    return scores_E[outcome.episode_T]


def to_each_token_whitened(scores_E: torch.Tensor, outcome: Outcome, settings: Settings) -> torch.Tensor:
    """The same, standardised over all tokens of the batch (REINFORCE++ with baseline)."""
    return whitened(scores_E[outcome.episode_T])


def returns_whitened(scores_E: torch.Tensor, outcome: Outcome, settings: Settings) -> torch.Tensor:
    """What is still to come at each token, discounted, standardised over all tokens of the batch (REINFORCE++)."""
    return whitened(discounted_returns(outcome.rewards_T, outcome.episode_T, settings.discount))


def gae_whitened(scores_E: torch.Tensor, outcome: Outcome, settings: Settings) -> torch.Tensor:
    """Generalised advantages, standardised over all tokens of the batch (PPO)."""
    return whitened(generalised(outcome, settings))


def whitened(values_T: torch.Tensor) -> torch.Tensor:
    """(x - mean) / sqrt(variance + 1e-8) over all tokens, with the unbiased variance. 0 where there is no difference."""
    if len(values_T) < 2 or not values_T.isfinite().all() or values_T.min() == values_T.max():
        return values_T - values_T  # zeros, or NaN where that is what came in
    return (values_T - values_T.mean()) * torch.rsqrt(values_T.var() + 1e-8)


def discounted_returns(rewards_T: torch.Tensor, episode_T: torch.Tensor, discount: float) -> torch.Tensor:
    """R_t = sum over s >= t of discount^(s - t) r_s within the token's episode."""
    returns_T = rewards_T.clone()
    for now, later in _backwards(episode_T):
        returns_T[now] += discount * returns_T[later]
    return returns_T


def generalised(outcome: Outcome, settings: Settings) -> torch.Tensor:
    """A_t = d_t + discount gae_lambda A_(t+1) with d_t = r_t + discount V_(t+1) - V_t (arXiv 1506.02438 eq. 16).

    V is 0 after an episode's last token.
    """
    assert outcome.values_T is not None, "generalised advantages need a critic"
    advantages_T = outcome.rewards_T - outcome.values_T
    for now, later in _backwards(outcome.episode_T):
        following = outcome.values_T[later] + settings.gae_lambda * advantages_T[later]
        advantages_T[now] += settings.discount * following
    return advantages_T


def _backwards(episode_T: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(tokens, the tokens that follow them) from the last but one token of the episodes to their first, all at once."""
    _, lengths = episode_T.unique_consecutive(return_counts=True)
    ends = lengths.cumsum(0)
    longest = int(lengths.max()) if len(lengths) else 0
    steps = []
    for back in range(2, longest + 1):
        later = ends[lengths >= back] - back + 1
        steps.append((later - 1, later))
    return steps
