"""Texts as vectors, by words and by a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.errors import ConfigError
from orchestrator.maps.embed import WORDS, embed
from orchestrator.maps.project import layout, perplexity_for

TEXTS = ["we weigh honesty .", "we weigh honesty and mercy .", "2 + 2 = 4", "2 + 3 = 5", "we weigh honesty ."]


def test_words_give_unit_vectors_that_know_what_is_alike() -> None:
    found = embed(TEXTS, WORDS, Path("runs"), seed=0)
    cosines = found.vectors @ found.vectors.T
    assert np.diag(cosines) == pytest.approx(1)
    assert cosines[0, 4] == pytest.approx(1)
    assert cosines[0, 1] > 0.3 > cosines[0, 2]
    assert cosines[2, 3] > 0.2  # signs and single digits count
    assert found.facts["embed"] == WORDS
    assert 0 < found.facts["variance_kept"] <= 1 + 1e-9


def test_neither_order_nor_repetition_moves_the_space() -> None:
    once = embed(TEXTS, WORDS, Path("runs"), seed=0).vectors
    turned = embed([*TEXTS[::-1], *TEXTS[:1] * 5], WORDS, Path("runs"), seed=0).vectors
    assert np.array_equal(once, turned[4::-1])


def test_a_single_text_has_a_vector() -> None:
    assert np.linalg.norm(embed(["no"] * 3, WORDS, Path("runs"), seed=0).vectors, axis=1) == pytest.approx(1)


@pytest.mark.parametrize("what", ["tfidf", "mini", "http://localhost:8000/v1"])
def test_what_cannot_embed_is_refused(what: str) -> None:
    with pytest.raises(ConfigError, match="write words, hf:ID, path:FOLDER or run:NAME@STEP"):
        embed(TEXTS, what, Path("runs"), seed=0)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as sentence-transformers leaves it, of a BERT with random weights and a word a token."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = {
        word: number for number, word in enumerate(["[PAD]", "[UNK]", "we", "weigh", "honesty", "and", "mercy", "."])
    }
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).eval().save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    return folder


def test_a_model_embeds_by_the_mean_of_its_tokens_whatever_the_padding(encoder: Path) -> None:
    """By hand: one text alone has no padding."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    found = embed(TEXTS, f"path:{encoder}", Path("runs"), seed=0)
    model, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    with torch.no_grad():
        mean = model(**tokenizer(TEXTS[0], return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
    assert found.vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert np.array_equal(found.vectors[0], found.vectors[4])
    assert (found.facts["dimensions"], found.facts["longest"], found.facts["cut_texts"]) == (16, 64, 0)


def test_a_model_says_how_many_texts_it_cut_and_that_it_is_pooled_otherwise(encoder: Path, tmp_path: Path) -> None:
    """Four tokens at most: of the four distinct texts one has 4, the others 5 and 6."""
    (encoder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 4}))
    facts = embed(TEXTS, f"path:{encoder}", Path("runs"), seed=0).facts
    assert (facts["longest"], facts["cut_texts"]) == (4, 3)
    (encoder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": False}))
    with pytest.raises(ConfigError, match="pooled otherwise than by the mean"):
        embed(TEXTS, f"path:{encoder}", Path("runs"), seed=0)


def test_the_plane_is_the_same_every_time_and_keeps_neighbours() -> None:
    vectors = np.repeat(np.eye(8)[:2], 15, axis=0) + np.random.default_rng(0).normal(size=(30, 8)) * 0.05
    first, again = (layout(vectors, perplexity_for(30, None), seed=0) for _ in range(2))
    assert np.array_equal(first, again)
    assert np.abs(first).max() == pytest.approx(1)
    gap = np.linalg.norm(first[:15].mean(0) - first[15:].mean(0))
    assert gap > 2 * max(np.linalg.norm(part - part.mean(0), axis=1).mean() for part in (first[:15], first[15:]))
    assert not layout(np.tile(vectors[0], (9, 1)), 2.0, seed=0).any()


# 30, or a third of the other answers: (10 - 1) / 3.
def test_perplexity() -> None:
    assert (perplexity_for(500, None), perplexity_for(10, None), perplexity_for(10, 9)) == (30, 3, 9)
    with pytest.raises(ConfigError, match=r"--perplexity 10: a question has 10 answers here.*Leave it out for 3\."):
        perplexity_for(10, 10)
