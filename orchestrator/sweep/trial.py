"""A run as a trial of Ray Tune: a light process without CPUs or GPUs of its own that drives one run in a thread.

The run's fleets and learner hold placements of their own. A trial begins its run once it has one of the sweep's slots, and keeps
the slot until its run's processes are gone, or its own process is: so no run waits half-placed for what an ending one still holds.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from orchestrator.cluster.session import apart_from_head
from orchestrator.config.compose import from_values
from orchestrator.errors import RunError
from orchestrator.records import jsonl, ledger, metrics
from orchestrator.records.folder import PINNED, RunFolder, give_back, step_name, step_of, take
from orchestrator.sweep.journal import FINISHED, SPENT, STOPPED

POLL_S = 0.1
STOP_DEADLINE_S = 540.0
"""Longest wait for a stopped run to write its checkpoint and end; Tune kills a trial's process 60 s later."""

SAVED = "saved"
"""Content of the pin of a checkpoint that Tune has been given, and may hand to any trial until the stage ends."""

Body = Callable[..., int]
"""`orchestrator.experiment.run`, or what stands for it in tests."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The checkpoint that a run of a population was forked from. run: its folder."""

    run: str
    step: int


@dataclass(frozen=True, slots=True)
class Work:
    """What a trial does. point: what a search set. values: all settings. run: the folder of its run.

    token: of a population's member between two copies; it tells its own checkpoints from another's. copies: whether it begins with
    the checkpoint that it is handed. origin: of a run that was begun so.
    """

    arm: str
    seed: int
    point: Mapping[str, Any]
    key: str
    values: Mapping[str, Any]
    run: str
    token: str = ""
    copies: bool = False
    origin: Origin | None = None

    def handed(self, pointer: Mapping[str, Any]) -> Work:
        """The work with a checkpoint that Tune hands over: its own of before a pause, or another member's to go on from."""
        if pointer["token"] == self.token:
            return replace(self, run=pointer["run"], origin=pointer["origin"])
        if not self.copies:
            raise RunError(f"{self.run} was handed a checkpoint of {pointer['run']}, which it did not ask for.")
        return self.apart(Origin(pointer["run"], pointer["step"]))

    def apart(self, origin: Origin | None) -> Work:
        """The work in a run of its own, whose key also says whose it is and what it was forked from."""
        decides = hashlib.sha256(repr((self.key, self.token, origin)).encode()).hexdigest()[: len(self.key)]
        run = Path(self.run)
        return replace(self, run=str(run.with_name(run.name.replace(self.key, decides))), origin=origin)


class Trial(tune.Trainable):
    """What Tune starts, steps and stops. config: work, slots (folders), stop (the sweep's stop file), metric, pins, body.

    pins: whether other trials may copy this one's checkpoints.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """One byte: Tune refuses a trial that asks for nothing. On any node but the head."""
        seat = apart_from_head()
        return tune.PlacementGroupFactory([{"memory": 1}], **({"bundle_label_selector": [seat]} if seat else {}))

    def setup(self, config: dict[str, Any]) -> None:
        self._work: Work = config["work"]
        self._slots: list[Path] = config["slots"]
        self._stop: Path = config["stop"]
        self._metric: str = config["metric"]
        self._pins: bool = config["pins"]
        self._body: Body = config["body"]
        self._slot: Path | None = None
        self._thread: threading.Thread | None = None
        self._status: int | None = None
        self._failure: BaseException | None = None
        self._rows: deque[dict[str, float]] = deque()
        self._step = 0
        self._told = -1

    # --- what Tune calls ---

    def step(self) -> dict[str, Any]:
        """The next evaluation of the run, the last one with `done` and how the run ended. Raises RunError where it failed."""
        if self._thread is None and not self._begin():
            return {"done": True, "outcome": STOPPED}
        assert self._thread is not None
        while True:
            alive = self._thread.is_alive()
            if alive and self._stop.exists():
                self._ask_to_stop()
            news = self._follower.new()
            check_metric(news, self._metric)
            self._rows.extend(row for row in news if self._metric in row and row["step"] > self._told)
            if not alive or len(self._rows) > 1 or self._is_due():
                break
            self._thread.join(POLL_S)
        if self._failure is not None:
            raise RunError(str(self._failure)) from self._failure
        ended = not alive and len(self._rows) < 2
        if not self._rows and self._status == 0 and self._learns:
            raise RunError(f"{self._folder.path} was never evaluated with {self._metric}, which the sweep goes by.")
        result: dict[str, Any] = dict(self._rows.popleft()) if self._rows else {}
        self._step = int(result.get("step", self._step))
        if self._pins and not ended:
            self._pin()
        return {
            **result,
            **spent(self._folder),
            "run": f"{self._folder.workload}/{self._folder.name}",
            "work": self._work,
            "done": ended,
            **({"outcome": FINISHED if self._status == 0 else STOPPED} if ended else {}),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """A pointer to the run's checkpoint of the step that was reported last, which is kept until the sweep's stage ends."""
        step = self._step if self._checkpoint(self._step).is_dir() else self._newest()
        (self._checkpoint(step) / PINNED).write_text(SAVED)
        return {"run": str(self._folder.path), "step": step, "token": self._work.token, "origin": self._work.origin}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        assert checkpoint is not None
        own = checkpoint["token"] == self._work.token
        self._work = self._work.handed(checkpoint)
        self._told = checkpoint["step"] if own else -1

    def cleanup(self) -> None:
        """Ask the run to end, and wait until it and its processes have, or until the deadline."""
        deadline = time.monotonic() + STOP_DEADLINE_S
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:
            self._ask_to_stop()
            self._thread.join(POLL_S)
        while children() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        ended = self._thread is None or not self._thread.is_alive()
        # Otherwise it goes on, and Tune ends this process: that frees the slot.
        if self._slot is not None and ended and not children():
            give_back(self._slot)

    # --- the run ---

    def _begin(self) -> bool:
        """Start the run: from its newest checkpoint, as a copy of another one, or anew. False where the sweep is asked to stop."""
        while (slot := next((slot for slot in self._slots if take(slot, patience_s=0)), None)) is None:
            if self._stop.exists():
                return False
            time.sleep(POLL_S)
        self._slot = slot
        work = self._work
        folder = self._folder = RunFolder(work.run)
        config = from_values({**work.values, "name": folder.name})
        self._steps, self._every = config.steps, config.checkpoint.every_steps
        # A run without a policy provides models for others, or evaluates one: it need not have the sweep's metric.
        self._learns = config.learns
        existing, checkpoint = folder.config.is_file(), folder.newest_checkpoint()
        # An evaluation goes on with the answers that it has.
        if existing and checkpoint is None and not config.evaluates:
            clear(folder)
        if checkpoint is None and work.origin:
            checkpoint = RunFolder(work.origin.run).checkpoints / step_name(work.origin.step)
        begun = folder if existing and folder.config.is_file() else None
        self._follower = metrics.Follower(folder.metrics_log)
        self._thread = threading.Thread(target=self._run, args=(config, checkpoint, begun), name="run", daemon=True)
        self._thread.start()
        return True

    def _run(self, config: Any, checkpoint: Path | None, folder: RunFolder | None) -> None:
        try:
            self._status = self._body(config, checkpoint, folder)
        # Whatever ends the run is raised again where Tune sees it.
        except BaseException as error:
            self._failure = error

    def _ask_to_stop(self) -> None:
        # Again and again: a run that begins removes what its last end left there.
        if self._folder.config.is_file():
            self._folder.stop.touch()

    # --- checkpoints that others may copy ---

    def _is_due(self) -> bool:
        """Whether the next row can be told: not the last one before all has ended, nor one before its checkpoint is written."""
        if not self._rows or self._rows[0]["step"] >= self._steps:
            return False
        step = int(self._rows[0]["step"])
        saved = self._pins and step > 0 and step % self._every == 0
        return not saved or self._newest() >= step

    def _pin(self) -> None:
        """Keep the checkpoint of the reported step as long as Tune may ask for it, which it does before the next step."""
        for pinned in self._folder.checkpoints.glob(f"step-*/{PINNED}"):
            if pinned.read_text() != SAVED:
                pinned.unlink()
        if self._checkpoint(self._step).is_dir():
            (self._checkpoint(self._step) / PINNED).touch()

    def _checkpoint(self, step: int) -> Path:
        return self._folder.checkpoints / step_name(step)

    def _newest(self) -> int:
        checkpoint = self._folder.newest_checkpoint()
        return step_of(checkpoint) if checkpoint else -1


def spent(folder: RunFolder) -> dict[str, float]:
    """Seconds, CPU- and GPU-seconds of a run so far; of ledgers that count no CPUs 0."""
    rows = [row for row in jsonl.read(folder.ledger_log) if not row["phase"].endswith(ledger.AHEAD)]
    return {name: sum(row.get(name, 0.0) for row in rows) for name in SPENT}


def clear(folder: RunFolder) -> None:
    """Remove a run that has no checkpoint to go on from. Raises RunError where another process runs it."""
    folder.begin()
    folder.end()  # before the files go: a network file system keeps a folder while one of them is open
    shutil.rmtree(folder.path)


def release(folder: RunFolder, keep: int) -> None:
    """Keep no more than the newest checkpoints of a run: nobody will copy the others any more."""
    for pinned in folder.checkpoints.glob(f"step-*/{PINNED}"):
        pinned.unlink()
    for old in sorted(folder.checkpoints.glob("step-*"))[:-keep]:
        if old != folder.newest_checkpoint():
            shutil.rmtree(old)


def check_metric(rows: Sequence[Mapping[str, float]], metric: str) -> None:
    """Refuse a metric that evaluations do not have, at the first of them. Raises RunError with those that are there."""
    for row in rows:
        there = [name for name in row if name.startswith("eval/")]
        if metric.startswith("eval/") and there and metric not in row:
            raise RunError(f"metric: the evaluation of step {row['step']:g} has no {metric}, only {', '.join(there)}.")


def evaluations(folder: RunFolder, metric: str) -> list[dict[str, float]]:
    """The rows of a run that say how good it was."""
    return [row for row in metrics.read(folder.metrics_log) if metric in row]


def children() -> list[str]:
    """Classes of the living actors that this process, or actors that it started, have started."""
    from ray._private.state import actors  # Ray's public list needs the dashboard

    context, living = ray.get_runtime_context(), []
    table = {actor_id: row for actor_id, row in actors().items() if row["State"] != "DEAD" and not row["IsDetached"]}
    mine = table.get(context.get_actor_id())
    owners = {_process(mine["Address"])} if mine else set()
    while found := [key for key, row in table.items() if _process(row["OwnerAddress"]) in owners]:
        for key in found:
            row = table.pop(key)
            owners.add(_process(row["Address"]))
            living.append(str(row["ActorClassName"]))
    return living


def _process(address: Mapping[str, Any]) -> tuple[str, int]:
    return address["IPAddress"], address["Port"]
