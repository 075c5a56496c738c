"""What the page's browser of episodes is given: plain data, each task once, texts and numbers no longer than a reader needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.records.samples import Row, criteria_of

CHARACTERS = 8_000
"""Longest text of one message or answer on the page."""
TURNS = 40
"""Most turns of a conversation on the page, each of at most a quarter of `CHARACTERS`."""


def browsed(rows: Sequence[Row]) -> dict[str, Any]:
    """{"tasks": by split and id, "episodes": in the order of the rows}, of rows that `samples.choose` gave.

    Neither NaN nor infinities.
    """
    tasks = {f"{row['split']}/{row['task_id']}": _task(row) for row in rows}
    return {"tasks": tasks, "episodes": [_episode(row) for row in rows]}


def _task(row: Row) -> dict[str, Any]:
    return {
        "messages": [[message["role"], _cut(message["content"])] for message in row["prompt"]],
        "criteria": [
            {"id": criterion["id"], "text": _cut(criterion["text"]), "weight": _weight(criterion["weight"])}
            for criterion in criteria_of(row)
        ],
    }


def _episode(row: Row) -> dict[str, Any]:
    turns, most = row["turns"], CHARACTERS // 4
    shown = [[turn["role"], _cut(turn["text"], most)] for turn in turns[:TURNS]]
    if len(turns) > TURNS:
        shown.append(["", f"… {len(turns)} turns, the first {TURNS} are shown"])
    return {
        "id": row["id"],
        "task": row["task_id"],
        **{name: row[name] for name in ("split", "step", "sample", "tokens", "unscored")},
        "finish": row["finish_reason"],
        "version": row["weight_version"],
        **{name: _number(row[name]) for name in ("reward", "advantage", "gold")},
        **{name: _numbers(row[name]) for name in ("components", "verdicts")},
        "truths": _numbers(row["gold_verdicts"]),
        "text": _cut(row["completion"]),
        "turns": shown,
    }


def _cut(text: str | None, most: int = CHARACTERS) -> str:
    text = text or ""
    return text if len(text) <= most else f"{text[:most]}\n… {len(text):,} characters, the first {most:,} are shown"


def _weight(value: Any) -> float | None:
    """A reference is the user's own: its weights need not be numbers."""
    return _number(value) if isinstance(value, int | float) else None


def _number(value: float | None) -> float | None:
    """Five digits; None where there is none or it is not finite."""
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None


def _numbers(values: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in values.items()}
