"""How a run stands, read from its folder by anyone: what it does, how far it is, and whether a process still works on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import ConfigError
from orchestrator.records import jsonl, metrics
from orchestrator.records.display import duration, evaluation, step_line
from orchestrator.records.folder import RunFolder, read_json

POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Standing:
    """status: "running", "broken off" (no process, and no word of its end), or what summary.json says. doing: the last event, in words.
    silent_s: since then. score: the last evaluation, in words."""

    run: str
    status: str
    step: int
    steps: int
    score: str
    doing: str
    silent_s: float
    reason: str

    @property
    def since(self) -> str:
        """What it does and since when, in words."""
        return f"{self.doing}, {duration(self.silent_s)} ago" if self.doing else ""


def standing(folder: RunFolder) -> Standing:
    """How a run stands now."""
    rows, events = metrics.read(folder.metrics_log), jsonl.read(folder.events)
    summary = read_json(folder.summary) if folder.summary.is_file() else {}
    status = "running" if folder.running() else str(summary.get("status", "broken off"))
    evaluated = next((row for row in reversed(rows) if evaluation(row)), {})
    last = events[-1] if events else {}
    return Standing(
        f"{folder.workload}/{folder.name}",
        status,
        int(rows[-1]["step"]) if rows else 0,
        int(folder.settings().get("steps", 0)),
        evaluation(evaluated),
        _words(last),
        time.time() - float(last["time"]) if last else 0.0,
        str(summary.get("reason", "")),
    )


def ask_to_stop(folder: RunFolder) -> None:
    """Have a run end after the step it is in, with a checkpoint. Raises ConfigError where no process works on it."""
    if not folder.running():
        raise ConfigError(f"{folder.path} is not running ({standing(folder).status}): there is nothing to stop.")
    folder.stop.touch()


def lines(folder: RunFolder, follow: bool = False) -> Iterator[str]:
    """What a run said and every step it made, in order, a line each. follow: go on until no process works on the run."""
    events, rows = jsonl.Follower(folder.events), jsonl.Follower(folder.metrics_log)
    steps: dict[int, dict[str, Any]] = {}
    total = int(folder.settings().get("steps", 0))
    while True:
        goes_on = follow and folder.running()
        news = events.new()
        steps |= {int(row["step"]): row for row in rows.new()}
        for event in news:
            told = step_line(steps[event["step"]], total) if event.get("step") in steps else _words(event)
            if told and event["kind"] != "phase":
                yield f"{time.strftime('%m-%d %H:%M:%S', time.localtime(event['time']))} {told}"
        if not goes_on:
            return
        time.sleep(POLL_S)


def _words(event: dict[str, Any]) -> str:
    """An event of events.jsonl as one line."""
    match event.get("kind"):
        case "announce":
            return str(event["text"])
        case "progress":
            return f"{event['task']}: {event['done']}/{event['total']} {event['note']}".rstrip()
        case "phase":
            return str(event["name"])
        case "step":
            return f"step {event['step']}"
    return ""
