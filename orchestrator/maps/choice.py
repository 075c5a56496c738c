"""Which stored answers are on a map: questions, and of each question as many answers of high reward as of every other."""

from __future__ import annotations

import difflib
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from orchestrator.errors import ConfigError
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder, sha256
from orchestrator.values import stable_hash

FEWEST = 5
"""Answers of high reward without which a question is not drawn: fewer have no spread to speak of."""
Key = tuple[str, str]
"""Whatever has it is the same question, in whichever run: the task's id and its prompt as it is stored."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which answers a map is asked for.

    step: None for the last one of the split. tasks: ids; without any, `questions` of every run. top: an answer is of high reward
    if it is among this share of its question's answers; least: in place of it, if its reward is at least this. per_task: most
    answers of a question. Raises ConfigError for a share outside of (0, 1].
    """

    split: str = "eval"
    step: int | None = None
    tasks: tuple[str, ...] = ()
    questions: int = 6
    top: float = 0.5
    least: float | None = None
    per_task: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.top <= 1:
            raise ConfigError(f"--top {self.top:g}: the share of a question's answers, above 0 and at most 1.")

    def told(self) -> str:
        """What counts as a high reward, to follow on "answers of a question, "."""
        if self.least is not None:
            return f"with a reward of at least {self.least:g}"
        return "of any reward" if self.top == 1 else f"of its top {self.top:.0%} by reward"


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored answer. id: of its episode; tokens: its length."""

    id: str
    text: str
    reward: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Question:
    """A task of a run with the answers that were drawn. run: its label.

    scored: answers with a reward and a text, of which found_high have a high one; unscored, empty: those left out. threshold:
    the lowest reward that counts as high; lowest: of all. high: as many in every question. large: as many of all scored ones,
    whatever their reward; none where all are high.
    """

    run: str
    key: Key
    restricted: bool
    scored: int
    found_high: int
    unscored: int
    empty: int
    threshold: float
    lowest: float
    high: tuple[Answer, ...]
    large: tuple[Answer, ...]

    @property
    def task(self) -> str:
        return self.key[0]

    @property
    def messages(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.key[1])
        return found


@dataclass(frozen=True, slots=True)
class Source:
    """Where a run's answers were read. run: WORKLOAD/NAME; file: from the storage on; questions: that are there."""

    run: str
    step: int
    file: str
    digest: str
    questions: int


@dataclass(frozen=True, slots=True)
class Chosen:
    """The questions of all runs, those of a run together; n: answers of each. sources: by label. notes: what was left out."""

    questions: tuple[Question, ...]
    n: int
    sources: Mapping[str, Source]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Pool:
    """All answers of a run to a question. high: those of high reward; lacks: why it cannot be drawn."""

    restricted: bool
    answers: list[Answer] = field(default_factory=list)
    unscored: int = 0
    empty: int = 0
    high: list[Answer] = field(default_factory=list)
    lacks: str = ""


Pools = dict[Key, _Pool]


def labelled(folders: Sequence[Path], labels: Sequence[str] = ()) -> dict[str, RunFolder]:
    """Runs by what they are called on a map: by default their names, with the workload where two have one name.

    Raises ConfigError where labels are not one a run and all different, or a run is there twice.
    """
    runs = [RunFolder.open(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        names = [f"{run.workload}/{run.name}" for run in runs]
    if labels and len(labels) != len(runs):
        raise ConfigError(f"--label is there {len(labels)} times for {len(runs)} runs: give one a run, in their order.")
    found = dict(zip(labels or names, runs, strict=True))
    if len(found) < len(runs):
        raise ConfigError("two runs have one label on the map: name each run once, and give each a --label of its own.")
    return found


def choose(runs: Mapping[str, RunFolder], wanted: Wanted) -> Chosen:
    """The same answers of the same files. runs: by label.

    Raises RunError for a split or step that is not there, ConfigError for a task that is not, and where a run or a named task has
    too few answers of high reward.
    """
    sources, pools = {}, {}
    for label, folder in runs.items():
        step = episodes.stored_step(folder, wanted.split, wanted.step)
        pools[label] = _read(folder, wanted, step)
        path, run = episodes.path_of(folder, wanted.split, step), f"{folder.workload}/{folder.name}"
        file = f"{run}/{folder.episodes.name}/{path.name}"
        sources[label] = Source(run, step, file, sha256(path), len(pools[label]))
    keys = _named(pools, wanted.tasks) if wanted.tasks else _picked(pools, wanted)
    for label, mine in keys.items():
        if not mine:
            raise ConfigError(_too_few(label, sources[label], pools[label], wanted))
    n = min(wanted.per_task, *(len(pools[label][key].high) for label, mine in keys.items() for key in mine))
    questions = tuple(_drawn(label, key, pools[label][key], n, wanted.seed) for label in runs for key in keys[label])
    return Chosen(questions, n, sources, tuple(_notes(questions, pools, n, wanted)))


def _read(folder: RunFolder, wanted: Wanted, step: int) -> Pools:
    columns = ("id", "task_id", "prompt", "restricted", "completion", "completion_ids", "reward")
    table = episodes.read(folder, wanted.split, [step], columns)
    lengths = pc.list_value_length(table["completion_ids"]).to_pylist()
    pools: Pools = {}
    for row, tokens in zip(table.drop_columns(["completion_ids"]).to_pylist(), lengths, strict=True):
        pool = pools.setdefault((row["task_id"], row["prompt"]), _Pool(bool(row["restricted"])))
        _add(pool, row, tokens or 0)
    for pool in pools.values():
        ranked = sorted(pool.answers, key=lambda answer: (-answer.reward, stable_hash(wanted.seed, answer.id)))
        most = len(ranked) if wanted.least is not None else math.ceil(wanted.top * len(ranked) - 1e-9)
        pool.high = [answer for answer in ranked[:most] if wanted.least is None or answer.reward >= wanted.least]
        pool.lacks = _lacks(pool, wanted)
    return pools


def _add(pool: _Pool, row: Mapping[str, Any], tokens: int) -> None:
    if row["reward"] is None or not math.isfinite(row["reward"]):
        pool.unscored += 1
    elif not (row["completion"] or "").strip():
        pool.empty += 1
    else:
        pool.answers.append(Answer(row["id"], row["completion"], row["reward"], tokens))


def _lacks(pool: _Pool, wanted: Wanted) -> str:
    rewards = {answer.reward for answer in pool.answers}
    if len(pool.high) < FEWEST:
        return f"it has {len(pool.high)} answers of high reward among {len(pool.answers)}, and {FEWEST} are needed"
    if wanted.least is None and wanted.top < 1 and len(rewards) == 1:
        return f"all its {len(pool.answers)} rewards are {rewards.pop():g}, so that none is a high one"
    return ""


def _named(pools: Mapping[str, Pools], tasks: Sequence[str]) -> dict[str, list[Key]]:
    """By label: the named tasks that the run has. Each must be in a run, and be drawn wherever it is."""
    known = sorted({key[0] for mine in pools.values() for key in mine})
    for task in tasks:
        if task not in known:
            near = difflib.get_close_matches(task, known, n=3) or known[:3]
            raise ConfigError(
                f"--task {task}: no run has answers to it. There are {len(known)}, such as {', '.join(near)}."
            )
    keys = {
        label: [key for task in dict.fromkeys(tasks) for key in mine if key[0] == task] for label, mine in pools.items()
    }
    for label, mine in keys.items():
        for key in mine:
            if lacks := pools[label][key].lacks:
                raise ConfigError(f"--task {key[0]}, run {label}: {lacks}. Name others, or change --top or --least.")
    return keys


def _picked(pools: Mapping[str, Pools], wanted: Wanted) -> dict[str, list[Key]]:
    """By label: questions that every run that has them has enough answers to. Those with more answers come first, up to the number
    that is wanted, and of equals some at random."""
    fewest: dict[Key, int] = {}
    for mine in pools.values():
        for key, pool in mine.items():
            count = 0 if pool.lacks else min(len(pool.high), wanted.per_task)
            fewest[key] = min(count, fewest.get(key, count))
    ordered = sorted(fewest, key=lambda key: (-fewest[key], stable_hash("map", wanted.seed, *key)))
    picked = {
        label: set([key for key in ordered if key in mine and fewest[key]][: wanted.questions])
        for label, mine in pools.items()
    }
    return {label: [key for key in mine if key in picked[label]] for label, mine in pools.items()}


def _too_few(label: str, source: Source, pools: Pools, wanted: Wanted) -> str:
    if wanted.tasks:
        return f"run {label} has none of the tasks that --task names. Name one of its, such as {next(iter(pools))[0]}."
    why = next(
        (pool.lacks for pool in pools.values() if pool.lacks),
        "another run has too few of the questions that they share",
    )
    return (
        f"run {label}: none of the {len(pools)} {wanted.split} questions of step {source.step} can be drawn (answers of each, "
        f"{wanted.told()}): of the first, {why}. More answers come from an evaluation of its own: orchestrate train "
        f"{source.run.partition('/')[0]} model=run:{source.run} steps=0 data.test_groups=6 eval.test_samples_per_task=500, whose split "
        "is test. Or change --top or --least."
    )


def _drawn(label: str, key: Key, pool: _Pool, n: int, seed: int) -> Question:
    def draw(answers: Sequence[Answer], what: str) -> tuple[Answer, ...]:
        return tuple(random.Random(stable_hash("map", seed, what, *key)).sample(answers, n))

    large = draw(pool.answers, "large") if len(pool.high) < len(pool.answers) else ()
    return Question(
        label, key, pool.restricted, len(pool.answers), len(pool.high), pool.unscored, pool.empty,
        min(answer.reward for answer in pool.high), min(answer.reward for answer in pool.answers),
        draw(pool.high, "high"), large,
    )  # fmt: skip


def _notes(questions: Sequence[Question], pools: Mapping[str, Pools], n: int, wanted: Wanted) -> list[str]:
    """What was chosen and what was left out, in sentences."""
    scarce = min(questions, key=lambda question: question.found_high)
    counted = f"{len(questions)} questions, {n} answers of each, {wanted.told()}"
    notes = [f"{counted}, drawn by seed {wanted.seed}."]
    if n < wanted.per_task:
        notes.append(
            f"n is {n} and not {wanted.per_task}: so many answers of high reward has {scarce.run} {scarce.task}, and every question "
            "is drawn at the same n."
        )
    skipped = sum(bool(pool.lacks) for mine in pools.values() for pool in mine.values())
    if skipped:
        notes.append(f"{skipped} questions could not be drawn: too few answers of high reward, or all rewards equal.")
    unscored = sum(question.unscored for question in questions)
    empty = sum(question.empty for question in questions)
    if unscored or empty:
        notes.append(f"Left out of the questions drawn: {unscored} answers without a reward, {empty} without a text.")
    low = sum(question.threshold == question.lowest for question in questions if question.large)
    if low:
        notes.append(
            f"In {low} questions the lowest reward of all counts as high, because many answers have it: with rewards of few values "
            "say what is high (--least)."
        )
    return notes
