"""From characters to tokens: a reward's `LogitQuery` as the ids that the learner scores.

A token belongs to a span where all of its characters lie within it, blanks at its ends aside: " 36" belongs to the span of "36", a
token that holds a sign from beyond the border ("]<") does not. Where a character is several tokens, each of them belongs where the
character does; special tokens belong nowhere. LegalDelta's released code does the same for its answers: they are the tokens strictly
between the marker's "]" and the "<" of the end, alone or fused with its neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config.schema import ModelConfig
from orchestrator.errors import RunError
from orchestrator.learning.rows import Row
from orchestrator.records.canary import rendered
from orchestrator.values import LogitQuery, Turn

Span = tuple[int, int]
"""(start, stop) of characters."""


@dataclass(frozen=True, slots=True)
class Rated:
    """A query in tokens. ids: up to the last that is rated, and of them the last that the context holds. places: positions of the
    rated tokens in `ids`, ascending; empty where the spans hold none. cut: ids that were left out at the beginning."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    cut: int = 0


def read(query: LogitQuery, tokenizer: Any, model: ModelConfig) -> Rated:
    """The tokens of a query. Raises RunError where a turn's ids are not of this tokenizer.

    Words are read apart from what stands before them, as the targets of SFT are.
    """
    if isinstance(query.before, Turn):
        kept = len(query.text) - len(query.words) if query.words else None
        prompt, ids, offsets = _turn(query.before, kept, tokenizer)
    else:
        prompt, ids, offsets = rendered(tokenizer, query.before, model.thinking), (), []
    if query.words:
        begin = max([0, *(stop for _, stop in offsets)])
        further, beyond = _words(query.text[begin:], begin, tokenizer)
        ids, offsets = ids + further, offsets + beyond
    places = [len(prompt) + number for number in within(offsets, query.text, query.spans)]
    if not places:
        return Rated((), ())
    whole = (*prompt, *ids)[: places[-1] + 1]
    cut = max(0, len(whole) - model.context_tokens)
    # A token is rated given the one before it: the first that is left has none.
    return Rated(whole[cut:], tuple(place - cut for place in places if place > cut), cut)


def within(offsets: Sequence[Span], text: str, spans: Sequence[Span]) -> list[int]:
    """Numbers of the tokens that belong to one of the spans. offsets: of each token's characters in `text`."""
    found = []
    for number, (start, stop) in enumerate(offsets):
        begin = max(start, 0)
        piece = text[begin:stop]
        if piece.strip():
            begin, piece = begin + len(piece) - len(piece.lstrip()), piece.strip()
        if piece and any(first <= begin and begin + len(piece) <= last for first, last in spans):
            found.append(number)
    return found


def rows_of(asked: Sequence[Rated]) -> tuple[list[Row], list[list[int]]]:
    """(rows, for each of `asked` the flat indices of its tokens among the rows' targets); one row for all that ask the same."""
    rows: list[Row] = []
    starts: dict[tuple[tuple[int, ...], int], int] = {}
    total, targets = 0, []
    for rated in asked:
        first = rated.places[0] if rated.places else 0
        if rated.places and (rated.ids, first) not in starts:
            starts[rated.ids, first] = total
            learned = len(rated.ids) - first
            rows.append(Row(rated.ids[:first], (rated.ids[first:],), (learned,)))
            total += learned
        targets.append([starts[rated.ids, first] + place - first for place in rated.places])
    return rows, targets


def offsets_of(turn: Turn, tokenizer: Any) -> list[Span]:
    """The characters of each completion id in the turn's text, which has no blanks at its ends: offsets may lie beyond it.

    Raises RunError where the text is not what the ids say.
    """
    from tokenizers.decoders import DecodeStream

    text = tokenizer.decode(turn.completion_ids, skip_special_tokens=True)
    if text.strip() != turn.text:
        raise RunError(
            f"a reward asks for logits of the turn {turn.text[:60]!r}, whose ids the policy's tokenizer reads as "
            f"{text.strip()[:60]!r}: only what the policy itself wrote can be rated."
        )
    stream = DecodeStream(skip_special_tokens=True)
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    place = len(text.lstrip()) - len(text)
    end = place + len(text)
    offsets: list[Span] = []
    waiting: list[int] = []
    for number, token in enumerate(turn.completion_ids):
        offsets.append((place, place if token in special else end))
        piece = None
        if token not in special:
            waiting.append(number)
            piece = stream.step(tokenizer.backend_tokenizer, token)
        if piece is not None:
            # Those before it that were no whole character yet share it; what never becomes one shares the rest of the text.
            for sharer in waiting:
                offsets[sharer] = (place, place + len(piece))
            place, waiting = place + len(piece), []
    return offsets


def _turn(turn: Turn, kept: int | None, tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...], list[Span]]:
    """(prompt ids, completion ids, offsets) of all of a turn, or of the tokens that end within its first `kept` characters."""
    offsets = offsets_of(turn, tokenizer)
    if kept is not None:
        beyond = (number for number, (start, stop) in enumerate(offsets) if stop > kept or start >= kept)
        offsets = offsets[: next(beyond, len(offsets))]
    return turn.prompt_ids, turn.completion_ids[: len(offsets)], offsets


def _words(words: str, begin: int, tokenizer: Any) -> tuple[tuple[int, ...], list[Span]]:
    """(ids, offsets counted from `begin`) of words that no model wrote."""
    encoded = tokenizer(words, add_special_tokens=False, return_offsets_mapping=True)
    offsets = []
    for token, (start, stop) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True):
        # A blank that the tokenizer puts before words claims their first character.
        added = words[start:stop].strip() and tokenizer.decode([token]).isspace()
        offsets.append((begin + start, begin + (start if added else stop)))
    return tuple(encoded["input_ids"]), offsets
