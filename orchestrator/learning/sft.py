"""Supervised fine-tuning: what a policy or a judge is taught to say."""

from __future__ import annotations

from typing import Any

import torch

from orchestrator.config.schema import ModelConfig
from orchestrator.learning.model import TokenScores
from orchestrator.learning.rows import Row, common_prefix
from orchestrator.learning.teaching import tokenised


def row_of(example: Any, tokenizer: Any, end_token: bool, model: ModelConfig) -> Row:
    """The row of a `workloads.base.Example`; its branches share the longest common beginning of their prompts.

    Raises ConfigError where it is longer than the model's context.
    """
    prompts, targets = tokenised(example.group, example.branches, tokenizer, end_token, model)
    shared = min(
        common_prefix([prompt + target for prompt, target in zip(prompts, targets, strict=True)]), *map(len, prompts)
    )
    branches = tuple(prompt[shared:] + target for prompt, target in zip(prompts, targets, strict=True))
    return Row(prompts[0][:shared], branches, tuple(map(len, targets)))


def negative_log_likelihood(scores: TokenScores, target_T: torch.Tensor) -> torch.Tensor:
    """-log p of each target token, in nats."""
    return -scores.logprobs
