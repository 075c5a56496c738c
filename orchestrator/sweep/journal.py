"""What happened in a sweep, a line an event, as the driver saw it: trials begun, evaluated and ended.

Read again it says what was tried already, so that a sweep that was killed goes on where it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from orchestrator.records import jsonl

FINISHED, EARLY, FAILED, STOPPED = "finished", "stopped early", "failed", "stopped"
"""How a trial ends: at its last step; by the scheduler; by an error; or asked to stop, to go on another time."""
LASTING = (FINISHED, EARLY)
"""Ends after which a trial is not tried again."""

SPENT = ("seconds", "cpu_seconds", "gpu_seconds")
"""What a run takes, by the name of its sum."""


@dataclass(slots=True)
class Tried:
    """One trial. arm, seed, point: what it was. run: "workload/name" of its run, the last one of a population's member.

    runs: all of its runs. origin: the run and the step that the last one was forked from. scores: (step, score, hours spent in the
    sweep by then) of every evaluation. seconds, cpu_seconds, gpu_seconds: of its runs so far. outcome: "" while it goes on.
    """

    stage: str
    number: int
    arm: str
    seed: int
    point: Mapping[str, Any]
    run: str
    origin: tuple[str, int] | None = None
    runs: list[str] = field(default_factory=list)
    scores: list[tuple[int, float, float]] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    outcome: str = ""
    reason: str = ""
    before: Mapping[str, float] = field(default_factory=dict)
    """What its former runs took."""

    @property
    def score(self) -> float:
        """Of the last evaluation; NaN before the first."""
        return self.scores[-1][1] if self.scores else float("nan")

    @property
    def step(self) -> int:
        return self.scores[-1][0] if self.scores else -1


def in_words(point: Mapping[str, Any]) -> str:
    """A point as one would set it: "learner.learning_rate=0.0003 algorithm.beta=5"."""
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in point.items()
    )


def spent_by(tried: Iterable[Tried]) -> dict[str, float]:
    """What trials took together, by the names of `SPENT`. A run that several of them share counts once."""
    runs = {one.run: one for one in sorted(tried, key=lambda one: one.seconds)}
    return {name: sum(getattr(one, name) for one in runs.values()) for name in SPENT}


def winner_of(tried: Sequence[Tried], mode: str) -> Tried | None:
    """The best of the trials that did all of their steps, by the score at the last one; None where there is none."""
    return (max if mode == "max" else min)(_whole(tried), key=lambda one: one.score, default=None)


def best_point(tried: Sequence[Tried], mode: str) -> list[Tried]:
    """The trials of a search's winner: of the points that were tried with the most seeds the one with the best mean score."""
    points = by_point(tried)
    most = max(map(len, points), default=0)
    whole = [mine for mine in points if len(mine) == most]
    return (max if mode == "max" else min)(whole, key=mean_score, default=[])


def by_point(tried: Sequence[Tried]) -> list[list[Tried]]:
    """The trials that did all of their steps, those of a point together, one a seed."""
    points: dict[str, dict[int, Tried]] = {}
    for one in _whole(tried):
        points.setdefault(repr(sorted(one.point.items())), {}).setdefault(one.seed, one)
    return [list(mine.values()) for mine in points.values()]


def mean_score(tried: Iterable[Tried]) -> float:
    """Of their last evaluations."""
    return fmean(one.score for one in tried)


def _whole(tried: Sequence[Tried]) -> list[Tried]:
    return [one for one in tried if one.outcome == FINISHED and math.isfinite(one.score)]


class Journal:
    """Writer and reader of trials.jsonl; one process writes. Reading leaves the file alone: another process may be at a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log: jsonl.LineLog | None = None
        self._tried: dict[tuple[str, int], Tried] = {}
        self._spent: dict[str, float] = {}
        self._pools: dict[str, dict[str, float]] = {}
        self._last, self._open = 0.0, ""
        for line in jsonl.read(path):
            self._take(line)

    # --- what is known ---

    def of(self, stage: str) -> list[Tried]:
        """The trials of a stage, by number."""
        return sorted((one for one in self._tried.values() if one.stage == stage), key=lambda one: one.number)

    def all(self) -> list[Tried]:
        """Every trial, in the order in which they began."""
        return list(self._tried.values())

    def spent_h(self, stage: str) -> float:
        """Hours for which a stage was going on, all starts of the sweep together; until now, of the one that goes on."""
        since = time.time() - self._last if stage == self._open else 0.0
        return (self._spent.get(stage, 0.0) + since) / 3600

    def pool_of(self, stage: str) -> dict[str, float]:
        """What the pools of a stage's shared raters took, by the names of `SPENT`; empty where there was none."""
        return self._pools.get(stage, {})

    # --- what happens ---

    def open(self, stage: str) -> None:
        """A stage begins or goes on."""
        self._open = stage
        self._add({"kind": "stage", "stage": stage})

    def begin(self, tried: Tried) -> Tried:
        """A trial begins, or goes on in this run. Returns the trial as it is kept."""
        self._add(
            {
                "kind": "trial", "stage": tried.stage, "number": tried.number, "arm": tried.arm, "seed": tried.seed,
                "point": dict(tried.point), "run": tried.run, "origin": tried.origin,
            }
        )  # fmt: skip
        return self._tried[tried.stage, tried.number]

    def row(self, tried: Tried, step: int, score: float, spent: Mapping[str, float]) -> None:
        """A trial was evaluated. spent: its seconds, cpu_seconds and gpu_seconds so far. What is known already is not told again."""
        if step > tried.step:
            self._add(
                {"kind": "row", "stage": tried.stage, "number": tried.number, "step": step, "score": score, **spent}
            )

    def end(
        self, tried: Tried, outcome: str, reason: str = "", spent: Mapping[str, float] = MappingProxyType({})
    ) -> None:
        """A trial ends. spent: as of a row, with what came after the last one."""
        self._add(
            {
                "kind": "end", "stage": tried.stage, "number": tried.number, "outcome": outcome, "reason": reason,
                **spent,
            }
        )  # fmt: skip

    def pool(self, stage: str, spent: Mapping[str, float]) -> None:
        """The pools of a stage's shared raters are given back. spent: what they took since they were leased."""
        self._add({"kind": "pool", "stage": stage, **spent})

    def _add(self, line: dict[str, Any]) -> None:
        line = {"time": time.time(), **line}
        self._log = self._log or jsonl.LineLog(self._path)
        self._log.append(line)
        self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        stage = line["stage"]
        if line["kind"] == "stage":  # the time before it belongs to no stage: the sweep was not going on
            self._last = line["time"]
            return
        self._spent[stage] = self._spent.get(stage, 0.0) + max(0.0, line["time"] - self._last)
        self._last = line["time"]
        if line["kind"] == "pool":
            known = self._pools.get(stage, {})
            self._pools[stage] = {name: known.get(name, 0.0) + line[name] for name in SPENT}
            return
        key = (stage, line["number"])
        if line["kind"] == "trial":
            made = Tried(
                stage, line["number"], line["arm"], line["seed"], line["point"], line["run"],
                tuple(line["origin"]) if line["origin"] else None,
            )  # fmt: skip
            _go_on(self._tried.setdefault(key, made), made)
            return
        tried = self._tried[key]
        if line["kind"] == "end":
            tried.outcome, tried.reason = line["outcome"], line["reason"]
        else:
            tried.scores.append((line["step"], line["score"], sum(self._spent.values()) / 3600))
        for name in SPENT:
            if name in line:
                setattr(tried, name, tried.before.get(name, 0.0) + line[name])


def _go_on(tried: Tried, now: Tried) -> None:
    """The trial goes on as `now` says: in the same run, or in one that was forked."""
    if now.run not in tried.runs:
        tried.before = {name: getattr(tried, name) for name in SPENT}
        tried.runs.append(now.run)
        # What came after the fork is no part of its course; nor is anything where what decides the run has changed since.
        tried.scores = [entry for entry in tried.scores if now.origin and entry[0] <= now.origin[1]]
    tried.point, tried.run, tried.origin, tried.outcome, tried.reason = now.point, now.run, now.origin, "", ""
