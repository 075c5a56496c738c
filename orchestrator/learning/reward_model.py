"""Bradley-Terry reward models: a scalar of a whole answer, trained on pairs (arXiv 2203.02155 eq. 1, with one pair a question)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from orchestrator.config.schema import ModelConfig
from orchestrator.learning.calibration import Calibration
from orchestrator.learning.rows import Row, common_prefix
from orchestrator.learning.teaching import tokenised

BETTER, WORSE = 1, 0


def row_of(example: Any, tokenizer: Any, end_token: bool, model: ModelConfig) -> Row:
    """The row of a `workloads.base.Preference`: all that both conversations begin with, and a branch a side, the better first.

    Each branch ends with the one target that `head` asks for. Raises ConfigError where it is longer than the model's context.
    """
    prompts, targets = tokenised(example.group, (example.better, example.worse), tokenizer, end_token, model)
    better, worse = (prompt + target for prompt, target in zip(prompts, targets, strict=True))
    shared = common_prefix([better, worse])
    return Row(better[:shared], ((*better[shared:], BETTER), (*worse[shared:], WORSE)), (1, 1))


def classes_of(examples: Sequence[Any]) -> tuple[str, ...]:
    """One output: the reward."""
    return ("reward",)


def preference_loss(scores: Any, target_T: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(r_better - r_worse) of the pair, at both of its targets: their mean is the mean over pairs."""
    return -logsigmoid(_margins(scores)).repeat_interleave(2)


def ordered_right(scores: Any, target_T: torch.Tensor) -> torch.Tensor:
    """Of each pair: 1 where the better answer has the higher reward, 1/2 for a tie."""
    margins_P = _margins(scores)
    return (margins_P > 0).double() + 0.5 * (margins_P == 0).double()


def calibration(scores: Any) -> dict[str, float]:
    """Mean and spread of the rewards of all held-out answers. Raises RunError where they are all the same."""
    return Calibration.of(scores[0].tolist()).settings


def _margins(scores: Any) -> torch.Tensor:
    """r_better - r_worse of each pair: a row's targets stand together, the better first."""
    better_P, worse_P = scores[0].view(-1, 2).unbind(1)
    return better_P - worse_P
