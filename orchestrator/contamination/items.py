"""Items of training and of evaluation data, as what they are compared by: their texts and marks.

A text counts by the letters and digits that it has, after NFKC and in lower case: other blanks, punctuation or line ends are the same
text, another word is another one. A mark is the fingerprint of a whole text: a story, a message, or a paragraph that is long enough to
be one's own.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from orchestrator.values import Message, Task

SHORTEST = 60
"""Letters and digits of a paragraph or message that says where it is from; shorter ones are in everybody's prompts."""
ORIGINS = ("story", "question")
"""Parts of a task's reference that are texts of its data."""
_NO_LETTERS = re.compile(r"[\W_]+")
SHOWN = 80
"""Characters of an item that a report shows."""


@dataclass(frozen=True, slots=True)
class Item:
    """A task, or an example of a lesson.

    group: what is counted once, such as all questions about one story. texts: of training all that is shown or taught, in one; of
    evaluation those of which none may be in training. marks: fingerprints of whole texts. begins: for people.
    """

    id: str
    group: str
    texts: tuple[str, ...]
    marks: frozenset[str]
    begins: str = ""


def bare(text: str) -> str:
    """A text's letters and digits: NFKC, lower case."""
    return _NO_LETTERS.sub("", unicodedata.normalize("NFKC", text).lower())


@lru_cache(maxsize=4096)  # branches of an example, and examples about one prompt, share messages
def fingerprint(text: str) -> str:
    """What texts of the same letters and digits have in common: 16 hexadecimal digits."""
    return hashlib.blake2b(bare(text).encode(), digest_size=8).hexdigest()


def trained_task(task: Task) -> Item:
    """A task that is trained on."""
    text = "\n".join([_prompt(task.messages), *_origins(task)])
    marks = of_messages(task.messages) | of_data(task) | {fingerprint(_prompt(task.messages))}
    return Item(task.id, _group(task), (text,), frozenset(marks), _begins(task))


def asked_task(task: Task) -> Item:
    """A task of an evaluation: its story, if it is long enough, and its story and question; without either its prompt."""
    story, question = _origins(task)
    if bare(story + question):
        texts = (*([story] if len(bare(story)) >= SHORTEST else []), f"{story}\n{question}")
        return Item(task.id, _group(task), texts, frozenset(of_data(task)), _begins(task))
    prompt = _prompt(task.messages)
    return Item(task.id, _group(task), (prompt,), frozenset({fingerprint(prompt)}), _begins(task))


def taught_examples(examples: Sequence[Any]) -> list[Item]:
    """The examples of a lesson, by their number. Their groups count, unless all are of one, which tells nothing."""
    items = [_taught(number, example) for number, example in enumerate(examples)]
    if len({item.group for item in items}) > 1:
        return items
    return [replace(item, group=fingerprint(item.texts[0])) for item in items]


def _taught(number: int, example: Any) -> Item:
    """An example: the prompts of its branches, and the answers with them."""
    branches = getattr(example, "branches", None) or [
        getattr(example, name) for name in ("better", "worse", "branch") if hasattr(example, name)
    ]
    prompts = list(dict.fromkeys(_prompt(branch.messages) for branch in branches))
    answers = [{"role": "assistant", "content": branch.target} for branch in branches]
    marks = of_messages([*(message for branch in branches for message in branch.messages), *answers])
    marks |= {fingerprint(prompt) for prompt in prompts}
    text = "\n".join(dict.fromkeys([*prompts, *(branch.target for branch in branches)]))
    return Item(str(number), str(example.group), (text,), frozenset(marks), _beginning(text))


def of_messages(messages: Iterable[Message]) -> set[str]:
    """Marks of every message that a model was given or taught, and of every paragraph of it, with and without a first line that may be
    a heading, where they are long enough. System prompts are shared by all tasks, and left out."""
    texts = [message["content"] for message in messages if message["role"] != "system"]
    paragraphs = [part for text in texts for part in re.split(r"\n\s*\n", text)]
    return _long_enough((*texts, *paragraphs, *(part.partition("\n")[2] for part in paragraphs)))


def of_data(task: Task) -> set[str]:
    """Marks of the story, and of story and question together, that a task's reference names. A short one counts with its question
    alone: many stories may begin and end in one sentence."""
    story, question = _origins(task)
    found = _long_enough([story])
    return found | ({fingerprint(story + question)} if bare(story + question) else set())


def _long_enough(texts: Iterable[str]) -> set[str]:
    return {fingerprint(text) for text in dict.fromkeys(texts) if len(text) >= SHORTEST and len(bare(text)) >= SHORTEST}


def _origins(task: Task) -> list[str]:
    return [str(task.reference.get(name) or "") for name in ORIGINS]


def _prompt(messages: Sequence[Message]) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] != "system")


def _group(task: Task) -> str:
    """The story; without one the whole task, whose prompt may be that of tasks with other references."""
    story = bare(_origins(task)[0])
    return fingerprint(story or json.dumps([_prompt(task.messages), dict(task.reference)], default=str))


def _begins(task: Task) -> str:
    return (
        "(restricted)"
        if task.restricted
        else _beginning(" ".join(filter(None, _origins(task))) or _prompt(task.messages))
    )


def _beginning(text: str) -> str:
    return " ".join(text.split())[:SHOWN]
