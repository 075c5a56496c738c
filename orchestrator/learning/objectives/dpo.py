"""DPO (arXiv 2305.18290 eq. 7) on pairs of the policy's own answers: the best of each group against its worst.

The reference is the starting policy. A group whose rewards are all equal has no pair and costs no pass.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid, one_hot

from orchestrator.learning.objectives.advantages import best_against_worst, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_episode_means
from orchestrator.learning.objectives.base import Objective, Settings, TokenInputs


def margins(inputs: TokenInputs, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """(margin of each pair, [P]; index of the token's pair, [T]).

    dpo_beta (log p(best) - log p_ref(best) - log p(worst) + log p_ref(worst)), with the log-probabilities of whole answers: the
    difference of the implicit rewards. Advantages are the signs, 1 and -1.
    """
    assert inputs.group_T is not None, "pairs are known by their groups"
    assert inputs.reference_T is not None, "DPO needs the reference's log-probabilities"
    _, index_T = inputs.group_T.unique(return_inverse=True)
    signed_T = inputs.advantages_T * (inputs.logprobs_T - inputs.reference_T)
    # As a product of matrices: adding by index has no fixed order on GPUs.
    margins_P = settings.dpo_beta * (one_hot(index_T).T.to(signed_T) @ signed_T)
    return margins_P, index_T


def preference_loss(inputs: TokenInputs, settings: Settings) -> torch.Tensor:
    """-log sigmoid(margin) of the pair, the same at each token of its two answers.

    The mean over answers of means over their tokens is then the mean over pairs.
    """
    margins_P, index_T = margins(inputs, settings)
    return -logsigmoid(margins_P)[index_T]


def metrics(inputs: TokenInputs, settings: Settings) -> dict[str, float]:
    """Before the optimizer step, over pairs. dpo/accuracy: share whose margin is positive; a margin of 0 counts as half."""
    margins_P, _ = margins(inputs, settings)
    return {
        "dpo/loss": float(-logsigmoid(margins_P).mean()),
        "dpo/accuracy": float(((margins_P > 0).double() + 0.5 * (margins_P == 0).double()).mean()),
        "dpo/margin": float(margins_P.mean()),
    }


OBJECTIVE = Objective(
    best_against_worst,
    to_each_token,
    mean_of_episode_means,
    preference_loss,
    chosen_only=True,
    of_groups=True,
    metrics=metrics,
)
