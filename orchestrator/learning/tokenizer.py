"""Tokenizers and model folders for models that are built on the spot.

Every tokenizer starts from the 256 bytes, so that any text can be read and written. A closed vocabulary makes each of
its words one token (" nurse", "<think>", "盗窃"); real text trains a byte-level BPE. " yes" and " no" are one token each, so that a
verdict is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING, Any

from orchestrator.config.schema import ModelConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (PAD, START, END)
VERDICTS = ("yes", "no")
TAG = re.compile(r"</?[A-Za-z]+>")
"""A word of a closed vocabulary that is read whole though it is made of signs and letters; the blank before it is part of it."""
CHINESE = re.compile("[\u4e00-\u9fff]")
"""A closed vocabulary with such a word is read without blanks: wherever one of its words stands it is one token, signs and line breaks
within it included, the longest where several begin alike; and what is written comes back as it was."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}"
)
"""ChatML with a blank where ChatML breaks the line: a word then is the same token everywhere in the text."""


def build_tokenizer(
    words: Sequence[str], texts: Sequence[str], bpe_tokens: int, chat_template: str | None, folder: Path
) -> None:
    """Write a transformers fast-tokenizer folder.

    words: a closed vocabulary; each word is one token at the start of a text and after a blank (which is lost before a tag), of a
    Chinese vocabulary anywhere. texts: what a BPE of `bpe_tokens` tokens (special ones included) is trained on. One of the two is
    empty. chat_template: Jinja, default `CHAT_TEMPLATE`.
    Raises ValueError where both or neither are given, or a word would not be one token (it holds blanks, or letters
    and signs).
    """
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    if bool(words) == bool(texts):
        raise ValueError("a tokenizer is built from words or from texts: give one of the two")
    vocabulary, merges = _train(texts, bpe_tokens) if texts else (_bytes(), [])
    joined = any(map(CHINESE.search, words))
    whole = [word for word in dict.fromkeys(words) if joined or TAG.fullmatch(word)]
    for word in dict.fromkeys([*VERDICTS, *words]):
        if word not in whole:
            vocabulary.setdefault(_piece(word), len(vocabulary))
    backend = _backend(vocabulary, merges, prefix_space=not joined)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    backend.add_tokens([AddedToken(word, lstrip=not joined, normalized=False) for word in whole])
    split = next((word for word in words if len(backend.encode(word).ids) != 1), None)
    if split is not None:
        raise ValueError(f"the word {split!r} is not one token; split it into words of letters, of digits or of signs")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token=PAD, eos_token=END, clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = chat_template or CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)


def _piece(word: str) -> str:
    """The word after a blank in the byte-level alphabet ("Ġnurse")."""
    from tokenizers.pre_tokenizers import ByteLevel

    return "".join(
        piece for piece, _ in ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(" " + word)
    )


def _bytes() -> dict[str, int]:
    from tokenizers.pre_tokenizers import ByteLevel

    symbols = [*SPECIAL, *sorted(ByteLevel.alphabet())]
    return {symbol: number for number, symbol in enumerate(symbols)}


def _backend(vocabulary: dict[str, int], merges: list[tuple[str, str]], prefix_space: bool = True) -> Tokenizer:
    """A byte-level BPE; `ignore_merges` finds whole words in the vocabulary without merges that lead to them."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    backend.decoder = decoders.ByteLevel()
    return backend


def _train(texts: Sequence[str], bpe_tokens: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    from tokenizers import trainers

    backend = _backend(_bytes(), [])
    trainer = trainers.BpeTrainer(
        vocab_size=bpe_tokens - len(VERDICTS),
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(_bytes().keys() - set(SPECIAL)),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    state = json.loads(backend.to_str())["model"]
    return dict(state["vocab"]), [tuple(merge) for merge in state["merges"]]


def build_model_folder(model: ModelConfig, tokenizer: Path, folder: Path) -> None:
    """Write the folder of a Qwen3 causal LM without weights: configuration, generation configuration and the
    tokenizer's files.

    The vocabulary is rounded up to a multiple of 16. Raises ValueError where the heads do not divide the width or one
    another.
    """
    from transformers import AutoTokenizer, GenerationConfig, Qwen3Config

    if model.hidden_size % model.heads or model.heads % model.kv_heads or (model.hidden_size // model.heads) % 2:
        raise ValueError(
            f"hidden_size={model.hidden_size}, heads={model.heads}, kv_heads={model.kv_heads}: "
            "heads must divide the width into even parts, and kv_heads the heads"
        )
    loaded = AutoTokenizer.from_pretrained(tokenizer)
    shape: dict[str, Any] = {
        "vocab_size": -(-len(loaded) // 16) * 16,
        "hidden_size": model.hidden_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.hidden_size // model.heads,
        "intermediate_size": 3 * model.hidden_size,
        "max_position_embeddings": model.context_tokens,
        "tie_word_embeddings": model.tie_embeddings,
        "rope_parameters": {"rope_type": "default", "rope_theta": ROPE_THETA},
        "initializer_range": 0.7 * model.hidden_size**-0.5,
        "dtype": model.dtype,
        "pad_token_id": loaded.pad_token_id,
        "eos_token_id": loaded.eos_token_id,
        "bos_token_id": None,
    }
    config = Qwen3Config(**shape)
    config.architectures = ["Qwen3ForCausalLM"]
    config.save_pretrained(folder)
    GenerationConfig(eos_token_id=loaded.eos_token_id, pad_token_id=loaded.pad_token_id).save_pretrained(folder)
    for path in tokenizer.iterdir():
        if path.is_file() and path.resolve().parent != folder.resolve():
            copyfile(path, folder / path.name)


ROPE_THETA = 1e4
"""Base of the rotary positions; contexts here are short."""


def padding_id(tokenizer: Any) -> int:
    """Padding is never attended to nor trained; any id will do where the tokenizer names none."""
    return tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
