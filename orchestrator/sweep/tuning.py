"""A stage of a sweep as an experiment of Ray Tune: what is tried next, what is stopped early, what is copied.

What was tried before, in this sweep or in another, is told to searcher and scheduler and not done again. Tune's own files are not
read for that: its restore leaves out the state of schedulers.
"""

from __future__ import annotations

import logging
import math
import os
import random
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray import cloudpickle, tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.records.display import duration
from orchestrator.records.folder import RunFolder
from orchestrator.sweep.course import Course, place_of
from orchestrator.sweep.journal import EARLY, FAILED, FINISHED, SPENT, STOPPED, Tried, in_words
from orchestrator.sweep.spec import Tuning
from orchestrator.sweep.trial import Body, Trial, Work, spent

log = logging.getLogger("orchestrator")

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # A run's paths may be relative to where the command was given.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Tune says and writes nothing of its own. A run that was stopped before its first evaluation has no score to report."""
TIME = "step"
"""What schedulers count by."""


class Next(Searcher):
    """Gives Tune the next trial while the stage's budget lasts, and ends the stage once every run's processes are gone."""

    def __init__(self, course: Course, scheduler: TrialScheduler) -> None:
        super().__init__()
        self._course, self._scheduler = course, scheduler
        self._begun: dict[str, Tried] = {}
        self._said = ""
        self._held: tuple[Tried, Work] | None = None
        self._first = self._new()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do, before anything was begun."""
        return self._first is None

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        found, self._first = self._first or self._new(), None
        if found is None:
            # Tune kills what is left a few seconds after the end of an experiment: a stopped run may need longer.
            return None if self._held or self._course.is_busy() else Searcher.FINISHED
        return {"work": self._begin(trial_id, found)}

    def everything(self) -> list[Work]:
        """All that is left to do, for a population, which begins at once."""
        first, self._first = self._first, None
        return [self._begin(found[1].token, found) for found in [first, *iter(self._new, None)] if found]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        told = {} if error or result is None or result.get("outcome") == STOPPED else result
        self._course.tell(self._begun.pop(trial_id).number, told.get(self._course.sweep.metric, math.nan))

    def save(self, checkpoint_path: str) -> None:
        """The journal has it all."""

    def _begin(self, trial_id: str, found: tuple[Tried, Work]) -> Work:
        tried, work = found
        self._begun[trial_id] = tried
        if tried.outcome:  # it failed, or was asked to stop
            self._course.journal.begin(tried)
        return work

    def _new(self) -> tuple[Tried, Work] | None:
        """The next trial that is not stored; None where there is none, or where its run is going on as another trial."""
        while True:
            over = self._course.over()
            if over and over != self._said:
                self._said = over
                log.info("%s: no further trial begins, because %s", self._course.stage.name, over)
            found, self._held = None if over else self._held or self._course.next(), None
            if found is None:
                return None
            if self._course.twin(found[0]) in self._begun.values():
                self._held = found
                return None
            rows = self._course.take_stored(*found)
            if rows is None:
                return found
            if rows:
                self._inform(found[0], rows)

    def _inform(self, tried: Tried, rows: list[dict[str, float]]) -> None:
        """The scheduler compares others with a stored trial, as if it had just run."""
        log.info("%s: trial %d is stored already: %s", tried.stage, tried.number, tried.run)
        if self._course.is_population:  # the members that are left copy one another
            return
        trial = SimpleNamespace(trial_id=f"stored-{tried.number}")
        self._scheduler.on_trial_add(None, trial)
        for row in rows:
            self._scheduler.on_trial_result(None, trial, dict(row))
        self._scheduler.on_trial_complete(None, trial, dict(rows[-1]))


class Population(PopulationBasedTraining):
    """Members run side by side all the while: Tune would have one pause, and begin again, whenever another one is starting."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(tune_controller, trial, result)
        return TrialScheduler.CONTINUE if decision == TrialScheduler.PAUSE else decision


class Watcher(tune.Callback):
    """Writes down and says what happens to the trials of a stage."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._begun: dict[str, float] = {}
        self._numbers: dict[str, int] = {}
        self._took: list[float] = []

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if trial.trial_id not in self._numbers:
            self._numbers[trial.trial_id] = int(trial.config["work"].token)
            self._begun[trial.trial_id] = time.monotonic()
            tried = self._tried(trial)
            self._say(tried, f"begins {in_words(tried.point)}".rstrip(), trials)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        tried, metric = self._tried(trial), self._course.sweep.metric
        work: Work | None = result.get("work")
        if work is None or metric not in result:
            return
        if result["run"] != tried.run:
            assert work.origin is not None, "only what was copied goes on in another run"
            donor = place_of(work.origin.run)
            origin = (donor, work.origin.step)
            self._course.journal.begin(
                Tried(tried.stage, tried.number, tried.arm, tried.seed, work.point, result["run"], origin)
            )
            self._say(tried, f"goes on from {donor}@{origin[1]} {in_words(work.point)}", trials)
        self._course.journal.row(tried, int(result[TIME]), result[metric], _spent(result))
        self._say(tried, f"step {result[TIME]}: {metric} {result[metric]:.4g}", trials)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        tried, result = self._tried(trial), trial.last_result
        self._end(trial, tried, result.get("outcome", EARLY))
        told = {
            FINISHED: "finished" + (f": {self._course.sweep.metric} {tried.score:.4g}" if tried.scores else ""),
            EARLY: f"is stopped early at step {tried.step}",
            STOPPED: f"stopped after step {tried.step}, to go on another time",
        }
        self._say(tried, told[tried.outcome], trials)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        tried, reason = self._tried(trial), _reason(trial)
        self._end(trial, tried, FAILED, reason)
        self._say(tried, f"failed: {reason}", trials)

    def _tried(self, trial: Any) -> Tried:
        number = self._numbers[trial.trial_id]
        return next(one for one in self._course.journal.of(self._course.stage.name) if one.number == number)

    def _end(self, trial: Any, tried: Tried, outcome: str, reason: str = "") -> None:
        self._course.journal.end(tried, outcome, reason, spent(RunFolder(self._course.folder.storage / tried.run)))
        self._took.append(time.monotonic() - self._begun[trial.trial_id])

    def _say(self, tried: Tried, what: str, trials: list[Any]) -> None:
        """One line, with how far the stage is."""
        known = self._course.journal.of(self._course.stage.name)
        done = sum(1 for one in known if one.outcome)
        running = sum(1 for one in known if not one.outcome and one.number in self._numbers.values())
        left = self._course.total - done
        eta = ""
        if self._took and left:
            rounds = -(-left // len(self._course.slots))
            eta = f", ETA {duration(rounds * sum(self._took) / len(self._took))}"
        counts = f"{done} of {self._course.total} done, {running} running{eta}"
        log.info("%s: trial %d %s  (%s)", tried.stage, tried.number, what, counts)


def scheduler_of(course: Course) -> TrialScheduler:
    """What stops and copies trials."""
    tuning = course.tuning or Tuning()
    searched = [item for item in course.stage.node.search if item.key == "steps"]
    steps = int(max([course.config.steps, *(most for item in searched for most in (*item.values, item.high))]))
    by: dict[str, Any] = {"time_attr": TIME, "metric": course.sweep.metric, "mode": course.sweep.mode}
    if tuning.scheduler == "asha":
        return AsyncHyperBandScheduler(
            **by,
            max_t=max(1, steps),
            grace_period=max(1, min(tuning.grace_steps, steps)),
            reduction_factor=tuning.reduction,
        )
    if tuning.scheduler == "pbt":
        return Population(
            **by,
            perturbation_interval=tuning.every_steps,
            custom_explore_fn=lambda config: {**config, "work": course.moved(config["work"])},
            log_config=False,
            require_attrs=False,
        )
    return FIFOScheduler()


def tuner_of(course: Course, body: Body) -> tune.Tuner | None:
    """The experiment of a stage; None where all of it is stored."""
    os.environ.update(ENVIRONMENT)
    for name in ("ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    scheduler = scheduler_of(course)
    searcher = Next(course, scheduler)
    if searcher.is_idle:
        return None
    space: dict[str, Any] = {
        "slots": course.slots, "stop": course.folder.stop, "metric": course.sweep.metric, "pins": course.is_population,
        "body": body,
    }  # fmt: skip
    options: dict[str, Any] = {
        "search_alg": searcher, "num_samples": -1, "max_concurrent_trials": len(course.slots),
    }  # fmt: skip
    if course.is_population:  # Tune takes no searcher beside it
        assert course.tuning is not None
        random.seed(course.tuning.seed)
        warnings.filterwarnings("ignore", message="Consider boosting PBT")
        space["work"], options = tune.grid_search(searcher.everything()), {}
    return tune.Tuner(
        Trial,
        param_space=space,
        tune_config=tune.TuneConfig(scheduler=scheduler, **options),
        run_config=tune.RunConfig(
            name=f"{course.stage.node.name}-{time.time_ns()}",
            storage_path=str(course.folder.tune),
            verbose=0,
            callbacks=[Watcher(course)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )


def _reason(trial: Any) -> str:
    """Why a trial failed: the run's own words, or Tune's where its process died."""
    if trial.pickled_error_file is None:
        return Path(trial.error_file).read_text()
    error = cloudpickle.loads(Path(trial.pickled_error_file).read_bytes())
    return str(getattr(error, "cause", None) or error)


def _spent(result: Mapping[str, Any]) -> dict[str, float]:
    return {name: result[name] for name in SPENT}
