"""Shapes of models, known without loading them: what memory and time are computed from. Imports no framework."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.references import ModelReference, resolve
from orchestrator.config.schema import ModelConfig
from orchestrator.errors import ConfigError

DTYPE_BYTES = {"float32": 4, "bfloat16": 2}
HALVES = ("bfloat16", "float16")
"""Precisions in a config.json that are served as bfloat16."""
LONGEST_CONTEXT = 8192
"""Tokens that are planned for, however many more a model can read: a server's cache is sized by them."""


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A dense decoder with gated MLPs and RMS norms: Qwen3 (norms of queries and keys), Qwen2.5 (biases of q, k, v), Llama."""

    vocab: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    tied: bool
    qk_norm: bool = False
    qkv_bias: bool = False

    @property
    def queries(self) -> int:
        """Width of all queries together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all keys together, and of all values."""
        return self.kv_heads * self.head_dim

    @property
    def embedding(self) -> int:
        """Parameters of one embedding matrix."""
        return self.vocab * self.hidden

    @property
    def layer(self) -> int:
        """Parameters of one layer: q, k, v, o; gate, up, down; two norms; norms of a head's query and key; biases."""
        attention = 2 * self.hidden * (self.queries + self.keys)
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        biases = self.queries + 2 * self.keys if self.qkv_bias else 0
        return attention + 3 * self.hidden * self.intermediate + norms + biases

    @property
    def linear(self) -> dict[str, tuple[int, int]]:
        """(inputs, outputs) of the linear layers of one layer, by name."""
        inner = self.intermediate
        attention = {"q_proj": self.queries, "k_proj": self.keys, "v_proj": self.keys}
        mlp = {"gate_proj": inner, "up_proj": inner}
        return {
            **{name: (self.hidden, outputs) for name, outputs in (attention | mlp).items()},
            "o_proj": (self.queries, self.hidden),
            "down_proj": (inner, self.hidden),
        }

    def adapters(self, rank: int, names: Collection[str] | None = None) -> int:
        """Parameters of LoRA adapters of this rank on the layers of these names (None: on all): A [rank, in], B [out, rank]."""
        sizes = [sum(size) for name, size in self.linear.items() if names is None or name in names]
        return self.layers * rank * sum(sizes)

    @property
    def parameters(self) -> int:
        """All parameters, a tied output head counted once."""
        return self.layers * self.layer + self.hidden + self.embedding * (1 if self.tied else 2)


def _qwen3(hidden: int, layers: int, heads: int, intermediate: int, tied: bool) -> ModelShape:
    return ModelShape(151936, hidden, layers, heads, 8, 128, intermediate, tied, qk_norm=True)


def _qwen25(vocab: int, hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int) -> ModelShape:
    return ModelShape(
        vocab, hidden, layers, heads, kv_heads, hidden // heads, intermediate, tied=vocab == 151936, qkv_bias=True
    )


KNOWN = {
    "Qwen3-0.6B": _qwen3(1024, 28, 16, 3072, tied=True),
    "Qwen3-1.7B": _qwen3(2048, 28, 16, 6144, tied=True),
    "Qwen3-4B": _qwen3(2560, 36, 32, 9728, tied=True),
    "Qwen3-8B": _qwen3(4096, 36, 32, 12288, tied=False),
    "Qwen3-14B": _qwen3(5120, 40, 40, 17408, tied=False),
    "Qwen3-32B": _qwen3(5120, 64, 64, 25600, tied=False),
    "Qwen2.5-0.5B": _qwen25(151936, 896, 24, 14, 2, 4864),
    "Qwen2.5-1.5B": _qwen25(151936, 1536, 28, 12, 2, 8960),
    "Qwen2.5-7B": _qwen25(152064, 3584, 28, 28, 4, 18944),
    "Qwen2.5-14B": _qwen25(152064, 5120, 48, 40, 8, 13824),
    "Qwen2.5-32B": _qwen25(152064, 5120, 64, 40, 8, 27648),
    "Llama-3.1-8B": ModelShape(128256, 4096, 32, 32, 8, 128, 14336, tied=False),
    "Llama-3.2-1B": ModelShape(128256, 2048, 16, 32, 8, 64, 8192, tied=True),
    "Llama-3.2-3B": ModelShape(128256, 3072, 28, 24, 8, 128, 8192, tied=True),
}
"""From the config.json of each model's page on huggingface.co, by the name of its family."""
_OWNERS = ("Qwen", "meta-llama")
_VARIANT = re.compile(r"^Meta-|-(Base|Instruct|Thinking)(-\d{4})?$")
_FAMILIES = {"qwen3": {"qk_norm": True}, "qwen2": {"qkv_bias": True}, "llama": {}, "mistral": {}}
"""Values of `model_type` whose shape is computed here, and what each has beside the plain decoder."""


def shape_of(model: ModelConfig, name: str, storage: str | Path = "runs") -> ModelShape | None:
    """The shape of the model that `name` refers to, or None where it is not known on this machine.

    model: describes `mini`, whose vocabulary is taken as model.bpe_tokens; that of a closed world is smaller.
    """
    reference = ModelReference.parse(name)
    if reference.kind == "mini":
        return _built(model)
    known = _known(reference.value) if reference.kind == "hf" else None
    values = None if known else config_json(reference, storage)
    try:
        return known or (_from_config(values) if values else None)
    except (KeyError, TypeError):
        return None


def config_json(reference: ModelReference, storage: str | Path = "runs") -> Mapping[str, Any] | None:
    """The config.json of a folder, a run, or a model of the hub that was downloaded before; None where there is none."""
    try:
        path = _cached(reference.value) if reference.kind == "hf" else None
        if reference.kind in ("path", "run"):
            path = Path(resolve(reference, storage)) / "config.json"
        values = json.loads(path.read_text(encoding="utf-8")) if path else None
    except (ConfigError, OSError, json.JSONDecodeError):
        return None
    return values if isinstance(values, dict) else None


def context_and_dtype(reference: ModelReference, storage: str | Path = "runs") -> tuple[int, str]:
    """(tokens that a model of no run can read, at most `LONGEST_CONTEXT`; the precision it is served in) by its config.json; 0 and ""
    where that does not say."""
    values = config_json(reference, storage) or {}
    dtype = values.get("dtype") or values.get("torch_dtype") or ""
    context = min(int(values.get("max_position_embeddings") or 0), LONGEST_CONTEXT)
    return context, "bfloat16" if dtype in HALVES else "float32" if dtype else ""


def _built(model: ModelConfig) -> ModelShape:
    """As `orchestrator.learning.tokenizer.build_model_folder` writes it."""
    vocab = -(-model.bpe_tokens // 16) * 16
    head_dim, intermediate = model.hidden_size // model.heads, 3 * model.hidden_size
    return ModelShape(
        vocab, model.hidden_size, model.layers, model.heads, model.kv_heads, head_dim, intermediate,
        model.tie_embeddings, qk_norm=True,
    )  # fmt: skip


def _known(hub_id: str) -> ModelShape | None:
    owner, _, name = hub_id.partition("/")
    return KNOWN.get(_VARIANT.sub("", _VARIANT.sub("", name))) if owner in _OWNERS else None


def _cached(hub_id: str) -> Path | None:
    """The config.json that an earlier download left behind."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(hub_id, "config.json")
    except HFValidationError:
        return None
    return Path(path) if isinstance(path, str) else None


def _from_config(values: Mapping[str, Any]) -> ModelShape | None:
    """The shape in a config.json; None where the architecture has other parts (experts, further biases)."""
    family = _FAMILIES.get(values["model_type"])
    if family is None or (values.get("attention_bias") and not family.get("qkv_bias")) or values.get("mlp_bias"):
        return None
    heads = int(values["num_attention_heads"])
    return ModelShape(
        int(values["vocab_size"]),
        int(values["hidden_size"]),
        int(values["num_hidden_layers"]),
        heads,
        int(values.get("num_key_value_heads") or heads),
        int(values.get("head_dim") or values["hidden_size"] // heads),
        int(values["intermediate_size"]),
        bool(values.get("tie_word_embeddings", False)),
        **family,
    )
