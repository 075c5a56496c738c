"""The story of one run, as the driver tells it.

settings -> plan -> preflight -> starting models -> fleets and learner -> (the loop, on the learner's ranks) -> summary
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.cluster.plan import make_plan
from orchestrator.cluster.preflight import check_fit, nodes_of_cluster
from orchestrator.cluster.session import connected
from orchestrator.config.compose import to_values
from orchestrator.config.references import ModelReference
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.director import STOP
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import start_servers
from orchestrator.fleets.server import ServerSpec
from orchestrator.learning.starting import StartingModel, starting_model
from orchestrator.records import ledger, metrics
from orchestrator.records.display import Display
from orchestrator.records.folder import RunFolder, write_json
from orchestrator.records.report import render, summarise
from orchestrator.records.tracking import Tracker

log = logging.getLogger("orchestrator")
POLL_S = 0.2


def run(config: RunConfig) -> int:
    """Run one experiment to its end. Returns the exit status; raises RunError for what a user can mend."""
    source = find_workload(config.workload)
    workload = source.workload(config)
    name = config.name or f"{config.preset}-seed{config.seed}-{time.strftime('%m%d-%H%M%S')}"
    with Display(f"{source.name}/{name}", config.steps) as display:
        display.announce("starting Ray")
        with connected(config.cluster):
            check_fit(make_plan(config), nodes_of_cluster())
            folder = RunFolder.create(config.storage, source.name, name, to_values(config))
            display.announce(f"run folder: {folder.path}")
            models = starting_models(config, workload, Path(config.storage))
            for model in models:
                display.announce(f"{model.role}: {'to be taught' if model.to_teach else 'ready'}, {model.folder}")
            servers = {model.role: start_servers(specs_of(config, model)) for model in models}
            status = follow(config, folder, payload_of(config, folder, models, servers), display)
    finish(folder, status)
    return 0 if status == "finished" else 130


def starting_models(config: RunConfig, workload: Any, storage: Path) -> list[StartingModel]:
    """The policy's and, unless it is a URL, the judge's."""
    storage = storage.resolve()
    lessons = workload.lessons()
    judge = config.judge
    models = [
        starting_model(
            "policy", config.model.name, config.model, config.warmup, config.seed, workload, lessons, storage
        )
    ]
    if ModelReference.parse(judge.name).kind != "url":
        models.append(starting_model("judge", judge.name, judge.model, judge.training, 0, workload, lessons, storage))
    return models


def specs_of(config: RunConfig, model: StartingModel) -> list[ServerSpec]:
    """The servers of a role's fleet."""
    shape, fleet = (
        (config.model, config.rollout.fleet) if model.role == "policy" else (config.judge.model, config.judge.fleet)
    )
    return [
        ServerSpec(model.role, index, model.folder, model.has_weights, shape, fleet) for index in range(fleet.servers)
    ]


def payload_of(
    config: RunConfig, folder: RunFolder, models: Sequence[StartingModel], servers: Mapping[str, Sequence[Any]]
) -> dict[str, Any]:
    """What the learner's ranks are given: plain data and actor handles."""
    return {
        "config": to_values(config),
        "folder": str(folder.path.resolve()),
        "models": [asdict(model) for model in models],
        "servers": dict(servers),
    }


def follow(config: RunConfig, folder: RunFolder, payload: Mapping[str, Any], display: Display) -> str:
    """Start the learner, show and mirror what it writes until it ends. Returns "finished" or "stopped".

    The first Ctrl-C lets the step end and a checkpoint be written, the second ends everything at once.
    """
    outcome = Outcome(config, payload)
    rows, events = metrics.Follower(folder.metrics_log), metrics.Follower(folder.events)
    tracker = Tracker(config, folder)

    def show_news() -> None:
        for event in events.new():
            display.show(event)
        for row in rows.new():
            display.step(row)
            tracker.log(int(row["step"]), row)

    outcome.start()
    try:
        while outcome.running(POLL_S):
            try:
                show_news()
            except KeyboardInterrupt:
                if (folder.path / STOP).exists():
                    raise
                (folder.path / STOP).touch()
                display.announce("stopping after this step, with a checkpoint; press Ctrl-C again to end at once")
        show_news()
    finally:
        tracker.finish()
    outcome.raise_failure()
    return "stopped" if (folder.path / STOP).exists() else "finished"


class Outcome:
    """Ray Train in a thread of its own: its `fit` blocks, and on the main thread it would take over Ctrl-C."""

    def __init__(self, config: RunConfig, payload: Mapping[str, Any]) -> None:
        self._config, self._payload = config, payload
        self._thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)
        self._failure: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def running(self, wait_s: float) -> bool:
        """Whether the learner still works, after at most `wait_s`."""
        self._thread.join(wait_s)
        return self._thread.is_alive()

    def raise_failure(self) -> None:
        """Raise what ended the learner, as a RunError with the failing rank's own words."""
        if self._failure is not None:
            raise RunError(explain_failure(self._failure)) from self._failure

    def _fit(self) -> None:
        from orchestrator.loop import train

        try:
            trainer_of(self._config, train, self._payload).fit()
        # Whatever ends Ray Train is raised again on the main thread.
        except Exception as error:
            self._failure = error


def trainer_of(config: RunConfig, train: Any, payload: Mapping[str, Any]) -> Any:
    """Ray Train's trainer over the learner's ranks."""
    from ray.train import FailureConfig, ScalingConfig
    from ray.train import RunConfig as TrainRunConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    learner = config.learner
    resources: dict[str, float] = {"CPU": learner.cpus_per_rank} | ({"GPU": 1} if learner.gpus_per_rank else {})
    return TorchTrainer(
        train,
        train_loop_config=dict(payload),
        torch_config=TorchConfig(
            backend="nccl" if learner.gpus_per_rank else "gloo", timeout_s=int(learner.collective_deadline_s)
        ),
        scaling_config=ScalingConfig(
            num_workers=learner.ranks, use_gpu=bool(learner.gpus_per_rank), resources_per_worker=resources
        ),
        run_config=TrainRunConfig(
            name=f"{Path(payload['folder']).name}-{time.time_ns()}",
            storage_path=str(Path(config.storage).resolve() / ".cache" / "ray_train"),
            failure_config=FailureConfig(max_failures=0),
        ),
    )


def explain_failure(error: Exception) -> str:
    """The failing rank's message. A RunError there is the whole story; anything else comes with its traceback."""
    text = str(error)
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        cause = getattr(failure, "base_exc", None) or failure
        if isinstance(cause, RunError):
            return str(cause)
    told = re.findall(r"RunError: (.+)", text)
    return told[0] if told else f"the learner failed:\n{text}"


def finish(folder: RunFolder, status: str) -> None:
    """Compact the logs, write the summary, draw and print."""
    metrics.compact(folder.metrics_log, folder.metrics_parquet)
    ledger.compact(folder.ledger_log, folder.ledger)
    write_json(folder.summary, summarise(folder, status))
    render(folder)
