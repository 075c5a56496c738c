"""What a model was trained on, as fingerprints of texts in its run's folder, and which tasks of an evaluation they touch.

A text counts by the letters and digits that it has, after NFKC and in lower case: other blanks, punctuation or line ends are the same
text, another word is another one. What is compared is a story, a whole message, or a paragraph that is long enough to be one's own.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.own_code import own_code
from orchestrator.config.references import ModelReference, find_run
from orchestrator.config.schema import RunConfig
from orchestrator.records.folder import RunFolder, read_json, write_json
from orchestrator.values import Message, Task

SHORTEST = 60
"""Letters and digits of a paragraph or message that says where it is from; shorter ones are in everybody's prompts."""
ORIGINS = ("story", "question")
"""Parts of a task's reference that are texts of its data."""


@dataclass(frozen=True, slots=True)
class Touched:
    """How many of a part's items a run was trained on. run: the one that was."""

    items: int
    of: int
    run: str


def bare(text: str) -> str:
    """A text's letters and digits: NFKC, lower case."""
    return "".join(char for char in unicodedata.normalize("NFKC", text).lower() if char.isalnum())


def fingerprint(text: str) -> str:
    """What texts of the same letters and digits have in common: 16 hexadecimal digits."""
    return hashlib.blake2b(bare(text).encode(), digest_size=8).hexdigest()


def of_messages(messages: Iterable[Message]) -> set[str]:
    """Of every message that a model was given or taught, and of every paragraph of it, with and without a first line that may be a
    heading, where they are long enough. System prompts are shared by all tasks, and left out."""
    texts = [message["content"] for message in messages if message["role"] != "system"]
    paragraphs = [part for text in texts for part in re.split(r"\n\s*\n", text)]
    return _long_enough((*texts, *paragraphs, *(part.partition("\n")[2] for part in paragraphs)))


def of_task(task: Task) -> set[str]:
    """Of a task's prompt, and of the story and the question of its reference."""
    return of_messages(task.messages) | of_data(task)


def of_data(task: Task) -> set[str]:
    """Of the story, and of story and question together, that a task's reference names. A short one counts with its question alone:
    many stories may begin and end in one sentence."""
    story, question = (str(task.reference.get(name) or "") for name in ORIGINS)
    found = _long_enough([story])
    return found | ({fingerprint(story + question)} if bare(story + question) else set())


def _long_enough(texts: Iterable[str]) -> set[str]:
    return {fingerprint(text) for text in texts if len(bare(text)) >= SHORTEST}


def keep(folder: RunFolder, config: RunConfig, workload: Any, taught: Collection[str], begun_from: Path | None) -> None:
    """Write what a run is about to be trained on, and what the runs were that its models come from.

    taught: the roles whose lessons are taught, now or before. begun_from: the folder of the run of whose checkpoint it is a fork or a
    continuation.
    """
    with own_code("the workload's tasks() and lessons()", workload):
        tasks: Sequence[Task] = workload.tasks("train") if config.steps and config.learns else ()
        lessons = [lesson for lesson in workload.lessons() if lesson.role in taught]
    found = {mark for task in tasks for mark in of_task(task)}
    for example in (example for lesson in lessons for example in lesson.examples()):
        found |= _of_example(example)
    before: dict[str, Any] = {}
    for source in _sources(config, begun_from):
        before |= read(source)["runs"] if source.trained_on.is_file() else {_name(source): None}
    write_json(folder.trained_on, {"runs": before | {_name(folder): sorted(found)}})


def _of_example(example: Any) -> set[str]:
    """Of all that a lesson shows: the prompts, and the answers with them."""
    found: set[str] = set()
    branches = getattr(example, "branches", None) or [
        getattr(example, name) for name in ("better", "worse", "branch") if hasattr(example, name)
    ]
    for branch in branches:
        found |= of_messages([*branch.messages, {"role": "assistant", "content": branch.target}])
    return found


def _sources(config: RunConfig, begun_from: Path | None) -> Iterator[RunFolder]:
    """The runs that the models of a run come from: also what rates answers hands on what it was trained on."""
    if begun_from:
        yield RunFolder(begun_from)
    for role in config.roles().values():
        reference = ModelReference.parse(role.name)
        if reference.kind == "run":
            yield RunFolder(find_run(reference.value, config.storage))


def _name(folder: RunFolder) -> str:
    return f"{folder.workload}/{folder.name}"


def read(folder: RunFolder) -> dict[str, Any]:
    """What `keep` wrote. runs: by name the fingerprints of what each was trained on, null where that is not known."""
    return read_json(folder.trained_on)


def touched(model: str, storage: str | Path, parts: Mapping[str, Sequence[Task]]) -> dict[str, Touched] | None:
    """The parts of which the model of a run was trained on any item; None where nobody knows: it is no run's, or of one before which
    nothing was recorded.

    parts: tasks by part; those of one item have its id in `reference["item"]`. Raises ConfigError where the run is not there.
    """
    reference = ModelReference.parse(model)
    if reference.kind != "run":
        return None
    folder = RunFolder(find_run(reference.value, storage))
    if not folder.trained_on.is_file():
        return None
    runs = read(folder)["runs"]
    known = {run: set(marks) for run, marks in runs.items() if marks is not None}
    found: dict[str, Touched] = {}
    for part, tasks in parts.items():
        marks = {str(task.reference["item"]): of_data(task) for task in tasks}
        hits = {run: sum(bool(mine & seen) for mine in marks.values()) for run, seen in known.items()}
        run = max(hits, key=lambda name: hits[name], default="")
        if run and hits[run]:
            seen = set().union(*known.values())
            found[part] = Touched(sum(bool(mine & seen) for mine in marks.values()), len(marks), run)
    if not found and len(known) < len(runs):
        return None
    return found
