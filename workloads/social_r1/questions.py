"""One question about a story with lettered options, and how a row of a table becomes one.

Columns are known by their letters alone, whatever their case and signs: `OPTION-A`, `option_a` and `Option A` are one name, and of
`故事 STORY` the Latin word counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.data.tables import Row
from orchestrator.values import stable_hash
from workloads.social_r1.prompts import LETTERS

STORY = ("story", "context", "scenario", "passage", "narrative")
QUESTION = ("question", "query")
OPTIONS = ("options", "choices", "candidates", "candidateanswers")
ANSWER = ("answer", "answerletter", "correctanswer", "correct", "gold", "label", "groundtruth")
ABILITY = ("ability", "dimension", "category", "task")
GROUP = ("group", "pair", "storyid")
ID = ("id", "qid", "uid", "index")
_LETTERED = re.compile(r"(?:option|choice|answer)?([a-z])")
_PREFIX = re.compile(r"^\s*\(?([A-Z])[.):]\s*")
_LETTER = re.compile(r"[\s\[(]*([A-Za-z])[\s\]).:]*")


@dataclass(frozen=True, slots=True)
class Question:
    """group: what is held out together (a story, a pair of twins). options: in their order; answer: the right one's index. twin: of
    the miniature, whether it is the adversarial one of its pair. where: for people, the file and the row."""

    id: str
    group: str
    story: str
    question: str
    options: tuple[str, ...]
    answer: int
    ability: str = ""
    order: int | None = None
    twin: bool = False
    where: str = ""

    @property
    def letter(self) -> str:
        """Of the right option."""
        return LETTERS[self.answer]


def same_story(story: str) -> str:
    """What two stories have in common that are the same but for blanks and case."""
    return " ".join(story.split()).casefold()


def question_of(row: Row) -> Question:
    """The question of one row. Raises DataError, which names row and field."""
    fields = {name: column for column in row.values if (name := re.sub(r"[^a-z]", "", column.lower()))}
    story, question = _text(row, fields, STORY, "story"), _text(row, fields, QUESTION, "question")
    options = _options(row, fields)
    identifier, ability = _first(row, fields, ID), _first(row, fields, ABILITY)
    if _absent(identifier):
        identifier = f"{stable_hash(story, question, *options):016x}"
    group = _first(row, fields, GROUP)
    return Question(
        str(identifier).strip(),
        same_story(story) if _absent(group) else str(group).strip(),
        story,
        question,
        options,
        _answer(row, fields, options),
        "" if _absent(ability) else str(ability).strip(),
        where=row.where,
    )


def _first(row: Row, fields: Mapping[str, str], names: Sequence[str]) -> Any:
    """The value of the first of these columns that is there; None where none is."""
    return next((row.values[fields[name]] for name in names if name in fields), None)


def _text(row: Row, fields: Mapping[str, str], names: Sequence[str], what: str) -> str:
    value = _first(row, fields, names)
    if value is None:
        there = ", ".join(map(repr, row.values)) or "none"
        raise row.error(f"field {what!r} is missing (there: {there}): name a column one of {', '.join(names)}.")
    if not isinstance(value, str) or not value.strip():
        raise row.error(f"field {what!r} is {value!r:.60}: it must be a text that is not empty.")
    return value.strip()


def _options(row: Row, fields: Mapping[str, str]) -> tuple[str, ...]:
    """A list (or its JSON), {"text": [...]}, {"A": ...}, or a column an option."""
    given = _first(row, fields, OPTIONS)
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            raise row.error(f"field 'options' is {given!r:.60}: it must be a list, in a CSV one as JSON.") from None
    if isinstance(given, Mapping):
        given = given["text"] if "text" in given else [given[letter] for letter in sorted(given)]
    if given is None:
        lettered = {match[1]: column for name, column in fields.items() if (match := _LETTERED.fullmatch(name))}
        given = [row.values[lettered[letter]] for letter in sorted(lettered)]
    if not isinstance(given, list):
        raise row.error(f"field 'options' is {given!r:.60}: it must be a list of texts.")
    texts = ["" if _absent(option) else _option(str(option)) for option in given]
    options = [text for text in texts if text]
    # A gap would give the options after it other letters.
    gap = texts[: len(options)] != options
    if gap or len(options) < 2 or len(set(options)) < len(options) or len(options) > len(LETTERS):
        raise row.error(
            f"field 'options' has {texts!r:.120}: give two different texts at least, without gaps, as `options` or as OPTION-A, "
            "OPTION-B, ..."
        )
    return tuple(options)


def _absent(value: Any) -> bool:
    """Cells that are empty; two-option rows of four-option tables hold NaN or nothing."""
    return value is None or str(value).strip().lower() in ("", "nan")


def _option(text: str) -> str:
    """The option without its letter."""
    return _PREFIX.sub("", text).strip()


def _answer(row: Row, fields: Mapping[str, str], options: Sequence[str]) -> int:
    """The index of the right option, which a letter or the option's text names."""
    given = _first(row, fields, ANSWER)
    folded = [option.casefold() for option in options]
    text = _option(str(given)).casefold()
    if given is not None and text in folded:
        return folded.index(text)
    letter = _LETTER.fullmatch(str(given)) if given is not None else None
    if letter and (index := LETTERS.index(letter[1].upper())) < len(options):
        return index
    shown = "missing" if given is None else f"{given!r:.60}"
    raise row.error(
        f"field 'answer' is {shown}: it must be a letter from A to {LETTERS[len(options) - 1]}, or the text of an option."
    )
