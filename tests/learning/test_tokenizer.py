"""Tokenizers and model folders that are built on the spot."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig

from orchestrator.config.schema import ModelConfig
from orchestrator.learning.tokenizer import END, build_model_folder, build_tokenizer

WORDS = ("we", "could", "report", ".", ":", "?", "user", "assistant")
TEXTS = ["A moral question needs a moral answer.\n\nIs it right? Yes or no, the answer is: **it depends**." * 20]
ANYTHING = [
    "we could report .",
    "naïve café — 你好 🙂",
    "line\nbreak\n\n  and  blanks ",
    "yes",
    "Ünïcode	tab 12345 {}",
]


def _built(tmp_path: Path, words: tuple[str, ...], texts: list[str], template: str | None = None):
    tokens, folder = tmp_path / "tokenizer", tmp_path / "model"
    build_tokenizer(words, texts, 400, template, tokens)
    build_model_folder(ModelConfig(hidden_size=32, heads=4, kv_heads=2, context_tokens=77), tokens, folder)
    return AutoTokenizer.from_pretrained(folder), folder


@pytest.mark.parametrize(("words", "texts"), [(WORDS, []), ((), TEXTS)])
def test_any_text_comes_back(tmp_path: Path, words: tuple[str, ...], texts: list[str]) -> None:
    """The only change is the blank that is put before a text that begins without one."""
    tokenizer, _ = _built(tmp_path, words, texts)
    for text in ANYTHING:
        decoded = tokenizer.decode(tokenizer.encode(text, add_special_tokens=False))
        assert decoded == (text if text.startswith(" ") else " " + text)


@pytest.mark.parametrize(("words", "texts"), [(WORDS, []), ((), TEXTS)])
def test_a_verdict_is_one_token_at_the_start_and_after_a_blank(
    tmp_path: Path, words: tuple[str, ...], texts: list[str]
) -> None:
    tokenizer, _ = _built(tmp_path, words, texts)
    for verdict in ("yes", "no"):
        (alone,) = tokenizer.encode(verdict, add_special_tokens=False)
        assert tokenizer.encode(f"we : {verdict}", add_special_tokens=False)[-1] == alone


def test_every_word_is_one_token(tmp_path: Path) -> None:
    tokenizer, _ = _built(tmp_path, WORDS, [])
    # 3 special tokens, 256 bytes, 8 words, yes and no
    assert len(tokenizer) == 3 + 256 + 8 + 2
    ids = tokenizer.encode(" ".join(WORDS), add_special_tokens=False)
    assert len(ids) == len(set(ids)) == len(WORDS)


def test_chinese_words_are_one_token_anywhere_and_come_back(tmp_path: Path) -> None:
    """Eight words: 罪名 and 罪 begin alike and the longer one counts, a line break belongs to its tag, and 某 is no word but bytes."""
    words = ("[罪名]", "罪", "罪名", "盗窃", "<answer>\n", "\n</answer>", "<eoa>", ";")
    build_tokenizer(words, (), 300, None, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    text = "<answer>\n[罪名]盗窃;罪名罪<eoa>\n</answer>"
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert [tokenizer.decode([token]) for token in ids] == [
        "<answer>\n", "[罪名]", "盗窃", ";", "罪名", "罪", "<eoa>", "\n</answer>"
    ]  # fmt: skip
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode("某盗窃", add_special_tokens=False)) == "某盗窃"


def test_a_bpe_has_the_size_that_was_asked_for_and_shortens_its_text(tmp_path: Path) -> None:
    tokenizer, _ = _built(tmp_path, (), TEXTS * 5)
    assert 300 < len(tokenizer) <= 400
    assert len(tokenizer.encode(TEXTS[0])) < len(TEXTS[0]) / 2


def test_the_default_template_makes_turns(tmp_path: Path) -> None:
    tokenizer, _ = _built(tmp_path, WORDS, [])
    messages = [{"role": "user", "content": "we could report ?"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|im_start|>user we could report ?<|im_end|><|im_start|>assistant"
    ids = tokenizer.encode(text, add_special_tokens=False)
    # <|im_start|> user we could report ? <|im_end|> <|im_start|> assistant
    assert len(ids) == 9
    assert tokenizer.decode(ids) == "<|im_start|> user we could report ?<|im_end|><|im_start|> assistant"


def test_the_model_folder_describes_a_qwen3(tmp_path: Path) -> None:
    tokenizer, folder = _built(tmp_path, WORDS, [])
    config = AutoConfig.from_pretrained(folder)
    # 269 tokens, rounded up to a multiple of 16; 32 / 4 heads; 3 x 32
    assert (config.model_type, config.vocab_size, config.head_dim, config.intermediate_size) == ("qwen3", 272, 8, 96)
    assert (config.max_position_embeddings, config.tie_word_embeddings) == (77, True)
    assert config.architectures == ["Qwen3ForCausalLM"]
    assert tokenizer.eos_token == END
    assert GenerationConfig.from_pretrained(folder).eos_token_id == tokenizer.eos_token_id == config.eos_token_id
    assert not list(folder.glob("*.safetensors"))


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of the two"):
        build_tokenizer((), [], 400, None, tmp_path)
    with pytest.raises(ValueError, match="'two words' is not one token"):
        build_tokenizer(("two words",), [], 400, None, tmp_path)
    build_tokenizer(WORDS, [], 400, None, tmp_path)
    with pytest.raises(ValueError, match="heads=3"):
        build_model_folder(ModelConfig(hidden_size=32, heads=3), tmp_path, tmp_path / "model")
