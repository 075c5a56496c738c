"""What a model's folder is recognised by: the file, and the digests of a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RunError
from orchestrator.learning.tokenizer import CHAT_TEMPLATE, build_tokenizer
from orchestrator.records.canary import CANARY, Canary, Case, digests_of, read_canary, rendered, write_canary

# Every bit of a float counts, a text may be a number's name, and a chat of several turns is not known.
CASES = (
    Case(({"role": "user", "content": "NaN"},), (1, 2, 3), (4, 5), (-0.1, -1.2345678901234567)),
    Case(None, (7,), (8,), (-3e-9,)),
    Case(({"role": "system", "content": "é"}, {"role": "user", "content": ""}), (1,), (2, 3), (), (0.25, -4.0)),
)
WRITTEN = Canary("bfloat16", True, CASES, "aa", "bb")


def built(folder: Path, words: tuple[str, ...] = ("we", "could"), template: str | None = None) -> Any:
    from transformers import AutoTokenizer

    build_tokenizer(words, (), 400, template, folder)
    return AutoTokenizer.from_pretrained(folder)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_canary(tmp_path, WRITTEN)
    assert read_canary(tmp_path) == WRITTEN
    assert [path.name for path in tmp_path.iterdir()] == [CANARY]


def test_a_folder_without_one_has_none(tmp_path: Path) -> None:
    assert read_canary(tmp_path) is None


def test_what_is_expected_of_a_case() -> None:
    """Scores of a sequence classifier take the place of log-probabilities."""
    assert [case.expected for case in CASES] == [(-0.1, -1.2345678901234567), (-3e-9,), (0.25, -4.0)]


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 1}', '{"format": 1, "cases": [3]}', '{"format": 1, "cases": []}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / CANARY).write_text(text)
    with pytest.raises(RunError, match=rf"{CANARY}: cannot be read .*another checkpoint"):
        read_canary(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    write_canary(tmp_path, WRITTEN)
    content = json.loads((tmp_path / CANARY).read_text())
    assert content["format"] == 1
    (tmp_path / CANARY).write_text(json.dumps(content | {"format": 2, "signature": "of what is to come"}))
    with pytest.raises(RunError, match=rf"{CANARY} has format 2, this version reads up to 1"):
        read_canary(tmp_path)


def test_digests_tell_tokenizers_and_templates_apart(tmp_path: Path) -> None:
    """One word more, or one character of the template: exactly one of the two digests is another one."""
    tokenizer, template = digests_of(built(tmp_path / "a"))
    assert digests_of(built(tmp_path / "same")) == (tokenizer, template)
    assert all(len(digest) == 64 and int(digest, 16) for digest in (tokenizer, template))
    more_words = digests_of(built(tmp_path / "word", ("we", "could", "not")))
    assert (more_words[0] != tokenizer, more_words[1]) == (True, template)
    other_words = digests_of(built(tmp_path / "other", ("we", "would")))
    assert (other_words[0] != tokenizer, other_words[1]) == (True, template)
    blank_more = digests_of(built(tmp_path / "template", template=CHAT_TEMPLATE + " "))
    assert (blank_more[0], blank_more[1] != template) == (tokenizer, True)


def test_the_end_of_a_text_is_part_of_the_tokenizer(tmp_path: Path) -> None:
    tokenizer = built(tmp_path)
    before = digests_of(tokenizer)
    tokenizer.eos_token = tokenizer.pad_token
    assert digests_of(tokenizer)[0] != before[0]


def test_what_a_call_asked_for_is_not_part_of_the_tokenizer(tmp_path: Path) -> None:
    """Padding and truncation stay set in the tokenizer after a call that wanted them."""
    tokenizer = built(tmp_path)
    before = digests_of(tokenizer)
    tokenizer(["we", "we could"], padding=True, truncation=True, max_length=3)
    assert json.loads(tokenizer.backend_tokenizer.to_str())["padding"]
    assert digests_of(tokenizer) == before


# Each word and each sign of the template is one token here.
def test_a_chat_is_rendered_as_a_server_renders_it(tmp_path: Path) -> None:
    tokenizer = built(tmp_path, ("we", "user", "assistant"))
    ids = rendered(tokenizer, ({"role": "user", "content": "we"},), False)
    assert tokenizer.convert_ids_to_tokens(list(ids)) == [
        "<|im_start|>", "Ġuser", "Ġwe", "<|im_end|>", "<|im_start|>", "Ġassistant",
    ]  # fmt: skip
