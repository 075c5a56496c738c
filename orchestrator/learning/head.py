"""A language model's layers under a linear head: critics, reward models and classifiers.

The last two are saved as what transformers calls a sequence classifier, whose head reads the last token, and load there and in
vLLM as such. Each branch of their rows ends with one target more, behind its last token, where a language model would predict
the next one. It holds what is to be learned and is never read as a token: nothing attends to it.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from orchestrator.errors import ConfigError
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.rows import Microbatch


class HeadScorer(nn.Module):
    """Scores the hidden state before each target. The head starts at 0, the same on every rank and under every ZeRO stage."""

    language_model: Any
    served: ClassVar = {"language_model.": "model.", "head.": "score."}
    """Beginnings of the parameters' names here and in a saved sequence classifier."""

    def __init__(self, policy: TokenScorer, scores: Any, bias: bool = False) -> None:
        """Takes over the layers of a language model; its output head is let go. scores: a named tuple with a field an output."""
        super().__init__()
        weight = next(policy.parameters())
        self.language_model = policy.language_model.model
        self.scores = scores
        outputs, width = len(scores._fields), policy.language_model.config.hidden_size
        self.head = nn.Linear(width, outputs, bias=bias, device=weight.device, dtype=weight.dtype)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, batch: Microbatch, temperature: float = 1.0) -> Any:
        """[T] an output, float32 or wider."""
        hidden_BLH = self.language_model(
            input_ids=batch.ids, position_ids=batch.positions, attention_mask=batch.mask, use_cache=False
        ).last_hidden_state
        hidden_TH = hidden_BLH.reshape(-1, hidden_BLH.shape[-1])[batch.source]
        outputs_TN = self.head(hidden_TH)
        outputs_TN = outputs_TN if outputs_TN.dtype == torch.float64 else outputs_TN.float()
        return self.scores(*outputs_TN.unbind(1))


def sequence_scorer(policy: TokenScorer, classes: Sequence[str]) -> HeadScorer:
    """A head with one output a class."""
    return HeadScorer(policy, namedtuple("ClassScores", [f"class_{number}" for number in range(len(classes))]))


def sequence_settings(folder: str, tokenizer: Any, classes: Sequence[str]) -> Mapping[str, Any]:
    """What config.json says of a model of this folder's architecture that classifies sequences; one class is a reward.

    Raises ConfigError where transformers has no such architecture.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoConfig

    config = AutoConfig.from_pretrained(folder)
    architecture = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    if architecture is None:
        raise ConfigError(
            f"{folder}: transformers has no sequence classifier of the type {config.model_type}. Teach another model."
        )
    # Transformers reads the last token that is not padding: were the end of an answer padding, it would be passed over.
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id != tokenizer.eos_token_id else None
    return {
        "architectures": [architecture.__name__],
        "num_labels": len(classes),
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
        # Engines put a reward through no squashing function then.
        "problem_type": "regression" if len(classes) == 1 else "single_label_classification",
        "pad_token_id": padding,
    }
