"""The story of one sweep, as the driver tells it.

definition -> folder -> [what the stage needs -> how many fit -> trials under Ray Tune -> its winner] x stages -> summary
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ray.tune import Tuner

from orchestrator.cluster.preflight import nodes_of_cluster
from orchestrator.cluster.session import connected
from orchestrator.config.schema import FleetConfig, RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.contamination import guard
from orchestrator.experiment import run
from orchestrator.fleets.pool import lease
from orchestrator.following import stopping
from orchestrator.learning.starting import starting_model
from orchestrator.records.display import Display
from orchestrator.records.folder import RunFolder
from orchestrator.records.log import logged
from orchestrator.sweep import summary
from orchestrator.sweep.capacity import at_once
from orchestrator.sweep.course import Course
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.graph import (
    Configured,
    MissingRunError,
    check_stages,
    evaluated_by,
    is_as_planned,
    is_of,
    plan_of,
    stages,
)
from orchestrator.sweep.journal import FINISHED, Journal, best_point
from orchestrator.sweep.spec import Done, Sweep
from orchestrator.sweep.standing import to_mend
from orchestrator.sweep.trial import Body, release
from orchestrator.sweep.tuning import tuner_of

log = logging.getLogger("orchestrator")
STOPPED, FAILED = 130, 1
STOPPING = "stopping: every run in flight ends its step and writes a checkpoint"
POLL_S = 0.2


def run_sweep(sweep: Sweep, storage: Path, resume: bool, command: str, body: Body = run) -> int:
    """Run a sweep, or what is left of it. Returns the exit status: 0, 1 where a run failed, 130 where it was stopped.

    storage: folder of all runs. resume: there is a folder of this sweep already, and nodes may have been added. command: the line that
    goes on with the sweep. body: what is run, as `experiment.run`. Raises RunError for what a user can mend.
    """
    folder = SweepFolder.begin(storage, sweep, resume)
    folder.command.write_text(command)
    journal = Journal(folder.journal)
    with Display(f"sweep {sweep.name}", 0, terminal=False) as display:
        display.announce(f"sweep folder: {folder.path}")
        first = sweep.nodes[0]
        cluster = Configured(sweep, first, next(iter(first.arms)), folder.storage)(0, {}).cluster
        with logged(folder.log), stopping(folder.stop, STOPPING, log.info), connected(cluster):
            skipped = _run_stages(sweep, folder, journal, body)
    summary.conclude(sweep, folder, journal, skipped)
    folder.end()
    if folder.stop.exists():
        log.warning("stopped; go on with: %s", command)
        return STOPPED
    return FAILED if to_mend(folder, journal.all()) or skipped else 0


def _run_stages(sweep: Sweep, folder: SweepFolder, journal: Journal, body: Body) -> dict[str, str]:
    """All stages that are not done, one after another. Returns why stages were skipped, by name."""
    closed, done = folder.done()
    skipped: dict[str, str] = {}
    left = [stage for stage in stages(sweep) if stage.name not in closed]
    check_stages(sweep, left, nodes_of_cluster(), folder.storage)
    guard.written_for_runs(folder.evaluations, evaluated_by(sweep, folder.storage))
    for stage in stages(sweep):
        if stage.name in closed and is_as_planned(sweep, stage, done, folder.storage):
            log.info("%s: done already", stage.name)
            continue
        done = [one for one in done if not is_of(one, stage)]
        try:
            fits = at_once(plan_of(sweep, stage, folder.storage), nodes_of_cluster(), sweep.at_once)
            course = Course(sweep, stage, folder, journal, done, fits)
        except MissingRunError as error:
            skipped[stage.name] = str(error)
            log.warning("%s: skipped, because %s", stage.name, error)
            continue
        journal.open(stage.name)
        log.info("%s: %d run(s), %d at once", stage.name, course.total, len(course.slots))
        _follow(course, body)
        if folder.stop.exists():
            break
        found = _done(course)
        done += [one for one in found if one not in done]
        if found and (stage.arm is not None or len(found) == course.total):
            folder.close(stage, done)
    return skipped


@contextmanager
def _holding_pools(course: Course) -> Iterator[None]:
    """A lease of the pools that the stage's runs share, so that they live on between them. The journal has what they took."""
    asked = shared_by(course.configs())
    if not asked:
        yield
        return
    began = time.monotonic()
    with ExitStack() as stack:
        for name, config in asked.items():
            workload = find_workload(config.workload).workload(config)
            role = config.roles()[name]
            model = starting_model(name, role, config.learner, workload, (), course.folder.storage)
            stack.enter_context(lease(config, model, f"sweep {course.sweep.name}"))
        try:
            yield
        finally:
            fleets = [config.roles()[name].fleet for name, config in asked.items()]
            course.journal.pool(course.stage.name, pools_took(fleets, time.monotonic() - began))


def shared_by(configs: Iterable[RunConfig]) -> dict[str, RunConfig]:
    """The shared raters of which all of these runs that ask one ask the same, by name: one of the runs that do. Of several models each
    run holds its own, as `plan_of` counts them."""
    asked: dict[str, dict[str, RunConfig]] = {}
    for config in configs:
        for name, role in config.roles().items():
            if role.shared:
                asked.setdefault(name, {}).setdefault(repr((role.name, role.model, role.fleet)), config)
    return {name: next(iter(models.values())) for name, models in asked.items() if len(models) == 1}


def pools_took(fleets: Sequence[FleetConfig], seconds: float) -> dict[str, float]:
    """What the servers of pools held in this time, by the names of `journal.SPENT`."""
    cpus = sum(fleet.servers * fleet.cpus_per_server for fleet in fleets)
    gpus = sum(fleet.servers * fleet.gpus_per_server for fleet in fleets)
    return {"seconds": seconds, "cpu_seconds": seconds * cpus, "gpu_seconds": seconds * gpus}


def _follow(course: Course, body: Body) -> None:
    """Run the experiment of a stage to its end; nothing is started where all of it is stored."""
    tuner = tuner_of(course, body)
    if tuner is None:
        return
    with _holding_pools(course):
        _fit(tuner)
    if course.is_population and not course.folder.stop.exists():
        for run_name in {name for one in course.journal.of(course.stage.name) for name in one.runs}:
            release(RunFolder(course.folder.storage / run_name), course.config.checkpoint.keep)


def _fit(tuner: Tuner) -> None:
    """Run an experiment in a thread: on the main one Tune would take over Ctrl-C."""
    failure: list[BaseException] = []

    def fit() -> None:
        try:
            tuner.fit()
        # Whatever ends Tune is raised again on the main thread.
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=fit, name="tune", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
    if failure:
        raise failure[0]


def _done(course: Course) -> list[Done]:
    """What later stages may name: the winner of a search, the finished runs of a stage without one."""
    stage, tried = course.stage, course.journal.of(course.stage.name)
    if stage.arm is None:
        return [Done(stage.node.name, one.arm, one.seed, one.run) for one in tried if one.outcome == FINISHED]
    best = best_point(tried, course.sweep.mode)[:1]
    return [Done(stage.node.name, one.arm, one.seed, one.run, dict(one.point), True) for one in best]
