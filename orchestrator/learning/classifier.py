"""Sequence classification: cross-entropy over classes, read at the last token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from orchestrator.config.schema import ModelConfig
from orchestrator.errors import ConfigError
from orchestrator.learning.rows import Row
from orchestrator.learning.teaching import tokenised


def row_of(example: Any, tokenizer: Any, end_token: bool, model: ModelConfig) -> Row:
    """The row of a `workloads.base.Labelled`, its target the number of its class (see `head`).

    Raises ConfigError where it is longer than the model's context.
    """
    (prompt,), (target,) = tokenised(example.group, (example.branch,), tokenizer, end_token, model)
    return Row(prompt, ((*target, example.label),), (1,))


def classes_of(examples: Sequence[Any]) -> tuple[str, ...]:
    """The names of the classes. Raises ConfigError where the examples do not agree on them."""
    classes: tuple[str, ...] = examples[0].classes
    for example in examples:
        if example.classes != classes:
            raise ConfigError(
                f"an example of {example.group!r} has the classes {example.classes}, one of {examples[0].group!r} has {classes}: "
                "one lesson has one list of classes."
            )
    return classes


def class_loss(scores: Any, target_T: torch.Tensor) -> torch.Tensor:
    """-log softmax of the true class, in nats."""
    return cross_entropy(torch.stack(tuple(scores), 1), target_T, reduction="none")


def classified_right(scores: Any, target_T: torch.Tensor) -> torch.Tensor:
    """1 where the true class has the highest score; of equals the first counts."""
    return (torch.stack(tuple(scores), 1).argmax(1) == target_T).double()
