"""Texts as vectors of a transformers model: the mean of its last hidden states over a text's tokens, of length 1.

That is what sentence-transformers makes of most of its checkpoints (all-MiniLM-L6-v2 among them), and the nearest thing to it of any
other encoder or language model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orchestrator.errors import ConfigError
from orchestrator.learning.model import local_folder

TOKENS_AT_ONCE = 16_384
"""Of a batch, padding included."""
LONGEST = 8_192
"""Tokens of a text where neither model nor tokenizer has a bound."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """vectors: [texts, H], float32. longest: most tokens of a text that count; cut: texts with more. device: where it ran."""

    vectors: np.ndarray
    longest: int
    cut: int
    device: str


def mean_pooled(reference: str, texts: Sequence[str]) -> Pooled:
    """Embed texts with a model, on a GPU where there is one.

    reference: a hub id or a folder with weights and tokenizer. Raises ConfigError for a checkpoint of sentence-transformers that
    says it is pooled in another way.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = local_folder(reference)
    _check_pooling(reference, folder)
    tokenizer: Any = AutoTokenizer.from_pretrained(reference)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = AutoModel.from_pretrained(reference, dtype=torch.float32).to(device).eval()
    longest = _longest(folder, tokenizer, model)
    sizes = [len(ids) for ids in tokenizer(list(texts))["input_ids"]]
    # Of like length together, so that there is little padding.
    order = sorted(range(len(texts)), key=lambda place: sizes[place])
    found: dict[int, np.ndarray] = {}
    while order:
        most = min(longest, sizes[order[-1]])
        batch, order = order[-max(1, TOKENS_AT_ONCE // most) :], order[: -max(1, TOKENS_AT_ONCE // most)]
        given = tokenizer(
            [texts[place] for place in batch], padding=True, truncation=True, max_length=longest, return_tensors="pt"
        )
        with torch.inference_mode():
            states_BLH = model(**given.to(device)).last_hidden_state
            found |= zip(batch, pooled(states_BLH, given["attention_mask"]).cpu().numpy(), strict=True)
    vectors = np.stack([found[place] for place in range(len(texts))])
    return Pooled(vectors, longest, sum(size > longest for size in sizes), device.type)


def pooled(states_BLH: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
    """Means over the tokens of each text, padding left out, of length 1: [B, H]."""
    weights = mask_BL.to(states_BLH.device, states_BLH.dtype)[..., None]
    means = (states_BLH * weights).sum(1) / weights.sum(1).clamp(min=1)
    return torch.nn.functional.normalize(means, dim=-1)


def _check_pooling(reference: str, folder: Path) -> None:
    told = folder / "1_Pooling" / "config.json"
    if told.is_file() and not json.loads(told.read_text()).get("pooling_mode_mean_tokens", True):
        raise ConfigError(
            f"{reference} is pooled otherwise than by the mean of its tokens (1_Pooling/config.json): name a model that is, such as "
            "hf:sentence-transformers/all-MiniLM-L6-v2."
        )


def _longest(folder: Path, tokenizer: Any, model: Any) -> int:
    """Most tokens of a text: what sentence-transformers would take, else what tokenizer and model do."""
    told = folder / "sentence_bert_config.json"
    asked = json.loads(told.read_text()).get("max_seq_length") if told.is_file() else None
    positions = getattr(model.config, "max_position_embeddings", None)
    return min(bound for bound in (asked, tokenizer.model_max_length, positions, LONGEST) if bound)
