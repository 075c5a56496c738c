"""Every episode of a run, from which every number about it can be computed again: one Parquet file a step and split.

One row is one episode. The columns about a turn (prompt_ids … seed) hold the policy's last turn, null where it was never asked. An
episode of one turn of the policy has null in `turns`, any other all of them there, of every role, in order. One that was lost has
null in all of them, and why in `unscored`.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import dataset

from orchestrator.errors import RunError
from orchestrator.records.folder import FORMAT, RunFolder, atomic_path
from orchestrator.values import POLICY, Episode, Group, Scored, Task, Turn, Unscored, Verdict

_TURN = [
    ("completion", pa.string()),
    ("prompt_ids", pa.list_(pa.int32())),
    ("completion_ids", pa.list_(pa.int32())),
    # Behaviour log-probabilities leave vLLM as float32: nothing is lost.
    ("logprobs", pa.list_(pa.float32())),
    ("finish_reason", pa.string()),
    ("temperature", pa.float64()),
    ("weight_version", pa.int64()),
    ("seed", pa.int64()),
]
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("task_id", pa.string(), nullable=False),
        pa.field("group_id", pa.string(), nullable=False),
        pa.field("sample", pa.int32(), nullable=False),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("reference", pa.string()),
        pa.field("restricted", pa.bool_()),
        *(pa.field(name, kind) for name, kind in _TURN),
        pa.field("reward", pa.float64()),
        pa.field("components", pa.map_(pa.string(), pa.float64())),
        pa.field("verdicts", pa.map_(pa.string(), pa.float64())),
        pa.field("unscored", pa.string()),
        pa.field("advantage", pa.float64()),
        pa.field("gold", pa.float64()),
        pa.field("gold_verdicts", pa.map_(pa.string(), pa.float64())),
        pa.field("turns", pa.list_(pa.struct([("role", pa.string()), *_TURN]))),
    ],
    metadata={"orchestrator.format": str(FORMAT)},
)
"""Columns of every part. `prompt`, `reference`: the task's messages and reference as JSON. `verdicts`: criterion -> P(yes);
`gold_verdicts`: the same by the truth. Null: none; a null in `restricted` is false."""

_PART = re.compile(r"(?P<split>\w+)-(?P<step>\d{6,})\.parquet")


def write_step(
    folder: RunFolder,
    step: int,
    groups: Sequence[Group],
    advantages: Mapping[str, float],
    split: str,
    gold: Mapping[str, float | None] | None = None,
    gold_verdicts: Callable[[Episode], Mapping[str, float]] | None = None,
) -> None:
    """Write the episodes of one step as episodes/{split}-{step:06d}.parquet, replacing a file of the same name.

    advantages, gold: by episode id; an episode that is not there has null. gold_verdicts: the truth of an episode's verdicts.
    split: letters, digits, underscores.
    """
    if not _PART.fullmatch(_name(split, step)):
        raise ValueError(f"split={split!r} cannot name a file of episodes: use letters, digits and underscores")
    write_file(path_of(folder, split, step), step, groups, advantages, split, gold, gold_verdicts)


def write_file(
    path: Path,
    step: int,
    groups: Sequence[Group],
    advantages: Mapping[str, float],
    split: str,
    gold: Mapping[str, float | None] | None = None,
    gold_verdicts: Callable[[Episode], Mapping[str, float]] | None = None,
) -> None:
    """As `write_step`, to a file of any name."""
    rows = [
        _row(episode, verdict, split)
        | {"advantage": advantages.get(episode.id), "gold": (gold or {}).get(episode.id), "step": step}
        | {
            "gold_verdicts": list(gold_verdicts(episode).items()) or None
            if gold_verdicts and not episode.lost
            else None
        }
        for group in groups
        for episode, verdict in zip(group.episodes, group.verdicts, strict=True)
    ]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), temporary, compression="zstd")


def _row(episode: Episode, verdict: Verdict, split: str) -> dict[str, Any]:
    scored = verdict if isinstance(verdict, Scored) else None
    short = bool(episode.lost) or [turn.role for turn in episode.turns] == [POLICY]
    return {
        "id": episode.id,
        "split": split,
        "task_id": episode.task.id,
        "group_id": f"{episode.step}/{episode.task.id}",
        "sample": episode.sample,
        "prompt": json.dumps([dict(message) for message in episode.task.messages], ensure_ascii=False),
        "reference": json.dumps(dict(episode.task.reference), ensure_ascii=False) if episode.task.reference else None,
        "restricted": episode.task.restricted,
        **(_turn(episode.trained[-1]) if episode.trained else {}),
        "reward": scored and scored.reward,
        "components": scored and list(scored.components.items()),
        "verdicts": scored and list(scored.judgements.items()),
        "unscored": None if isinstance(verdict, Scored) else verdict.reason,
        "turns": None if short else [{"role": turn.role, **_turn(turn)} for turn in episode.turns],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "completion": turn.text,
        "prompt_ids": turn.prompt_ids,
        "completion_ids": turn.completion_ids,
        "logprobs": turn.logprobs,
        "finish_reason": turn.finish_reason,
        "temperature": turn.temperature,
        "weight_version": turn.weight_version,
        "seed": turn.seed,
    }


def path_of(folder: RunFolder, split: str, step: int) -> Path:
    """Where the episodes of one step and split lie."""
    return folder.episodes / _name(split, step)


def _name(split: str, step: int) -> str:
    return f"{split}-{step:06d}.parquet"


def parts(folder: RunFolder) -> list[tuple[str, int]]:
    """(split, step) of every file, by step."""
    matches = (_PART.fullmatch(path.name) for path in folder.episodes.glob("*.parquet"))
    found = [(match["split"], int(match["step"])) for match in matches if match]
    return sorted(found, key=lambda part: (part[1], part[0]))


def stored_step(folder: RunFolder, split: str, step: int | None) -> int:
    """The step, or the last one that has episodes of the split. Raises RunError where there are none."""
    steps = [number for name, number in parts(folder) if name == split]
    if not steps or step not in (None, *steps):
        told = ", ".join(map(str, steps)) or "none"
        wanted = "" if step is None else f" of step {step}"
        raise RunError(
            f"{folder.path} has no {split} episodes{wanted}. Steps of {split} episodes that are there: {told}."
        )
    return max(steps) if step is None else step


def read(
    folder: RunFolder,
    split: str | None = None,
    steps: Sequence[int] | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """All episodes by step, or those of one split, of some steps, or some columns only. Empty where there are none."""
    chosen = [
        path_of(folder, name, step)
        for name, step in parts(folder)
        if split in (None, name) and (steps is None or step in steps)
    ]
    names = list(columns) if columns is not None else SCHEMA.names
    if not chosen:
        return SCHEMA.empty_table().select(names)
    # Reading under the schema gives files of an older format the columns they lack, as nulls.
    return dataset.dataset(chosen, schema=SCHEMA, format="parquet").to_table(columns=names)


def read_groups(folder: RunFolder, split: str, step: int) -> list[Group]:
    """The groups of one step as `write_step` was given them, in their order; [] where there is no such file.

    Files of an older format hold no reference of a task.
    """
    rows = read(folder, split, [step]).to_pylist()
    together = [list(members) for _, members in itertools.groupby(rows, key=lambda row: row["group_id"])]
    return [Group(tuple(map(_episode, members)), tuple(map(_verdict, members))) for members in together]


def _episode(row: Mapping[str, Any]) -> Episode:
    """The inverse of `_row`."""
    reference = json.loads(row["reference"] or "{}")
    task = Task(row["task_id"], tuple(json.loads(row["prompt"])), reference, bool(row["restricted"]))
    if row["turns"] is not None:
        turns = tuple(_as_turn(turn, turn["role"]) for turn in row["turns"])
    else:
        turns = (_as_turn(row, POLICY),) if row["completion"] is not None else ()
    lost = row["unscored"] if row["turns"] is None and not turns else ""
    return Episode(task, row["step"], row["sample"], turns, lost or "")


def _as_turn(row: Mapping[str, Any], role: str) -> Turn:
    """The inverse of `_turn`."""
    return Turn(
        role,
        tuple(row["prompt_ids"]),
        tuple(row["completion_ids"]),
        tuple(row["logprobs"]),
        row["completion"],
        *(row[name] for name in ("finish_reason", "temperature", "weight_version", "seed")),
    )


def _verdict(row: Mapping[str, Any]) -> Verdict:
    if row["reward"] is None:
        return Unscored(row["unscored"])
    return Scored(row["reward"], dict(row["components"]), dict(row["verdicts"]))


def drop_after(folder: RunFolder, step: int) -> int:
    """Remove the episodes after `step` (the restored one). Returns how many files went."""
    late = [(split, number) for split, number in parts(folder) if number > step]
    for split, number in late:
        path_of(folder, split, number).unlink()
    return len(late)
