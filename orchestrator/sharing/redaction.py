"""A run's records without the texts whose source forbids passing them on.

What is kept is listed, and everything else goes: a column that a later version adds is hidden until someone lists it here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator.records import jsonl
from orchestrator.records.folder import read_json, write_json
from orchestrator.records.samples import REDACTED, hidden

KEPT = (
    "id", "step", "split", "task_id", "group_id", "sample", "restricted", "finish_reason", "temperature", "weight_version", "seed",
    "reward", "components", "verdicts", "advantage", "gold", "gold_verdicts",
)  # fmt: skip
"""Columns of episodes that hold no words of a task or an answer: all from which a number can be computed again."""
PROMPT = json.dumps([{"role": "user", "content": REDACTED}])


def restricted_in(path: Path) -> int:
    """How many episodes of a file are restricted."""
    if "restricted" not in pq.read_schema(path).names:  # of an older format, which knew none
        return 0
    return int(pc.sum(pq.read_table(path, columns=["restricted"])["restricted"]).as_py() or 0)


def redact_episodes(path: Path) -> None:
    """Of the restricted episodes of a file keep only the columns in `KEPT`. Token ids are words too."""
    table = pq.read_table(path)
    mask = pc.fill_null(table["restricted"], False)
    for number, field in enumerate(table.schema):
        if field.name not in KEPT:
            instead = pa.scalar(PROMPT if field.name == "prompt" else None, field.type)
            table = table.set_column(number, field, pc.if_else(mask, instead, table.column(number)))
    pq.write_table(table, path, compression="zstd")


def redact_summary(path: Path) -> None:
    """Why a run or trials failed may quote what was said of a task."""
    write_json(path, _without_reasons(read_json(path)))


def redact_journal(path: Path) -> None:
    """The same of a sweep's journal."""
    path.write_text("".join(jsonl.encode(_without_reasons(line)) + "\n" for line in jsonl.read(path)), encoding="utf-8")


def _without_reasons(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: hidden(item) if name == "reason" else _without_reasons(item) for name, item in value.items()}
    return [_without_reasons(item) for item in value] if isinstance(value, list) else value
