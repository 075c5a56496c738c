"""Some of a run's episodes for people to read: a bounded, repeatable choice, without what may not be passed on."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.values import stable_hash

REDACTED = "[redacted: its source forbids redistribution]"
EXTREMES = 6
"""Episodes of highest and of lowest reward that are always among those chosen, of each split."""
GOLDEN = (math.sqrt(5) - 1) / 2
_COLUMNS = (
    "id", "step", "split", "task_id", "sample", "prompt", "reference", "restricted", "completion", "completion_ids",
    "finish_reason", "weight_version", "reward", "components", "verdicts", "unscored", "advantage", "gold", "gold_verdicts",
    "turns",
)  # fmt: skip
Row = dict[str, Any]
Part = tuple[str, int]
"""A file of episodes: its split and step."""
Place = tuple[Part, int]
"""Of an episode: its file and the number of its row there."""


def choose(
    folder: RunFolder,
    most: int,
    split: str | None = None,
    steps: Sequence[int] | None = None,
    unredacted: bool = False,
) -> tuple[list[Row], int]:
    """At most `most` episodes by step, spread over all steps, those of extreme reward among them; and how many there are.

    The same of the same files. A row is as in `episodes.SCHEMA`, but for: `prompt`, `turns` (role and text of each) and
    `reference` are plain data, maps are dictionaries, `tokens` is the length of the completion. Restricted ones come redacted
    (`redacted`) unless asked for as they are.
    """
    rewards: dict[Part, list[float | None]] = {}
    scored = episodes.read(folder, split, steps, ["split", "step", "reward"])
    for name, step, reward in zip(*(column.to_pylist() for column in scored.columns), strict=True):
        rewards.setdefault((name, step), []).append(reward)
    chosen = _chosen(rewards, most)
    rows = [row for part in rewards if part in chosen for row in _read(folder, part, sorted(chosen[part]))]
    shown = rows if unredacted else [redacted(row) if row["restricted"] else row for row in rows]
    return shown, scored.num_rows


def _chosen(rewards: Mapping[Part, Sequence[float | None]], most: int) -> dict[Part, list[int]]:
    """Rows by part: the extremes, then the first of every part in shuffled order, the second of every part …"""
    ordered = []
    for number, (part, values) in enumerate(rewards.items()):
        rows = list(range(len(values)))
        random.Random(stable_hash("samples", *part)).shuffle(rows)
        # The first k multiples of the golden ratio, modulo 1, are spread over all parts, whatever k is.
        ordered += [(rank, number * GOLDEN % 1, (part, row)) for rank, row in enumerate(rows)]
    spread = [place for *_, place in sorted(ordered)]
    chosen: dict[Part, list[int]] = {}
    for part, row in list(dict.fromkeys([*_extremes(rewards), *spread]))[:most]:
        chosen.setdefault(part, []).append(row)
    return chosen


def _extremes(rewards: Mapping[Part, Sequence[float | None]]) -> Iterator[Place]:
    for split in sorted({split for split, _ in rewards}):
        known = [
            (reward, (part, row))
            for part, values in rewards.items()
            for row, reward in enumerate(values)
            if part[0] == split and reward is not None and math.isfinite(reward)
        ]
        known.sort()
        yield from (place for _, place in [*known[:EXTREMES], *known[-EXTREMES:]])


def _read(folder: RunFolder, part: Part, rows: Sequence[int]) -> Iterator[Row]:
    table: pa.Table = episodes.read(folder, part[0], [part[1]], _COLUMNS).take(rows)
    for row in table.to_pylist():
        ids = row.pop("completion_ids")  # they spell the text
        yield row | {
            "prompt": json.loads(row["prompt"]),
            "reference": json.loads(row["reference"] or "{}"),
            "restricted": bool(row["restricted"]),
            "tokens": len(ids or ()),
            "turns": [{"role": turn["role"], "text": turn["completion"]} for turn in row["turns"] or ()],
            **{name: dict(row[name] or ()) for name in ("components", "verdicts", "gold_verdicts")},
        }


def any_restricted(folder: RunFolder) -> bool:
    """Whether the source of any episode of the run forbids passing its texts on."""
    return bool(pc.any(episodes.read(folder, columns=["restricted"])["restricted"]).as_py())


def redacted(row: Mapping[str, Any]) -> Row:
    """A row without any text of its task or about it; numbers, ids and lengths stay. What a fault said may quote them."""
    return {
        **row,
        "prompt": [{"role": message["role"], "content": hidden(message["content"])} for message in row["prompt"]],
        "completion": hidden(row["completion"]),
        "turns": [{"role": turn["role"], "text": hidden(turn["text"])} for turn in row["turns"]],
        "reference": {"rubric": [criterion | {"text": hidden(criterion["text"])} for criterion in criteria_of(row)]},
        "unscored": hidden(row["unscored"]),
    }


def hidden(text: str | None) -> str | None:
    """What stands for a text that may not be passed on: that it is redacted, and its length."""
    return text and f"{REDACTED} ({len(text):,} characters)"


def criteria_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """id, text and weight of each criterion of a row's task, in the rubric's order; [] where its reference holds no rubric."""
    rubric = row["reference"].get("rubric")
    listed = [item for item in rubric if isinstance(item, Mapping) and "id" in item] if isinstance(rubric, list) else []
    return [{"id": str(item["id"]), "text": str(item.get("text", "")), "weight": item.get("weight")} for item in listed]
