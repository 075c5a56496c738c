"""Shapes of models, held against what transformers builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.config.schema import ModelConfig
from orchestrator.config.shapes import KNOWN, ModelShape, shape_of

# Published sizes in billions, three decimals.
PUBLISHED = {
    "Qwen3-0.6B": 0.596, "Qwen3-1.7B": 1.721, "Qwen3-4B": 4.022, "Qwen3-8B": 8.191, "Qwen3-14B": 14.768,
    "Qwen3-32B": 32.762, "Qwen2.5-0.5B": 0.494, "Qwen2.5-1.5B": 1.544, "Qwen2.5-7B": 7.616, "Qwen2.5-14B": 14.770,
    "Qwen2.5-32B": 32.764, "Llama-3.1-8B": 8.030, "Llama-3.2-1B": 1.236, "Llama-3.2-3B": 3.213,
}  # fmt: skip


def test_parameters_by_hand() -> None:
    # Embedding 10 x 8 = 80, untied twice: 160. Layer: q 8 x 8 + o 8 x 8 = 128, k and v 2 x 8 x 4 = 64, MLP 3 x 8 x 16 = 384,
    # norms 16, query and key norms 2 x 4 = 8: 600; two layers 1,200; last norm 8. In all 1,368.
    shape = ModelShape(10, 8, 2, 2, 1, 4, 16, tied=False, qk_norm=True)
    assert (shape.layer, shape.parameters) == (600, 1368)
    # Biases of q (8), k and v (4 each) instead of the norms of heads: 600 - 8 + 16.
    assert ModelShape(10, 8, 2, 2, 1, 4, 16, tied=True, qkv_bias=True).layer == 608


def test_known_models_have_their_published_size() -> None:
    assert {name: round(shape.parameters / 1e9, 3) for name, shape in KNOWN.items()} == PUBLISHED


@pytest.mark.parametrize("name", ["Qwen3-0.6B", "Qwen2.5-7B", "Llama-3.1-8B"])
def test_transformers_builds_as_many(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

    shape = KNOWN[name]
    family = Qwen3Config if shape.qk_norm else Qwen2Config if shape.qkv_bias else LlamaConfig
    config = family(
        vocab_size=shape.vocab, hidden_size=shape.hidden, num_hidden_layers=shape.layers, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim, intermediate_size=shape.intermediate,
        tie_word_embeddings=shape.tied,
    )  # fmt: skip
    with torch.device("meta"):
        built = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in built.parameters()) == shape.parameters


def test_references(tmp_path: Path) -> None:
    model = ModelConfig()
    for name in ("hf:Qwen/Qwen3-8B", "hf:Qwen/Qwen3-8B-Base"):
        assert shape_of(model, name) == KNOWN["Qwen3-8B"]
    assert shape_of(model, "hf:Qwen/Qwen2.5-7B-Instruct") == KNOWN["Qwen2.5-7B"]
    assert shape_of(model, "hf:Qwen/Qwen3-4B-Instruct-2507") == KNOWN["Qwen3-4B"]
    assert shape_of(model, "hf:meta-llama/Meta-Llama-3.1-8B-Instruct") == KNOWN["Llama-3.1-8B"]
    # Another owner's model of that name may have another shape.
    assert shape_of(model, "hf:someone/Qwen3-8B") is None
    assert shape_of(model, "https://example.org/v1") is None
    assert shape_of(model, f"path:{tmp_path}") is None
    assert shape_of(model, "run:nowhere@3", tmp_path) is None


def test_a_folder_is_read(tmp_path: Path) -> None:
    values = {
        "model_type": "qwen2", "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "intermediate_size": 64, "tie_word_embeddings": True,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "tokenizer.json").touch()
    expected = ModelShape(100, 32, 2, 4, 2, 8, 64, tied=True, qkv_bias=True)
    assert shape_of(ModelConfig(), f"path:{tmp_path}") == expected
    for other in ({"model_type": "qwen3_moe"}, {"model_type": "llama", "attention_bias": True}, {"hidden_size": None}):
        (tmp_path / "config.json").write_text(json.dumps(values | other))
        assert shape_of(ModelConfig(), f"path:{tmp_path}") is None


def test_mini_is_what_the_tokenizer_module_builds(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer

    texts = [f"text number {number} of many" for number in range(400)]
    model = ModelConfig(bpe_tokens=300, hidden_size=32, layers=2, heads=4, kv_heads=2)
    build_tokenizer([], texts, model.bpe_tokens, None, tmp_path / "tokenizer")
    build_model_folder(model, tmp_path / "tokenizer", tmp_path / "model")
    built = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(tmp_path / "model"))
    shape = shape_of(model, "mini")
    assert shape is not None
    assert sum(parameter.numel() for parameter in built.parameters()) == shape.parameters
