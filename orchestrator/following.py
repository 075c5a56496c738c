"""The learner of a run: started, shown while it works, started again where a rank was lost, and its failure explained."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.cluster.plan import make_plan
from orchestrator.cluster.preflight import wait_for_room
from orchestrator.config.schema import RunConfig
from orchestrator.errors import RunError
from orchestrator.records import metrics
from orchestrator.records.display import Display
from orchestrator.records.folder import RunFolder, step_of
from orchestrator.records.tracking import Tracker

POLL_S = 0.2
_COLLECTIVE = re.compile(r"gloo/transport|DistBackendError|DistNetworkError|ncclRemoteError|ncclSystemError")
"""What torch and its backends say where a peer of a collective is gone."""


def follow_through(config: RunConfig, folder: RunFolder, payload: Mapping[str, Any], display: Display) -> str:
    """`follow`, going on from the newest checkpoint when a rank was lost with its process or node (learner.max_restarts)."""
    news = News(config, folder, display)
    try:
        for restarts in range(config.learner.max_restarts + 1):
            try:
                return follow(config, folder, payload, news)
            except RankLostError as lost:
                if restarts == config.learner.max_restarts:
                    raise
                checkpoint = folder.newest_checkpoint()
                since = f"from step {step_of(checkpoint)}" if checkpoint else "from where it began"
                display.announce(f"{lost} Going on {since}, restart {restarts + 1} of {config.learner.max_restarts}.")
                payload = {**payload, "checkpoint": str(checkpoint.resolve()) if checkpoint else payload["checkpoint"]}
                learner = make_plan(config).without(config.roles())
                wait_for_room(learner, config.cluster.placement_deadline_s, display.announce)
    finally:
        news.close()
    raise AssertionError("the last attempt returns or raises")


class News:
    """Shows what the learner writes into the run folder and mirrors it to W&B, each line once."""

    def __init__(self, config: RunConfig, folder: RunFolder, display: Display) -> None:
        self.display, self.last_step = display, -1
        self._rows, self._events = metrics.Follower(folder.metrics_log), metrics.Follower(folder.events)
        self._tracker = Tracker(config, folder)

    def show(self) -> None:
        for event in self._events.new():
            self.display.show(event)
        for row in self._rows.new():
            self.last_step = int(row["step"])
            self.display.step(row)
            self._tracker.log(self.last_step, row)

    def close(self) -> None:
        self._tracker.finish()


def follow(config: RunConfig, folder: RunFolder, payload: Mapping[str, Any], news: News) -> str:
    """Start the learner, show and mirror what it writes until it ends. Returns "finished" or "stopped".

    The first Ctrl-C or SIGTERM lets the step end and a checkpoint be written, the second ends everything at once.
    """
    outcome = Outcome(config, payload)

    with stopping(folder.stop, "stopping after this step, with a checkpoint", news.display.announce):
        outcome.start()
        while outcome.running(POLL_S):
            news.show()
        news.show()
    outcome.raise_failure()
    return "finished" if news.last_step >= config.steps else "stopped"


@contextmanager
def stopping(stop: Path, words: str, tell: Callable[[str], None]) -> Iterator[None]:
    """While the block runs, the first Ctrl-C or SIGTERM (a job that is stopped, a Slurm time limit) makes the file `stop`, which asks
    for an orderly end, and tells what comes (words); the second raises KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, frame: Any) -> None:
        if stop.exists():
            raise KeyboardInterrupt
        stop.touch()
        tell(f"{words}; once more ends everything at once")

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


class RankLostError(RunError):
    """Processes of the learner died, by themselves or with their node; what they said is not to blame."""


class Outcome:
    """Ray Train in a thread of its own: its `fit` blocks, and on the main thread it would take over Ctrl-C."""

    def __init__(self, config: RunConfig, payload: Mapping[str, Any]) -> None:
        self._config, self._payload = config, payload
        self._thread = threading.Thread(target=self._fit, name="ray-train", daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def running(self, wait_s: float) -> bool:
        """Whether the learner still works, after at most `wait_s`."""
        self._thread.join(wait_s)
        return self._thread.is_alive()

    def raise_failure(self) -> None:
        """Raise what ended the learner: RankLostError where a rank's process died, else a RunError with the rank's own words."""
        if self._failure is not None:
            lost = lost_ranks(self._failure)
            raise (RankLostError(lost) if lost else RunError(explain_failure(self._failure))) from self._failure

    def _fit(self) -> None:
        try:
            from orchestrator.loop import train

            trainer_of(self._config, train, self._payload).fit()
        # Whatever ends Ray Train is raised again on the main thread.
        except BaseException as error:
            self._failure = error


def trainer_of(config: RunConfig, train: Any, payload: Mapping[str, Any]) -> Any:
    """Ray Train's trainer over the learner's ranks."""
    from ray.train import FailureConfig, ScalingConfig
    from ray.train import RunConfig as TrainRunConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    learner = config.learner
    resources: dict[str, float] = {"CPU": learner.cpus_per_rank} | (
        {"GPU": learner.gpus_per_rank} if learner.gpus_per_rank else {}
    )
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
            # A group that cannot be placed would otherwise be asked for again for ever; once more is for a node that dies meanwhile.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=1),
        ),
    )


def lost_ranks(error: BaseException) -> str:
    """What was lost, in words, where processes of the learner died and nothing else went wrong; else "".

    The ranks that live fail in their collectives, often before Ray knows of the others' end.
    """
    from ray.exceptions import RayActorError

    failures = getattr(error, "worker_failures", None) or {}
    # Ray Train wraps what its health check met.
    causes = {rank: getattr(failure, "health_check_failure", failure) for rank, failure in failures.items()}
    died = sorted(rank for rank, cause in causes.items() if isinstance(cause, RayActorError))
    cut_off = [rank for rank, cause in causes.items() if _COLLECTIVE.search(str(cause))]
    if any(isinstance(cause, RunError) for cause in causes.values()):
        return ""  # its own words are the reason
    if died:
        return f"learner rank {', '.join(map(str, died))} died (its process was killed, or its node is gone)."
    if not cut_off or len(cut_off) < len(causes):
        return ""
    return f"learner rank {', '.join(map(str, cut_off))} lost its connection to another one (its node is gone, or cut off)."


def explain_failure(error: BaseException) -> str:
    """The failing rank's message. A RunError there is the whole story; anything else comes with its traceback."""
    text = str(error)
    failures = getattr(error, "worker_failures", None) or {}
    for failure in failures.values():
        if isinstance(failure, RunError):
            return str(failure)
    told = re.findall(r"RunError: (.+)", text)
    return told[0] if told else f"the learner failed:\n{text}"
