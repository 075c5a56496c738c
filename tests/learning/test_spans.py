"""From characters to tokens, with both kinds of tokenizer that are built on the spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from orchestrator.config.schema import ModelConfig
from orchestrator.errors import RunError
from orchestrator.learning.spans import Rated, offsets_of, read, rows_of, within
from orchestrator.learning.tokenizer import END, build_tokenizer
from orchestrator.values import LogitQuery, Turn

WORDS = ("so", "of", "36", "m", "[", "]", "<eoa>", "<answer>", "</answer>")
TEXTS = ["so [刑期]36月<eoa> 被告人盗窃财物。a[b]<eoa>" * 30]
MODEL = ModelConfig(context_tokens=64)
CHAT = ({"role": "user", "content": "so ?"},)


@pytest.fixture(scope="module")
def word_level(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return built(tmp_path_factory.mktemp("words"), WORDS, ())


@pytest.fixture(scope="module")
def byte_pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return built(tmp_path_factory.mktemp("pairs"), (), TEXTS)


def built(folder: Path, words: Any, texts: Any) -> Any:
    build_tokenizer(words, texts, 320, None, folder)
    return AutoTokenizer.from_pretrained(folder)


def turn_of(tokenizer: Any, ids: list[int], prompt: tuple[int, ...] = (5, 6)) -> Turn:
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return Turn("policy", prompt, tuple(ids), (-1.0,) * len(ids), text, "stop", 1.0, 0, 0)


def encoded(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def span_of(text: str, part: str) -> tuple[int, int]:
    return text.index(part), text.index(part) + len(part)


def rated_text(rated: Rated, tokenizer: Any) -> list[str]:
    return [tokenizer.decode([rated.ids[place]]) for place in rated.places]


def test_words_with_their_blanks_belong_to_the_span_of_the_words(word_level: Any) -> None:
    """Eight tokens and the end: "<answer>", " [", " of", " ]", " 36", " m", "<eoa>", "</answer>"; the text begins at its "<"."""
    ids = [*encoded(word_level, "<answer> [ of ] 36 m <eoa> </answer>"), word_level.eos_token_id]
    assert len(ids) == 9
    turn = turn_of(word_level, ids)
    assert turn.text == "<answer> [ of ] 36 m<eoa></answer>"
    assert offsets_of(turn, word_level) == [
        (0, 8), (8, 10), (10, 13), (13, 15), (15, 18), (18, 20), (20, 25), (25, 34), (34, 34),
    ]  # fmt: skip
    query = LogitQuery(turn, (span_of(turn.text, "36 m"),))
    # Behind a prompt of two: tokens 4 and 5, and nothing after them is read.
    assert read(query, word_level, MODEL) == Rated((5, 6, *ids[:6]), (6, 7))


def test_chinese_words_stand_side_by_side(tmp_path: Path) -> None:
    """Six words of a closed vocabulary and the end: [刑期] 0-4, 36 4-6, 月 6-7, <eoa> 7-12, ; 12-13, 无期 13-15."""
    tokenizer = built(tmp_path, ("[刑期]", "36", "月", "<eoa>", ";", "无期"), ())
    ids = [*encoded(tokenizer, "[刑期]36月<eoa>;无期"), tokenizer.eos_token_id]
    assert len(ids) == 7
    turn = turn_of(tokenizer, ids)
    assert offsets_of(turn, tokenizer) == [(0, 4), (4, 6), (6, 7), (7, 12), (12, 13), (13, 15), (15, 15)]
    assert read(LogitQuery(turn, (span_of(turn.text, "36"),)), tokenizer, MODEL) == Rated((5, 6, *ids[:2]), (3,))


def test_of_a_character_of_several_tokens_all_belong_where_it_does(byte_pairs: Any) -> None:
    """罕 is three bytes that no merge joins, each a token."""
    ids = encoded(byte_pairs, "[刑期]罕36")
    turn = turn_of(byte_pairs, ids)
    query = LogitQuery(turn, (span_of(turn.text, "罕"),))
    rated = read(query, byte_pairs, MODEL)
    assert len(rated.places) == 3
    assert byte_pairs.decode([rated.ids[place] for place in rated.places]) == "罕"


def test_a_token_that_straddles_the_border_belongs_to_neither_side(byte_pairs: Any) -> None:
    """BPE fused "]<": an answer "b]" loses its sign to it, as between the markers of LegalDelta's code."""
    ids = encoded(byte_pairs, "a[b]<eoa>")
    turn = turn_of(byte_pairs, ids)
    assert "]<" in [byte_pairs.decode([token]) for token in ids]
    rated = read(LogitQuery(turn, (span_of(turn.text, "b]"),)), byte_pairs, MODEL)
    assert rated_text(rated, byte_pairs) == ["b"]
    assert read(LogitQuery(turn, (span_of(turn.text, "]"),)), byte_pairs, MODEL) == Rated((), ())


def test_spans_with_a_gap_leave_out_what_lies_between(word_level: Any) -> None:
    turn = turn_of(word_level, encoded(word_level, "so 36 m 36"))
    # "so" 0-2, "36" 3-5, "m" 6-7, "36" 8-10
    rated = read(LogitQuery(turn, ((3, 5), (8, 10))), word_level, MODEL)
    assert rated.places == (3, 5)
    assert rated_text(rated, word_level) == [" 36", " 36"]


def test_special_tokens_have_no_characters_and_broken_ones_share(byte_pairs: Any) -> None:
    """An end in the middle; then two of the three bytes of a character, which are read as one U+FFFD."""
    end, broken = byte_pairs.convert_tokens_to_ids(END), encoded(byte_pairs, "罕")[-3:-1]
    ids = [*encoded(byte_pairs, "so"), end, *encoded(byte_pairs, "[刑期]"), *broken]
    turn = turn_of(byte_pairs, ids)
    offsets = offsets_of(turn, byte_pairs)
    assert turn.text == "so [刑期]\ufffd"
    assert offsets[ids.index(end)] == (2, 2)
    assert offsets[-2:] == [(7, 8), (7, 8)]
    assert ids.index(end) not in within(offsets, turn.text, ((0, 8),))


@pytest.mark.parametrize("kind", ["word_level", "byte_pairs"])
def test_words_follow_messages_as_a_target_of_sft_does(kind: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(kind)
    words = "<answer> [ of ] 36 m <eoa>"
    rated = read(LogitQuery(CHAT, (span_of(words, "36"),), words), tokenizer, MODEL)
    prompt = tokenizer.apply_chat_template(list(CHAT), add_generation_prompt=True, return_dict=True)["input_ids"]
    whole = [*prompt, *encoded(tokenizer, words)]
    assert list(rated.ids) == whole[: len(rated.ids)]
    assert "".join(rated_text(rated, tokenizer)).strip() == "36"
    assert rated.places[-1] == len(rated.ids) - 1


def test_a_blank_that_the_tokenizer_adds_is_not_rated(byte_pairs: Any) -> None:
    """ "<eoa>" is read as " ", "<", "eoa", ">"."""
    assert rated_text(read(LogitQuery(CHAT, ((0, 1),), "<eoa>"), byte_pairs, MODEL), byte_pairs) == ["<"]


def test_other_words_replace_what_stands_behind_a_cut(word_level: Any) -> None:
    """All whole tokens before the cut stay as they were generated; the end of the text behind them does not."""
    ids = [*encoded(word_level, "so [ of ] 36 m <eoa>"), word_level.eos_token_id]
    turn = turn_of(word_level, ids)
    kept = span_of(turn.text, "]")[1]
    query = LogitQuery(turn, ((kept + 1, kept + 3),), " m <eoa>", kept)
    assert query.text[kept + 1 : kept + 2] == "m"
    assert read(query, word_level, MODEL) == Rated((5, 6, *ids[:4], *encoded(word_level, "m")), (6,))
    # Nothing left out: the words follow the text, not its end token.
    all_of_it = read(LogitQuery(turn, ((len(turn.text), len(turn.text) + 2),), "36"), word_level, MODEL)
    assert all_of_it == Rated((5, 6, *ids[:-1], *encoded(word_level, "36")), (9,))


def test_what_a_cut_leaves_of_a_token_is_read_anew(byte_pairs: Any) -> None:
    """The cut is within "]<": "]" is read with the words, and may be rated."""
    turn = turn_of(byte_pairs, encoded(byte_pairs, "a[b]<eoa>"))
    kept = turn.text.index("]") + 1
    rated = read(LogitQuery(turn, ((kept - 1, kept),), "36", kept), byte_pairs, MODEL)
    assert rated_text(rated, byte_pairs) == ["]"]
    assert byte_pairs.decode(rated.ids[2:]).split() == ["a[b", "]"]


def test_a_prompt_beyond_the_context_loses_its_beginning(word_level: Any) -> None:
    """Three tokens behind a prompt of ten in a context of eight: five are left out, and said to be."""
    ids = encoded(word_level, "so 36 m")
    turn = turn_of(word_level, ids, tuple(range(10, 20)))
    rated = read(LogitQuery(turn, ((3, 7),)), word_level, ModelConfig(context_tokens=8))
    assert rated == Rated((15, 16, 17, 18, 19, *ids), (6, 7), 5)


def test_a_turn_of_another_tokenizer_is_refused(word_level: Any, byte_pairs: Any) -> None:
    turn = turn_of(byte_pairs, encoded(byte_pairs, "so [刑期]36"))
    with pytest.raises(RunError, match="only what the policy itself wrote"):
        read(LogitQuery(turn, ((0, 2),)), word_level, MODEL)


@pytest.mark.parametrize(
    ("spans", "words", "kept"),
    [(((0, 4),), "abc", None), (((2, 1),), "abc", None), (((-1, 1),), "abc", None), ((), "abc", 1), ((), "", 0)],
)
def test_spans_outside_of_the_text_are_refused(spans: Any, words: str, kept: int | None) -> None:
    with pytest.raises(ValueError, match=r"outside|generated characters"):
        LogitQuery(CHAT, spans, words, kept)


def test_what_asks_the_same_is_one_row() -> None:
    """Three questions, two rows of three and two targets; the third asks for the first one's tokens again, without the middle."""
    first, other = Rated((1, 2, 3, 4), (1, 2, 3)), Rated((9, 8, 7), (1, 2))
    again, nothing = Rated((1, 2, 3, 4), (1, 3)), Rated((), ())
    rows, targets = rows_of([first, nothing, other, first, again])
    assert [(row.prefix, row.branches, row.learned) for row in rows] == [
        ((1,), ((2, 3, 4),), (3,)),
        ((9,), ((8, 7),), (2,)),
    ]
    assert targets == [[0, 1, 2], [], [3, 4], [0, 1, 2], [0, 2]]
