"""A user's own prompts as tasks: which fields are read, who is held out, and what is refused.

A row has a prompt (`prompt`, a text, or `messages`, a list of {role, content}), and may have `id`, `split` (train, or eval, test,
validation, valid, val, dev, which all mean held out), `restricted`, a reference answer and any further fields: scoring finds them in
`Task.reference["row"]`, and the row's place in the file in `Task.reference["where"]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.schema import DataConfig
from orchestrator.config.settings import setting
from orchestrator.data.tables import HUB, Row, hub_rows, read_rows
from orchestrator.errors import ConfigError, DataError
from orchestrator.values import Message, Task, stable_hash

SPLITS = {"train": "train", "training": "train"} | dict.fromkeys(
    ("eval", "evaluation", "test", "validation", "valid", "val", "dev"), "eval"
)
"""Values of a column `split`, in any case, and the split that each means."""
ROLES = ("system", "user", "assistant")


@dataclass
class TableConfig(DataConfig):
    """A table of prompts: one's own file, or a data set of the Hugging Face hub."""

    source: str = setting("table", "A table of prompts, a row a prompt.", choices=("table",))
    path: str | None = setting(None, "FILE.jsonl, FILE.csv, FILE.parquet (all UTF-8), or hf:ORG/NAME.", file=True)
    train_groups: int = setting(1_000_000, "Most prompts (or groups of them) to train on.", low=1)
    eval_groups: int = setting(256, "Most prompts (or groups of them) to evaluate on.", low=1)
    prompt_field: str = setting("prompt", "Field of the prompt's text. A row may have `messages` instead.")
    answer_field: str = setting("answer", "Field of a reference answer, or a list of them; a row needs none.")
    system: str | None = setting(None, "System prompt of all rows whose messages have none of their own.")
    group_field: str | None = setting(
        None, "Field whose values are held out as a whole (an author, a topic); by default each prompt is on its own."
    )
    eval_share: float = setting(
        0.1,
        "Share of groups that is held out where the rows have no field `split`: those with the smallest hashes of data.seed and "
        "group, at least one.",
        low=0.001,
        high=0.999,
    )
    restricted: bool = setting(
        False,
        "The source forbids passing the texts on: they are redacted in whatever may leave the run's folder. A row's field `restricted` "
        "says it of that row.",
    )
    hub_config: str = setting("default", "hf: data sets: the configuration.")
    hub_split: str = setting("train", "hf: data sets: the split that is read.")
    hub_eval_split: str | None = setting(
        None, "hf: data sets: a split that is held out whole (by default a share of hub_split)."
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """A row that was read. group: what is held out together. split: what the row says, None where it says nothing."""

    row: Row
    task: Task
    group: str
    split: str | None

    @property
    def where(self) -> str:
        return self.row.where


def tasks_of(data: TableConfig) -> dict[str, list[Task]]:
    """The tasks of both splits, "train" and "eval", in the order of the rows.

    Raises DataError, which names row and field, for a row without a prompt, an id or a row that comes twice, a prompt or a group on
    both sides, or sides that are empty.
    """
    asked = [_asked(row, data) for row in rows_of(data)]
    _refuse_repeated(asked)
    sides = _sides(asked, data)
    _refuse_leaks(sides, data)
    limits = {"train": data.train_groups, "eval": data.eval_groups}
    return {split: [item.task for item in _at_most(items, limits[split], data)] for split, items in sides.items()}


def rows_of(data: TableConfig) -> list[Row]:
    """All rows; those of `hub_eval_split` with a field `split`. Raises DataError."""
    if data.path is None:
        raise ConfigError(
            "data.path is not set: give your prompts as FILE.jsonl, FILE.csv, FILE.parquet or hf:ORG/NAME."
        )
    if not data.path.startswith(HUB):
        return read_rows(Path(data.path).expanduser())
    name = data.path.removeprefix(HUB)
    if data.hub_eval_split is None:
        return hub_rows(name, data.hub_config, data.hub_split)
    return [
        Row(row.where, {**row.values, "split": side})
        for side, split in (("train", data.hub_split), ("eval", data.hub_eval_split))
        for row in hub_rows(name, data.hub_config, split)
    ]


def task_of(row: Row, data: TableConfig) -> Task:
    """The task of one row. Without an `id` it is named by its content. Raises DataError."""
    messages = _messages(row, data)
    kept = {
        name: value
        for name, value in row.values.items()
        if name not in ("id", "split", "restricted", "messages", data.prompt_field)
    }
    # Plain data whatever the file's types were (Parquet has dates and decimals).
    kept = json.loads(json.dumps(kept, ensure_ascii=False, default=str))
    identifier = row.values.get("id")
    if identifier is None:
        content = json.dumps([[dict(message) for message in messages], kept], ensure_ascii=False, sort_keys=True)
        identifier = f"{stable_hash(content):016x}"
    elif isinstance(identifier, bool) or not isinstance(identifier, (str, int)) or not str(identifier).strip():
        raise row.error(f"field 'id' is {identifier!r}: give a text or a whole number, or leave the field out.")
    restricted = data.restricted or ("restricted" in row.values and row.flag("restricted"))
    return Task(str(identifier).strip(), messages, {"row": kept, "where": row.where}, restricted)


def answers_of(task: Task, data: TableConfig) -> list[str]:
    """The reference answers of a task's row, none where it has none. Raises DataError."""
    given = task.reference["row"].get(data.answer_field, [])
    answers = [given] if isinstance(given, str) else given
    if not isinstance(answers, list) or not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise DataError(
            f"{task.reference['where']}: field {data.answer_field!r} is {_shown(given)}: give a text that is not empty, a list of "
            "such texts, or leave the field out."
        )
    return answers


def structured(row: Row, name: str) -> Any:
    """A field that holds a list or a mapping; a text (the cell of a CSV) is read as JSON. Raises DataError."""
    value = row.values[name]
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise row.error(f"field {name!r} is a text that is not JSON ({error}): write it as JSON.") from error


def as_text(messages: Sequence[Message]) -> str:
    """A prompt as one text, for whoever reads it from outside: a single message as it stands, several with their roles."""
    if len(messages) == 1:
        return messages[0]["content"]
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


def same_prompt(messages: Sequence[Message]) -> str:
    """What two prompts have in common that are the same but for blanks, line ends, case and system prompt."""
    return " ".join(as_text([message for message in messages if message["role"] != "system"]).split()).casefold()


def _messages(row: Row, data: TableConfig) -> tuple[Message, ...]:
    field = data.prompt_field
    if "messages" in row.values and field in row.values:
        raise row.error(f"fields {field!r} and 'messages' are both there: leave one out.")
    if "messages" in row.values:
        messages = _chat(row, structured(row, "messages"))
    else:
        if field not in row.values:
            raise row.error(
                f"field {field!r} is missing (there: {', '.join(row.values) or 'none'}): add it, or 'messages', or name the field of "
                "the prompt with data.prompt_field."
            )
        text = row.values[field]
        if not isinstance(text, str) or not text.strip():
            raise row.error(f"field {field!r} is {_shown(text)}: it must be a text that is not empty.")
        messages = [{"role": "user", "content": text}]
    if data.system and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": data.system}, *messages]
    return tuple(messages)


def _chat(row: Row, given: Any) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise row.error(f"field 'messages' is {_shown(given)}: it must be a list of {{role, content}}.")
    messages: list[Message] = []
    for number, message in enumerate(given):
        place = f"field 'messages[{number}]"
        if not isinstance(message, Mapping):
            raise row.error(f"{place}' is {_shown(message)}: it must be {{role, content}}.")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise row.error(f"{place}.role' is {_shown(role)}: it must be one of {', '.join(ROLES)}.")
        if not isinstance(content, str) or not content.strip():
            raise row.error(f"{place}.content' is {_shown(content)}: it must be a text that is not empty.")
        messages.append({"role": role, "content": content})
    if messages[-1]["role"] != "user":
        raise row.error(
            f"field 'messages' ends with a message of the {messages[-1]['role']}: it must end with the user's, which the policy "
            "answers. A reference answer has a field of its own (data.answer_field)."
        )
    return messages


def _asked(row: Row, data: TableConfig) -> _Asked:
    task = task_of(row, data)
    group = same_prompt(task.messages)
    if data.group_field is not None:
        if data.group_field not in row.values:
            raise row.error(
                f"field {data.group_field!r} is missing, and data.group_field names it: every row needs its group."
            )
        group = str(row.values[data.group_field])
    said = row.values.get("split")
    split = None if said is None else SPLITS.get(str(said).strip().lower())
    if said is not None and split is None:
        raise row.error(f"field 'split' is {_shown(said)}: it must be one of {', '.join(SPLITS)}.")
    return _Asked(row, task, group, split)


def _refuse_repeated(asked: Iterable[_Asked]) -> None:
    seen: dict[str, _Asked] = {}
    for item in asked:
        first = seen.setdefault(item.task.id, item)
        if first is not item and "id" in item.row.values:
            raise item.row.error(
                f"field 'id' is {item.task.id!r}, as in {first.where}: each row needs an id of its own."
            )
        if first is not item:
            raise item.row.error(
                f"repeats {first.where} word for word: leave one of the two out, or give each an 'id'."
            )


def _sides(asked: Sequence[_Asked], data: TableConfig) -> dict[str, list[_Asked]]:
    """By what the rows say, or else by hash."""
    saying = [item for item in asked if item.split is not None]
    if saying:
        silent = next((item for item in asked if item.split is None), None)
        if silent:
            raise silent.row.error(
                f"field 'split' is missing, and {saying[0].where} has one: give it to all rows or to none."
            )
        held_out = {id(item) for item in asked if item.split == "eval"}
    else:
        groups = _by_hash({item.group for item in asked}, data)
        if len(groups) < 2:
            raise DataError(f"data.path={data.path} holds one group: one is held out, so at least two are needed.")
        count = min(max(1, round(data.eval_share * len(groups))), len(groups) - 1)
        chosen = set(groups[:count])
        held_out = {id(item) for item in asked if item.group in chosen}
    sides = {
        "train": [item for item in asked if id(item) not in held_out],
        "eval": [item for item in asked if id(item) in held_out],
    }
    for split, items in sides.items():
        if not items:
            raise DataError(
                f"data.path={data.path}: the field 'split' leaves no {split} row: mark some, or leave the field out."
            )
    return sides


def _by_hash(groups: Iterable[str], data: TableConfig) -> list[str]:
    """In an order that depends on data.seed and each group alone."""
    return sorted(groups, key=lambda group: (stable_hash("split", data.seed, group), group))


def _refuse_leaks(sides: Mapping[str, Sequence[_Asked]], data: TableConfig) -> None:
    """A prompt or a group on both sides would make the held-out score worthless."""
    prompts = {same_prompt(item.task.messages): item for item in sides["train"]}
    groups = {item.group: item for item in sides["train"]}
    for item in sides["eval"]:
        other = prompts.get(same_prompt(item.task.messages))
        if other:
            raise item.row.error(
                f"is held out and has the same prompt as {other.where}, which is trained on: leave one of them out."
            )
        other = groups.get(item.group)
        if other:
            raise item.row.error(
                f"field {data.group_field!r} is {item.group!r}, held out here and trained on in {other.where}: give the rows of a "
                "group one split."
            )


def _at_most(items: Sequence[_Asked], count: int, data: TableConfig) -> list[_Asked]:
    kept = set(_by_hash({item.group for item in items}, data)[:count])
    return [item for item in items if item.group in kept]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
