"""The story of one run, as the driver tells it.

settings -> plan -> preflight -> what is gathered -> starting models -> fleets and learner -> (the loop, on the ranks) -> summary
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.cluster.needs import needs_of
from orchestrator.cluster.plan import Plan, gathering_plans, make_plan
from orchestrator.cluster.preflight import (
    check_engines,
    check_fit,
    check_memory,
    gpu_memory_gb,
    nodes_of_cluster,
    nodes_there,
    wait_for_room,
)
from orchestrator.cluster.session import connected, joins
from orchestrator.cluster.upload import keep
from orchestrator.config.compose import compose, to_values
from orchestrator.config.evaluation import EvaluationConfig
from orchestrator.config.functions import files_of
from orchestrator.config.own_code import own_code
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.contamination import guard
from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets.fleet import start_servers
from orchestrator.fleets.pool import is_running, lease, pool_of
from orchestrator.fleets.pool_manager import PoolSpec
from orchestrator.fleets.remote import keys_of, remote_fleets
from orchestrator.fleets.specs import specs_of
from orchestrator.following import follow_through
from orchestrator.gathering import gather, write_rows
from orchestrator.learning.starting import StartingModel, check_tasks, starting_model
from orchestrator.records import ledger, metrics, trained_on
from orchestrator.records.display import Display
from orchestrator.records.folder import RunFolder, check_storage, step_name, step_of, write_json
from orchestrator.records.mirror import Mirror, check_mirror
from orchestrator.values import POLICY

log = logging.getLogger("orchestrator")


def run(
    config: RunConfig,
    checkpoint: Path | None = None,
    folder: RunFolder | None = None,
    servers: Mapping[str, Sequence[Any]] | None = None,
) -> int:
    """Run one experiment to its end. Returns the exit status; raises RunError for what a user can mend.

    checkpoint: where to go on from. folder: the run that is resumed; without it a new run begins (from the checkpoint: a fork).
    servers: by role, where they are there already and stay for other runs with the same models (`start_fleets`).
    """
    config = keep(config)
    check_mirror(config.mirror)
    if isinstance(config, EvaluationConfig):
        from orchestrator.evaluating import evaluate  # which writes its records as this module does

        return evaluate(config, folder)
    source = find_workload(config.workload)
    name = config.name or f"{config.preset}-seed{config.seed}-{time.strftime('%m%d-%H%M%S')}"
    with Display(f"{source.name}/{folder.name if folder else name}", config.steps) as display, ExitStack() as stack:
        if joins(config.cluster):
            display.announce("connecting to Ray")
            stack.enter_context(connected(config.cluster))
        check_storage(config.storage)
        plan = preflight(config)
        display.announce("reading data and models")
        workload: Any = source.workload(config)
        gathered = gather(config, workload, display.announce)
        # A run that is resumed goes on with what it was begun with.
        finding = None if folder else guard.look(config, workload, display.announce)
        workload = guard.without(workload, finding.dropped) if finding else guard.recall(workload, folder)
        models = starting_models(config, workload, Path(config.storage))
        # The ranks, who ask them later, would find out in a minute or two.
        remote_fleets(config, keys_of(config))
        display.announce("starting Ray")
        stack.enter_context(connected(config.cluster))
        # This machine may show more than Ray was given: CUDA_VISIBLE_DEVICES, a container's share of CPUs.
        check_fit(plan, nodes_of_cluster())
        there = [*(servers or ()), *pools_there(config, models)]
        wait_for_room(plan.without(there), config.cluster.placement_deadline_s, display.announce)
        folder = folder or RunFolder.create(
            config.storage, source.name, name, to_values(config) | {"files": files_of(config)}
        )
        folder.begin()
        if gathered:
            write_rows(folder, gathered)
        if finding:
            guard.keep(folder, finding)
            trained_on.keep(folder, config, finding.rest(), checkpoint.parents[1] if checkpoint else None)
        mirror = Mirror(config.mirror, folder)
        try:
            status = execute(config, folder, models, servers, checkpoint, display)
        finally:
            mirror.finish()
            folder.end()
    show(folder)
    mirror.finish()
    if status == "stopped" and folder.newest_checkpoint():
        log.warning("stopped; go on with: orchestrate train --resume %s", folder.path)
    elif status == "stopped":
        log.warning("stopped before the first step; what was taught is kept for the next run")
    return 0 if status == "finished" else 130


def preflight(config: RunConfig) -> Plan:
    """What the run places, after a look at whether that can ever fit. Raises PreflightError with what is asked and what is there."""
    plan = make_plan(config)
    nodes = nodes_there(config.cluster)
    check_fit(plan, nodes)
    for asked in gathering_plans(config):
        check_fit(asked, nodes)
    check_engines(plan)
    check_memory(needs_of(config, gpu_memory_gb(config.cluster)))
    return plan


def execute(
    config: RunConfig,
    folder: RunFolder,
    models: Sequence[StartingModel],
    servers: Mapping[str, Sequence[Any]] | None,
    checkpoint: Path | None,
    display: Display,
) -> str:
    """Start fleets and learner, follow them to their end, record it. Returns "finished" or "stopped"."""
    import ray

    write_json(folder.models, {model.role: model.reference(Path(config.storage)) for model in models})
    display.announce(f"run folder: {folder.path}")
    for model in models:
        display.announce(f"{model.role}: {'to be taught' if model.to_teach else 'ready'}, {model.folder}")
    began, status, reason, ours = time.time(), "failed", None, {}
    try:
        ours = {} if servers else start_fleets(config, models)
        with holding_pools(config, models, f"the driver of {folder.name}") as pools:
            payload = payload_of(config, folder, models, servers or ours, checkpoint, began, pools)
            display.announce(
                f"starting {config.learner.ranks} learner rank(s); on two cores their imports take a minute or two"
            )
            status = follow_through(config, folder, payload, display)
    except RunError as error:
        reason = str(error)
        raise
    finally:
        for handle in itertools.chain.from_iterable(ours.values()):
            ray.kill(handle)
        record(folder, status, reason)
    return status


def resume(run_folder: Path, overrides: Sequence[str]) -> int:
    """Continue a run from its newest checkpoint. Only `steps` may change: anything else would make it another run."""
    folder = RunFolder.open(run_folder)
    other = [text for text in overrides if not text.startswith("steps=")]
    if other:
        raise ConfigError(
            f"--resume {folder.name}: {other[0]} would change the run. Fork it instead: --from {folder.name} {other[0]}"
        )
    checkpoint = folder.newest_checkpoint()
    if checkpoint is None:
        raise RunError(
            f"{folder.path} has no checkpoint to resume from. Start it again: orchestrate train {folder.config} name=another-name"
        )
    config = continued(folder, checkpoint, overrides)
    check_files(folder, config)
    folder.change_setting("steps", config.steps)
    return run(config, checkpoint, folder)


def fork(run_folder: Path, step: int | None, overrides: Sequence[str]) -> int:
    """Begin a new run from a checkpoint of another one, with other settings."""
    folder = RunFolder.open(run_folder)
    checkpoint = folder.newest_checkpoint() if step is None else folder.checkpoints / step_name(step)
    if checkpoint is None or not checkpoint.is_dir():
        there = ", ".join(sorted(path.name for path in folder.checkpoints.glob("step-*"))) or "none"
        wanted = folder.name if step is None else f"{folder.name}@{step}"
        raise RunError(f"--from {wanted}: no such checkpoint in {folder.checkpoints} (there: {there}).")
    return run(continued(folder, checkpoint, ["name=null", *overrides]), checkpoint)


def check_files(folder: RunFolder, config: RunConfig) -> None:
    """Refuse to go on with files of one's own that have changed: half a run by one reward and half by another is neither.

    Raises ConfigError.
    """
    began_with = folder.settings().get("files", {})
    changed = [path for path, digest in files_of(config).items() if began_with.get(path, digest) != digest]
    if changed:
        raise ConfigError(
            f"--resume {folder.name}: {', '.join(changed)} changed since the run began, and the rest would be another run. Restore "
            f"it, or begin another run from the checkpoint: --from {folder.name}"
        )


def continued(folder: RunFolder, checkpoint: Path, overrides: Sequence[str]) -> RunConfig:
    """A run's settings to go on from a checkpoint with. Raises RunError where that leaves no step to do."""
    # The folder may have been moved since: what is beside it is the storage.
    config = compose(str(folder.config), [f"storage={folder.path.parent.parent}", *overrides])
    done = step_of(checkpoint)
    if done >= config.steps:
        raise RunError(
            f"{checkpoint} has done all of the {config.steps} steps: nothing to resume. Ask for more: steps={2 * done}"
        )
    return config


def starting_models(config: RunConfig, workload: Any, storage: Path) -> list[StartingModel]:
    """The model of every role that is not answered by a URL. Raises RunError where they or the data will not do."""
    with own_code("the workload's tasks()", workload):
        tasks = {split: list(workload.tasks(split)) for split in config.splits()}
    with own_code("the workload's lessons()", workload):
        lessons = workload.lessons()
    models = [
        starting_model(name, role, config.learner, workload, lessons, storage.resolve())
        for name, role in config.roles().items()
        if not role.elsewhere
    ]
    check_tasks(config, tasks, next((model for model in models if model.role == POLICY), None))
    return models


def start_fleets(config: RunConfig, models: Sequence[StartingModel]) -> dict[str, list[Any]]:
    """The servers of every role, by role. Colocated ones are started by the learner, whose GPUs they share: none here."""
    if config.colocated:
        return {}
    return {model.role: start_servers(specs_of(config, model)) for model in models if model.served}


@contextmanager
def holding_pools(config: RunConfig, models: Sequence[StartingModel], holder: str) -> Iterator[tuple[PoolSpec, ...]]:
    """A lease of each shared role's pool, so that a learner that is started again finds it alive."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(lease(config, model, holder)) for model in shared_models(config, models))


def pools_there(config: RunConfig, models: Sequence[StartingModel]) -> list[str]:
    """The shared roles whose pools the cluster has already."""
    return [model.role for model in shared_models(config, models) if is_running(pool_of(config, model))]


def shared_models(config: RunConfig, models: Sequence[StartingModel]) -> list[StartingModel]:
    """The models of the roles that pools answer."""
    return [model for model in models if config.roles()[model.role].shared]


def payload_of(
    config: RunConfig,
    folder: RunFolder,
    models: Sequence[StartingModel],
    servers: Mapping[str, Sequence[Any]],
    checkpoint: Path | None,
    began: float,
    pools: Sequence[PoolSpec] = (),
) -> dict[str, Any]:
    """What the learner's ranks are given: plain data and actor handles. The raters' keys travel here and nowhere else.

    began: when the run took its resources, in seconds since the epoch.
    """
    return {
        "config": to_values(config),
        "folder": str(folder.path.resolve()),
        "models": [asdict(model) for model in models],
        "servers": dict(servers),
        "keys": keys_of(config),
        "checkpoint": str(checkpoint.resolve()) if checkpoint else None,
        "began": began,
        "pools": tuple(pools),
    }


def record(folder: RunFolder, status: str, reason: str | None, also: Mapping[str, Any] | None = None) -> None:
    """Compact the logs and write the summary; of a run that failed after its first row the page and the pictures too.

    also: further entries of the summary.
    """
    from orchestrator.records.report import summarise  # with its libraries seconds, which a run need not begin with

    metrics.compact(folder.metrics_log, folder.metrics_parquet)
    ledger.compact(folder.ledger_log, folder.ledger)
    write_json(folder.summary, summarise(folder, status, reason) | dict(also or {}))
    begun = reason is not None and metrics.read(folder.metrics_log)
    # Quiet: the error itself says on the terminal what failed.
    if begun and show(folder, Console(quiet=True)):
        log.warning("how far it came: %s", folder.report)


def show(folder: RunFolder, console: Console | None = None) -> bool:
    """Write the page and the pictures of a run that has ended and print what it came to. What fails there is a warning.

    Returns whether all went well.
    """
    from orchestrator.records.report import render

    try:
        render(folder, console)
    # All of the run is on disk. Libraries that draw raise what they like at names and numbers that are the user's own, and none
    # of it may look as if the run had failed, or hide why it did.
    except Exception as error:
        log.warning(
            "the report failed (%s: %s), the run's records did not; write it again with: orchestrate report %s",
            type(error).__name__,
            error,
            folder.path,
        )
        return False
    return True
