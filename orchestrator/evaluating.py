"""The story of a run that only evaluates: a model answers the tasks of a workload, which says what the answers come to.

tasks -> prompts that fit -> the model's servers, or its URL -> answers, each kept at once -> verdicts -> results a part

A part is what one number is told of, such as a benchmark: tasks name theirs, and the item that they are tries of, in their reference
("benchmark", "item"; "story" and "question" are the texts that training may have touched, and the story is what is cut first).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.cluster.plan import make_plan
from orchestrator.cluster.session import connected, joins
from orchestrator.config.compose import to_values
from orchestrator.config.evaluation import EvaluationConfig, weights_of
from orchestrator.config.functions import files_of
from orchestrator.config.own_code import own_code
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError, RunError
from orchestrator.experiment import preflight, record, run, show
from orchestrator.fitting import Fitting
from orchestrator.fleets.fleet import Answerer
from orchestrator.fleets.verdict_cache import read
from orchestrator.following import stopping
from orchestrator.gathering import Kept, Open, answering
from orchestrator.learning.starting import content_of, load_tokenizer
from orchestrator.records import episodes as episode_files
from orchestrator.records import jsonl, trained_on
from orchestrator.records.display import Display
from orchestrator.records.folder import RunFolder, check_storage, write_json
from orchestrator.records.ledger import Ledger
from orchestrator.records.metrics import Events, MetricsLog
from orchestrator.records.mirror import Mirror
from orchestrator.rollouts.judging import insist
from orchestrator.rollouts.play import roll_out
from orchestrator.rollouts.verdicts import Scoring
from orchestrator.sharing.front_matter import architecture_of
from orchestrator.sweep.keys import find_by_key, is_finished, key_of
from orchestrator.values import POLICY, Answer, Call, Episode, Group, Sampling, Task

log = logging.getLogger("orchestrator")

AT_ONCE = 256
"""Tasks of a batch: what was answered before the last one is kept, whatever happens."""
SPLIT = "test"
STEP = 0


def run_named(config: RunConfig) -> tuple[int, RunFolder]:
    """Evaluate, or go on with an evaluation by the same settings that was stopped; one that is finished is not done again.

    Returns the exit status and the run. Raises ConfigError for settings of runs that train.
    """
    if not isinstance(config, EvaluationConfig):
        raise ConfigError(f"{config.workload} trains: use `orchestrate train {config.workload}`.")
    config.name, there = named(config)
    if there and is_finished(there):
        log.warning("%s did it already; name=NAME does it again", there.path)
        return 0, there
    status = run(config, folder=there)
    return status, RunFolder(Path(config.storage) / find_workload(config.workload).name / config.name)


def named(config: EvaluationConfig) -> tuple[str, RunFolder | None]:
    """A name that says what is evaluated and by what settings, unless one is given; and the run of them that is there already."""
    if config.name is not None:
        there = RunFolder(Path(config.storage) / find_workload(config.workload).name / config.name)
        same = there.config.is_file() and there.settings().items() >= to_values(config).items()
        return config.name, there if same else None
    key = key_of(config)
    found = find_by_key(config.storage, key)
    told = re.sub(r"[^A-Za-z0-9]+", "-", config.model.name.rpartition(":")[2])[-40:].strip("-") or "model"
    return (found.name if found else f"{told}-{key}"), found


def evaluate(config: EvaluationConfig, folder: RunFolder | None = None, opened: Open | None = None) -> int:
    """Run one evaluation to its end. Returns the exit status; raises RunError for what a user can mend.

    folder: the run that is gone on with. opened: by default servers of the model's own, or its URL.
    """
    check_storage(config.storage)
    source = find_workload(config.workload)
    config.name = config.name or named(config)[0]
    with Display(f"{source.name}/{config.name}", 0) as display, ExitStack() as stack:
        if joins(config.cluster):
            display.announce("connecting to Ray")
            stack.enter_context(connected(config.cluster))
        display.announce("reading data")
        weights = weights_of(config)
        if not config.served.elsewhere and not Path(str(weights)).is_dir():
            content_of(str(weights))  # fetches config.json, by which the context is known
        _refuse_scores(config, weights)
        preflight(config)
        workload: Any = source.workload(config)
        with own_code("the workload's tasks()", workload):
            tasks = list(workload.tasks(SPLIT))
        folder = folder or RunFolder.create(
            config.storage, source.name, config.name, to_values(config) | {"files": files_of(config)}
        )
        folder.begin()
        mirror = Mirror(config.mirror, folder)
        try:
            status = _executed(
                config, folder, workload, tasks, weights, opened or partial(answering, config, group="model"), display
            )
        finally:
            mirror.finish()
            folder.end()
    show(folder)
    mirror.finish()
    if status == "stopped":
        log.warning("stopped; the same command goes on with what is not answered yet")
    return 0 if status == "finished" else 130


def _refuse_scores(config: EvaluationConfig, weights: Path | str) -> None:
    """Raises ConfigError for a model that scores texts and writes none, such as a reward model."""
    architecture = "" if config.served.elsewhere else architecture_of(weights)
    if architecture.endswith("ForSequenceClassification"):
        raise ConfigError(
            f"{config.model.name}: {architecture} scores texts and writes no answers. Name a model that writes: a run's policy, "
            "run:NAME or run:NAME@STEP, hf:ID, path:FOLDER or a URL."
        )


class _Teller:
    """Says a line, or how far a part is, on the display and in the run's events."""

    def __init__(self, display: Display, folder: RunFolder) -> None:
        self._display, self._events = display, Events(folder.events)
        self.phase = self._events.phase

    def __call__(self, text: str, detail: str = "") -> None:
        self._display.announce(text)
        self._events.announce(text, detail)

    def progress(self, part: str, done: int, total: int) -> None:
        self._display.progress(part, done, total)
        self._events.progress(part, done, total)


class _Keeping:
    """An Answerer that keeps what another one answers, and asks again only for what is not there. Faults that may pass are retried."""

    retry_delay_s = 0.0

    def __init__(self, asked: Answerer, path: Path, retries: int) -> None:
        self._asked, self._retries = asked, retries
        self._kept = Kept(path, {str(line["key"]): read(line) for line in jsonl.read(path)})

    def begin_step(self, purpose: str) -> None:
        self._asked.begin_step(purpose)

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        missing = [call for call in calls if self._kept.key(call) not in self._kept.answers]
        answers, _ = insist(missing, {POLICY: self._asked}, {POLICY: self._retries}) if missing else ([], 0)
        self._kept.add(missing, answers)
        new = {call.key: answer for call, answer in zip(missing, answers, strict=True)}
        return [new[call.key] if call.key in new else self._kept.answers[self._kept.key(call)] for call in calls]

    def take_statistics(self) -> dict[str, float]:
        return self._asked.take_statistics()


def _executed(
    config: EvaluationConfig,
    folder: RunFolder,
    workload: Any,
    tasks: Sequence[Task],
    weights: Path | str,
    opened: Open,
    display: Display,
) -> str:
    """Ask, score and record. Returns "finished" or "stopped"."""
    tell = _Teller(display, folder)
    tell(f"run folder: {folder.path}")
    write_json(folder.models, {POLICY: str(weights)})
    MetricsLog(folder.metrics_log).drop_after(STEP - 1)
    ledger = Ledger(folder.ledger_log, make_plan(config), time.time(), tell.phase)
    status, reason, also = "failed", None, None
    try:
        fitted = _fitting(config, weights).fitted(tasks)
        if fitted.cut:
            tell(f"{fitted.cut:,} of {len(tasks):,} prompts do not fit: the middle of their story is cut")
        with ledger.phase("eval"):
            episodes = _answered(config, folder, workload, fitted.tasks, opened, tell)
        status = "stopped" if len(episodes) < len(tasks) else "finished"
        if status == "finished":
            also = _recorded(config, folder, workload, tasks, episodes, ledger, tell)
    except RunError as error:
        reason = str(error)
        raise
    finally:
        record(folder, status, reason, also)
    if status == "finished":
        folder.answers.unlink(missing_ok=True)
    return status


def _fitting(config: EvaluationConfig, weights: Path | str) -> Fitting:
    """What prompts are measured with: the model's own chat template; of a URL an estimate."""
    context, room = config.context, config.answer_tokens
    if context is not None and room >= context:
        raise RunError(
            f"rollout.max_completion_tokens={room} leaves no room for a prompt in model.context_tokens={context}: lower the one or "
            "raise the other."
        )
    if config.served.elsewhere:
        return Fitting.estimated(None if context is None else context - room)
    assert context is not None
    return Fitting.of(load_tokenizer(str(weights)), config.read_model.thinking, context - room)


def _answered(
    config: EvaluationConfig,
    folder: RunFolder,
    workload: Any,
    tasks: Sequence[Task],
    opened: Open,
    tell: _Teller,
) -> list[Episode]:
    """One episode a task, in their order; fewer where someone asked to stop."""
    sampling = Sampling(config.answer_tokens, config.temperature or 0.0)
    with own_code("the workload's environment()", workload):
        environment = workload.environment()
    episodes: list[Episode] = []
    words = "stopping after the questions that are being asked"
    with stopping(folder.stop, words, tell), opened(POLICY, config.served) as answerer:
        fleet = _Keeping(answerer, folder.answers, config.model.retries)
        for part, mine in parts_of(tasks).items():
            for start in range(0, len(mine), AT_ONCE):
                if folder.stop.exists():
                    return episodes
                tell.progress(part, start, len(mine))
                fleet.begin_step(SPLIT)
                some = mine[start : start + AT_ONCE]
                episodes += roll_out(
                    some, 1, environment, sampling, {POLICY: fleet}, seed=config.seed, step=STEP, purpose=SPLIT
                )
            tell.progress(part, len(mine), len(mine))
    return episodes


def parts_of(tasks: Sequence[Task]) -> dict[str, list[Task]]:
    """The tasks by part, in the order in which parts come."""
    parts: dict[str, list[Task]] = {}
    for task in tasks:
        parts.setdefault(str(task.reference["benchmark"]), []).append(task)
    return parts


def _recorded(
    config: EvaluationConfig,
    folder: RunFolder,
    workload: Any,
    tasks: Sequence[Task],
    episodes: Sequence[Episode],
    ledger: Ledger,
    tell: _Teller,
) -> dict[str, Any]:
    """Score the episodes, write them and the row. Returns what the summary says of them."""
    scoring = Scoring(config, workload, tell)
    try:
        groups = scoring.groups(scoring.judge(episodes, {}), ())
        gold = scoring.gold(episodes, SPLIT)
        measured = scoring.evaluation(groups, gold, 0, SPLIT)
    finally:
        scoring.close()
    episode_files.write_step(folder, STEP, groups, {}, SPLIT, gold)
    tokens = sum(len(turn.completion_ids) for episode in episodes for turn in episode.trained)
    MetricsLog(folder.metrics_log).append(STEP, measured | {"tokens/generated": tokens} | ledger.row(STEP))
    touched = trained_on.touched(config.model.name, config.storage, parts_of(tasks), config.contamination)
    return {"evaluation": summary_of(config, workload, groups, touched)}


def summary_of(
    config: EvaluationConfig, workload: Any, groups: Sequence[Group], touched: dict[str, trained_on.Touched] | None
) -> dict[str, Any]:
    """What summary.json says of an evaluation: a row a part. The score of a part that training touched is null; what it would have
    been is kept apart, under `touched`."""
    with own_code("the workload's results()", workload):
        rows = [asdict(result) for result in workload.results(groups)]
    for row in rows:
        found = (touched or {}).get(row["part"])
        row["touched"] = None
        if found:
            row["touched"] = asdict(found) | {"score": row["score"], "views": row["views"], "extras": row["extras"]}
            row |= {"score": None, "views": {}, "extras": {}}
    return {"model": config.model.name, "trained_on": "not known" if touched is None else "known", "parts": rows}
