"""One stage of a sweep on its way: what is to be tried, what was, and when enough is spent."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any
from uuid import uuid4

import optuna

from orchestrator.cluster.upload import keep
from orchestrator.config.compose import compose, to_values
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError
from orchestrator.records.folder import RunFolder, is_taken
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.graph import Configured, runs_of, single_points, trials_of
from orchestrator.sweep.journal import FAILED, FINISHED, LASTING, Journal, Tried, spent_by
from orchestrator.sweep.keys import is_finished
from orchestrator.sweep.space import LISTED, active, draw, grid
from orchestrator.sweep.spec import Done, Planned, Range, Stage, Sweep, Tuning
from orchestrator.sweep.trial import Origin, Work, evaluations, spent

FACTORS = (0.8, 1.25)
RESAMPLED = 0.25
"""How a population's copied settings move: by one of the factors or to a neighbour, or with this chance to a new draw."""


class Points:
    """The points of an arm's search, one after another: written down beforehand, or asked of Optuna's TPE.

    known: points that were tried before, by number.
    """

    def __init__(
        self, ranges: Sequence[Range], settings: Mapping[str, Any], tuning: Tuning, mode: str, known: Mapping[int, Any]
    ) -> None:
        self._ranges, self._settings = ranges, settings
        self._known = known
        self._asked: dict[int, optuna.trial.Trial] = {}
        self._study: optuna.Study | None = None
        self.listed: list[dict[str, Any]] = []
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if tuning.searcher == "grid":
            self.listed = grid(ranges, settings)
        elif tuning.searcher == "random" or tuning.scheduler == "pbt":
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(tuning.seed))
            self.listed = [draw(ranges, settings, study.ask()) for _ in range(tuning.trials)]
        else:
            # A sampler that goes on would otherwise draw again what it drew first.
            sampler = optuna.samplers.TPESampler(seed=tuning.seed + len(known))
            self._study = optuna.create_study(sampler=sampler, direction="maximize" if mode == "max" else "minimize")
        self.count = len(self.listed) if self._study is None else tuning.trials

    def ask(self, number: int) -> dict[str, Any]:
        """The point of a trial: the one that it had, where the trial was tried before."""
        if self._study is None:
            return self.listed[number]
        if number in self._known:
            self._study.enqueue_trial(dict(self._known[number]))
        trial = self._asked[number] = self._study.ask()
        return draw(self._ranges, self._settings, trial)

    def tell(self, number: int, score: float) -> None:
        """What a trial came to; NaN says that it failed."""
        if self._study is not None:
            failed = not math.isfinite(score)
            state = optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE
            self._study.tell(self._asked.pop(number), None if failed else score, state=state)


class Course:
    """A stage on its way. done: runs of the stages before. fits: how many runs at once. config: of one of its runs.

    Raises MissingRunError where a run that the stage needs is not there.
    """

    def __init__(
        self, sweep: Sweep, stage: Stage, folder: SweepFolder, journal: Journal, done: Sequence[Done], fits: int
    ) -> None:
        self.sweep, self.stage, self.folder, self.journal, self.done = sweep, stage, folder, journal, done
        self.tuning = stage.node.tuning if stage.arm is not None else None
        self._known = {one.number: one for one in journal.of(stage.name)}
        self._next = 0
        self._points: Points | None = None
        self._repeats = self.tuning.repeats if self.tuning else 1
        self._asked: dict[int, dict[str, Any]] = {}
        self._told: dict[int, list[float]] = {}
        self._planned: list[Planned] = []
        if stage.arm is None:
            self._planned = runs_of(sweep, stage, done, folder.storage)
        else:
            self._points = self._search()
            if self._points.listed:
                self._planned = trials_of(sweep, stage, self._points.listed, done, folder.storage)
        node, arm = stage.node, stage.arm if stage.arm is not None else next(iter(stage.node.arms))
        seed = self.tuning.seed if self.tuning else node.seeds[0]
        self.config = Configured(sweep, node, arm, folder.storage)(seed, {})
        self.total = self._points.count * self._repeats if self._points else len(self._planned)
        self.slots = folder.slots(min(fits, self.total))
        if self.is_population:
            self._check_population()

    def _search(self) -> Points:
        node, arm, tuning = self.stage.node, self.stage.arm, self.tuning
        assert arm is not None
        assert tuning is not None
        settings = {**node.settings, **node.arms[arm]}
        known = {number // tuning.repeats: one.point for number, one in self._known.items()}
        return Points(node.search, settings, tuning, self.sweep.mode, known)

    def _check_population(self) -> None:
        """Refuse a population whose members could not be copied when they are to be, or be bounded."""
        tuning, name, slots = self.tuning, self.stage.name, len(self.slots)
        assert tuning is not None
        if self.total > slots:
            raise ConfigError(
                f"{name}: a population runs side by side, and {slots} of its {self.total} runs fit. Set tuning.trials={slots}, make "
                "the runs smaller, or add nodes."
            )
        for key, every in (("eval", self.config.eval.every_steps), ("checkpoint", self.config.checkpoint.every_steps)):
            if tuning.every_steps % every:
                raise ConfigError(
                    f"{name}: a population copies checkpoints every {tuning.every_steps} steps (tuning.every_steps), and "
                    f"{key}.every_steps={every} gives none then. Set {key}.every_steps={tuning.every_steps}."
                )
        if tuning.hours is not None or tuning.gpu_hours is not None:
            raise ConfigError(
                f"{name}: a population begins all of its runs at once, which tuning.hours and tuning.gpu_hours do not bound. Set steps "
                "and tuning.trials."
            )

    def configs(self) -> Iterator[RunConfig]:
        """Those of the stage's runs as they will be, with the runs of other nodes that they refer to; of a search that finds its points
        on the way those that set one range (`graph.single_points`)."""
        planned = self._planned
        if not planned:
            node, arm = self.stage.node, self.stage.arm
            assert arm is not None
            settings = {**node.settings, **node.arms[arm]}
            points = [{}, *single_points(node.search, settings)]
            planned = trials_of(self.sweep, self.stage, points, self.done, self.folder.storage)
        for one in planned:
            yield compose(one.target, one.overrides)

    @property
    def is_population(self) -> bool:
        return self.tuning is not None and self.tuning.scheduler == "pbt"

    # --- what is next ---

    def next(self) -> tuple[Tried, Work] | None:
        """The next trial, in the order of their numbers; None after the last one, or where no further one is to begin."""
        if self._next >= self.total:
            return None
        number, self._next = self._next, self._next + 1
        point = self._point(number)
        planned = self._planned[number] if self._planned else self._trial(point, number)
        work = self.work_of(planned, point, str(number))
        work = work.apart(None) if self.is_population else work
        tried = self._known.get(number)
        if tried is None:
            tried = Tried(self.stage.name, number, planned.arm, planned.seed, point, place_of(work.run))
            self._known[number] = tried = self.journal.begin(tried)
        elif not self.is_population and tried.run != place_of(work.run):  # a file that decides it has changed since
            self.journal.begin(replace(tried, run=place_of(work.run)))
        elif self.is_population:  # as it was when it was last seen
            work = self.work_of(self._trial(tried.point), tried.point, str(number))
            origin = Origin(str(self.folder.storage / tried.origin[0]), tried.origin[1]) if tried.origin else None
            work = replace(work, run=str(self.folder.storage / tried.run), origin=origin)
        return tried, work

    def twin(self, tried: Tried) -> Tried | None:
        """An earlier trial of the stage with the same settings, and so the same run."""
        return next((one for one in self._known.values() if one.run == tried.run and one.number < tried.number), None)

    def _point(self, number: int) -> dict[str, Any]:
        """Of a trial: the trials of a point come one after another, each with its own seed."""
        if self._points is None:
            return {}
        place = number // self._repeats
        if place not in self._asked:
            self._asked[place] = self._points.ask(place)
        return self._asked[place]

    def _trial(self, point: Mapping[str, Any], number: int = 0) -> Planned:
        return trials_of(self.sweep, self.stage, [point], self.done, self.folder.storage)[number % self._repeats]

    def work_of(self, planned: Planned, point: Mapping[str, Any], token: str) -> Work:
        """A planned run as a trial's work."""
        # Here, because a trial does not know that it belongs to a job, whose upload is gone when the run is resumed.
        config = keep(compose(planned.target, planned.overrides))
        run = self.folder.storage / find_workload(config.workload).name / planned.name
        return Work(planned.arm, planned.seed, dict(point), planned.key, to_values(config), str(run), token)

    def take_stored(self, tried: Tried, work: Work) -> list[dict[str, float]] | None:
        """The evaluations of a trial that need not be run: it is stored whole (without a policy perhaps with none), or was stopped
        early, or failed as its twin just now. None where it is to be run."""
        folder, twin = RunFolder(work.run), self.twin(tried)
        finished = folder.config.is_file() and is_finished(folder)
        if not finished and twin and twin.outcome == FAILED:
            self.journal.end(tried, FAILED, twin.reason, spent(folder))
            self.tell(tried.number, math.nan)
            return []
        outcome = FINISHED if finished else twin.outcome if twin else tried.outcome
        rows = evaluations(folder, self.sweep.metric)
        if outcome not in LASTING or not (rows or (finished and not self.config.learns)):
            return None
        if tried.outcome not in LASTING:
            for row in rows:
                self.journal.row(tried, int(row["step"]), row[self.sweep.metric], spent(folder))
            self.journal.end(tried, outcome, spent=spent(folder))
        self.tell(tried.number, tried.score)
        return rows

    def tell(self, number: int, score: float) -> None:
        """The search learns what a point came to once all of its trials have ended: their mean; NaN says that one failed."""
        if self._points is None:
            return
        told = self._told.setdefault(number // self._repeats, [])
        told.append(score)
        if len(told) == self._repeats:
            self._points.tell(number // self._repeats, fmean(told))

    # --- when to begin nothing more ---

    def over(self) -> str:
        """Why no further trial begins; "" where one may."""
        if self.folder.stop.exists():
            return "it was asked to stop"
        if self.tuning is None:
            return ""
        gpu_hours = spent_by(self.journal.of(self.stage.name))["gpu_seconds"] / 3600
        for name, budget, used in (
            ("hours", self.tuning.hours, self.journal.spent_h(self.stage.name)),
            ("gpu_hours", self.tuning.gpu_hours, gpu_hours),
        ):
            if budget is not None and used >= budget:
                return f"tuning.{name}={budget:g} is spent"
        return ""

    def is_busy(self) -> bool:
        """Whether a trial still has its slot."""
        return any(map(is_taken, self.slots))

    # --- a population ---

    def moved(self, work: Work) -> Work:
        """The work of a member that takes over another one's weights and, a little moved, its settings."""
        node = self.stage.node
        point = moved_point(node.search, {**node.settings, **node.arms[work.arm]}, work.point)
        return replace(self.work_of(self._trial(point), point, uuid4().hex), copies=True)


def moved_point(ranges: Sequence[Range], settings: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """A point near another one: numbers times one of `FACTORS`, listed values to a neighbour, within their ranges."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(random.randrange(2**31)))
    fresh = study.ask()
    moved: dict[str, Any] = {}
    for item in ranges:
        if not active(item, {**settings, **moved}):
            continue
        if item.key not in point or random.random() < RESAMPLED:
            moved |= draw([replace(item, when={})], settings, fresh)
        elif item.kind in LISTED:
            place = item.values.index(point[item.key]) + random.choice((-1, 1))
            moved[item.key] = item.values[min(max(place, 0), len(item.values) - 1)]
        else:
            value = min(max(point[item.key] * random.choice(FACTORS), item.low), item.high)
            moved[item.key] = round(value) if item.kind == "int" else value
    return moved


def place_of(run: str) -> str:
    """A run's folder as "workload/name"."""
    folder = RunFolder(run)
    return f"{folder.workload}/{folder.name}"
