"""Runs beside each other: what was set differently, how they ended, and a paired test on the same held-out tasks.

An arm is one run, or several that differ by their seed. The first arm is what the others are compared with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from orchestrator.config.compose import from_values
from orchestrator.config.references import find_run
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder, read_json
from orchestrator.records.report import summarise
from orchestrator.rollouts.evaluation import Proxy, proxy_of
from orchestrator.sweep.statistics import Block, Interval, combined_interval
from orchestrator.values import Scored

GOLD = "oracle"
"""What a score is by where the truth is known; else by each run's own "judge" or "reward"."""
NAMES = ("name", "storage", "format")
"""Settings that say where a run lies, not what it does."""
NONE = "none"
"""Shown for a setting that a run of another version or workload does not have."""


@dataclass(frozen=True, slots=True)
class Arm:
    """Runs of one kind. name: of the first, and how many more there are."""

    name: str
    runs: tuple[RunFolder, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One held-out answer. score: by what the comparison is by; None where it could not be scored."""

    text: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Held:
    """The held-out episodes of one run at one evaluation. prompts: of each task; answers: of each task, in their order."""

    step: int
    prompts: Mapping[str, str]
    answers: Mapping[str, tuple[Answer, ...]]

    def means(self) -> dict[str, float]:
        """The mean score of each task that has one."""
        scores = {task: [a.score for a in answers if a.score is not None] for task, answers in self.answers.items()}
        return {task: fmean(found) for task, found in scores.items() if found}


@dataclass(frozen=True, slots=True)
class Test:
    """The difference of an arm from the first one, over `tasks` tasks that both have."""

    arm: str
    interval: Interval
    tasks: int
    runs: tuple[int, int]

    @property
    def told_apart(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.interval.low > 0 or self.interval.high < 0


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out task with an answer of the first and one of the second arm. difference: of the task's mean scores."""

    task: str
    prompt: str
    difference: float
    answers: tuple[Answer, Answer]


@dataclass(frozen=True, slots=True)
class Comparison:
    """settings: (key, its value in each arm). numbers: (what, its value in each arm). by: "oracle", "judge" or
    "reward". notes: what a reader must know to trust the numbers."""

    arms: tuple[Arm, ...]
    settings: tuple[tuple[str, ...], ...]
    numbers: tuple[tuple[str, ...], ...]
    by: str
    tests: tuple[Test, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]


def find_arms(names: Sequence[str], storage: str | Path) -> list[Arm]:
    """The arms that were named, each a run or several with commas. Raises ConfigError where one is missing or alone."""
    if len(names) < 2:
        raise ConfigError("name two runs or more to compare, such as: orchestrate compare A B (or A1,A2,A3 B1,B2,B3).")
    arms = [_arm([RunFolder.open(find_run(run, storage)) for run in _runs_of(name, storage)]) for name in names]
    workloads = sorted({run.workload for arm in arms for run in arm.runs})
    if len(workloads) > 1:
        raise ConfigError(f"these are runs of different workloads ({', '.join(workloads)}): no task is in both.")
    paths = [run.path.resolve() for arm in arms for run in arm.runs]
    twice = sorted({path.name for path in paths if paths.count(path) > 1})
    if twice:
        raise ConfigError(f"{', '.join(twice)}: named twice; a run beside itself says nothing.")
    return arms


def _arm(runs: Sequence[RunFolder]) -> Arm:
    others = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return Arm(f"{runs[0].name}{others}", tuple(runs))


def _runs_of(name: str, storage: str | Path) -> list[str]:
    """A list with commas, unless a run has just this name."""
    there = any((root / name / "config.yaml").is_file() for root in (Path(), Path(storage), *Path(storage).glob("*")))
    return [name] if there else [part for part in name.split(",") if part]


def compare(arms: Sequence[Arm], step: int | None = None, samples: int = 3) -> Comparison:
    """Compare the last evaluation of every run, or that of one step. Raises ConfigError where they share no held-out task."""
    tables = [[_rows(run, step) for run in arm.runs] for arm in arms]
    known = all(
        row["gold"] is not None for runs in tables for rows in runs for row in rows if row["reward"] is not None
    )
    by = GOLD if known else _proxy(arms[0].runs[0]).by
    held = [
        [_held(run, rows, by) for run, rows in zip(arm.runs, runs, strict=True)]
        for arm, runs in zip(arms, tables, strict=True)
    ]
    tasks, notes = _common(held)
    scores = [_scores(arm, runs, tasks) for arm, runs in zip(arms, held, strict=True)]
    tests = [
        Test(
            arm.name, combined_interval([(1, mine), (-1, scores[0])]), len(tasks), (len(scores[0].runs), len(mine.runs))
        )
        for arm, mine in zip(arms[1:], scores[1:], strict=True)
    ]
    return Comparison(
        tuple(arms),
        tuple(differing_settings(arms)),
        tuple(_numbers(arms, held)),
        by,
        tuple(tests),
        tuple(_samples(held[0][0], held[1][0], tasks, samples)),
        (*notes, *_notes(held, tests, by)),
    )


def _rows(run: RunFolder, step: int | None) -> list[dict[str, Any]]:
    """The held-out episodes of one evaluation. Raises ConfigError where there is none."""
    steps = [number for split, number in episodes.parts(run) if split == "eval"]
    if not steps or step not in (None, *steps):
        there = f"it has evaluations of steps {', '.join(map(str, steps))}" if steps else "it has none"
        raise ConfigError(f"{run.path} has no evaluation{'' if step is None else f' of step {step}'}: {there}.")
    columns = ("step", "task_id", "prompt", "completion", "reward", "components", "verdicts", "gold")
    return episodes.read(run, "eval", [max(steps) if step is None else step], columns).to_pylist()


def _proxy(run: RunFolder) -> Proxy:
    settings = {key: value for key, value in run.settings().items() if key not in ("versions", "format", "files")}
    config = from_values(settings)
    return proxy_of(config, find_workload(config.workload).workload(config))


def _held(run: RunFolder, rows: Sequence[Mapping[str, Any]], by: str) -> Held:
    proxy = None if by == GOLD else _proxy(run)
    answers: dict[str, list[Answer]] = {}
    for row in rows:
        score = None
        if row["reward"] is not None:
            verdict = Scored(row["reward"], dict(row["components"]), dict(row["verdicts"]))
            score = proxy.of(verdict) if proxy else row["gold"]
        answers.setdefault(row["task_id"], []).append(Answer(row["completion"] or "", score))
    prompts = {row["task_id"]: row["prompt"] for row in rows}
    return Held(rows[0]["step"], prompts, {task: tuple(found) for task, found in answers.items()})


def _common(held: Sequence[Sequence[Held]]) -> tuple[list[str], list[str]]:
    """The tasks that every run was asked in the same words and that were scored, and what was left out."""
    runs = [run for arm in held for run in arm]
    first = runs[0].prompts
    asked = set.union(*(set(run.prompts) for run in runs))
    same = [task for task in first if all(run.prompts.get(task) == first[task] for run in runs)]
    if not same:
        raise ConfigError(
            "these runs have no held-out task in common: their data differ (data.* of their config.yaml), so that no test can be "
            "paired. Evaluate them on the same data."
        )
    tasks = [task for task in same if all(task in run.means() for run in runs)]
    notes = []
    if len(same) < len(asked):
        notes.append(f"Their held-out tasks differ: compared on the {len(same)} in common, of {len(asked)}.")
    if len(tasks) < len(same):
        notes.append(f"{len(same) - len(tasks)} tasks without a score in some run are left out.")
    if not tasks:
        raise ConfigError(
            "no held-out task was scored in all of these runs: look at their faults (orchestrate report)."
        )
    return tasks, notes


def _scores(arm: Arm, runs: Sequence[Held], tasks: Sequence[str]) -> Block:
    """Mean score by run and task."""
    means = [run.means() for run in runs]
    scores = np.array([[mine[task] for task in tasks] for mine in means])
    return Block(scores, tuple(run.path.resolve() for run in arm.runs), tuple(tasks))


def _notes(held: Sequence[Sequence[Held]], tests: Sequence[Test], by: str) -> list[str]:
    notes = []
    if any(max(test.runs) == 1 for test in tests):
        notes.append(
            "Where both arms are one run, the interval is over tasks of these very runs: it does not say what another seed would "
            "give. Name several runs an arm, with commas."
        )
    if any(min(test.runs) == 1 < max(test.runs) for test in tests):
        notes.append("An arm of one run is taken to spread as the runs of the other do. Name several, with commas.")
    if by != GOLD:
        notes.append(
            f"Scored by each run's own {by}, because not all have a gold score: one that differs, or that a run exploits, shows "
            "as a difference (`orchestrate rejudge` asks one judge for all)."
        )
    if len({run.step for arm in held for run in arm}) > 1:
        told = "; ".join(map(_steps, held))
        notes.append(f"The evaluations are of different steps ({told}).")
    if len(tests) > 1:
        notes.append(f"Of {len(tests)} intervals of 95 % one may leave 0 out by chance.")
    return notes


def _steps(runs: Sequence[Held]) -> str:
    return ", ".join(map(str, sorted({run.step for run in runs})))


def differing_settings(arms: Sequence[Arm]) -> list[tuple[str, ...]]:
    """(key, value in each arm) of every setting and version that differs between arms, in the order of config.yaml."""
    flat = [[_flat(run.settings()) for run in arm.runs] for arm in arms]
    keys = dict.fromkeys(key for runs in flat for settings in runs for key in settings)
    rows = []
    for key in keys:
        # The values of an arm's runs, in any order: seeds that both arms have are no difference.
        values = [sorted({settings.get(key, NONE) for settings in runs}) for runs in flat]
        if any(value != values[0] for value in values):
            rows.append((key, *(", ".join(value) for value in values)))
    return rows


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values as text, without names and places."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif prefix or key not in NAMES:
            flat[f"{prefix}{key}"] = "null" if value is None else str(value)
    return flat


def _numbers(arms: Sequence[Arm], held: Sequence[Sequence[Held]]) -> list[tuple[str, ...]]:
    """The headline of each arm, means over its runs; what no arm has is left out."""
    summaries = [
        [read_json(run.summary) if run.summary.is_file() else summarise(run) for run in arm.runs] for arm in arms
    ]

    def row(what: str, at: Sequence[str], form: str) -> tuple[str, ...]:
        found = [[value for one in mine if (value := _at(one, at)) is not None] for mine in summaries]
        return (what, *(format(fmean(values), form) if values else "" for values in found))

    rows = [
        ("runs", *(str(len(arm.runs)) for arm in arms)),
        ("status", *(", ".join(sorted({str(one["status"]) for one in mine})) for mine in summaries)),
        row("steps", ("steps",), ".0f"),
        ("evaluation compared, step", *(_steps(runs) for runs in held)),
        row("oracle, first evaluation", ("first", "oracle"), ".3f"),
        row("oracle, last evaluation", ("last", "oracle"), ".3f"),
        row("judge, last evaluation", ("last", "judge"), ".3f"),
        row("reward, last evaluation", ("last", "reward"), ".3f"),
        row("judge minus oracle, last", ("last", "gold_gap"), "+.3f"),
        row("gain of the oracle score", ("oracle_gain", "mean"), "+.3f"),
        row("best of n of the start", ("best_of_n",), ".3f"),
        row("tokens generated", ("tokens_generated",), ",.0f"),
        row("time, lessons and evaluations included, s", ("seconds", "total"), ",.0f"),
        row("GPU time, s", ("gpu_seconds",), ",.0f"),
        row("busy share", ("busy_share",), ".2f"),
    ]
    return [cells for cells in rows if any(cells[1:])]


def _at(summary: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = summary
    for part in path:
        value = value.get(part) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _samples(first: Held, second: Held, tasks: Sequence[str], count: int) -> list[Sample]:
    """Tasks where the two differ most, in either direction, and least, in turn: the first answer of each."""
    before, after = first.means(), second.means()
    order = sorted(tasks, key=lambda task: after[task] - before[task])
    alike = sorted(tasks, key=lambda task: abs(after[task] - before[task]))
    turns = [task for three in zip(reversed(order), order, alike, strict=True) for task in three]
    return [
        Sample(
            task,
            "\n".join(message["content"] for message in json.loads(first.prompts[task])),
            after[task] - before[task],
            (first.answers[task][0], second.answers[task][0]),
        )
        for task in list(dict.fromkeys(turns))[:count]
    ]
