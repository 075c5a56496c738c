"""A run in the place of `experiment.run`: it holds a placement of its plan's GPUs, writes rows and checkpoints, and ends when asked to.

Each start and end of it is a line of STORAGE/runs.jsonl; STORAGE/step_s holds the seconds of a step. A learning rate above 0.5 fails.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from orchestrator.cluster.plan import make_plan
from orchestrator.config.compose import to_values
from orchestrator.config.schema import RunConfig
from orchestrator.errors import RunError
from orchestrator.records import jsonl
from orchestrator.records.folder import PINNED, RunFolder, step_name, step_of, write_json
from orchestrator.records.metrics import MetricsLog

ROOM_DEADLINE_S = 10.0


class Holder:
    """An actor that holds what it was given."""

    def pid(self) -> int:
        return os.getpid()


def fake_run(config: RunConfig, checkpoint: Path | None, folder: RunFolder | None) -> int:
    """Its score rises by the learning rate a step, so that the largest one wins. The weights of a checkpoint are the score."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    storage = Path(config.storage)
    begun = folder or RunFolder.create(storage, "rlvr", str(config.name), to_values(config))
    begun.begin()
    score, done = (json.loads((checkpoint / "state.json").read_text()), step_of(checkpoint)) if checkpoint else (0.0, 0)
    tell = jsonl.LineLog(storage / "runs.jsonl").append
    gpus = make_plan(config).gpus
    free, others, waiting = _free_gpus(gpus), _holders(), _groups("PENDING")
    group = placement_group([{"GPU": gpus, "CPU": 0.1}])
    if not group.wait(60):
        raise RunError("the placement waits")
    strategy = PlacementGroupSchedulingStrategy(group)
    holder: Any = ray.remote(num_gpus=gpus, num_cpus=0.1, scheduling_strategy=strategy)(Holder).remote()
    ray.get(holder.pid.remote())
    told = {"from": done, "gpus": gpus, "free": free, "others": others, "waiting": waiting}
    tell({"what": "begin", "run": begun.name, "time": time.time(), **told})
    try:
        status = _steps(config, begun, score, done, gpus)
    finally:
        # As the real one: what ends is not waited for.
        ray.kill(holder)
        remove_placement_group(group)
        begun.end()
        tell({"what": "end", "run": begun.name, "time": time.time()})
    write_json(begun.summary, {"status": "finished" if status == 0 else "stopped", "steps": config.steps})
    return status


def _free_gpus(wanted: float) -> float:
    """The GPUs that nobody holds, once they are as many: as the real run it waits a while for what a killed one gives back."""
    import ray

    deadline = time.monotonic() + ROOM_DEADLINE_S
    while (free := ray.available_resources().get("GPU", 0.0)) < wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return free


def _holders() -> int:
    """How many runs hold GPUs on the cluster."""
    from ray._private.state import actors

    return sum(row["ActorClassName"] == "Holder" and row["State"] != "DEAD" for row in actors().values())


def _groups(*states: str) -> int:
    """How many placements of these states the cluster has."""
    from ray.util import placement_group_table

    return sum(row["state"] in states for row in placement_group_table().values())


def tell_what_is_left(storage: Path) -> None:
    """A line of runs.jsonl: what is free and what is left on the cluster once the last run gave back what it held."""
    free = _free_gpus(8)
    told = {"free": free, "others": _holders(), "groups": _groups("PENDING", "CREATED", "RESCHEDULING")}
    jsonl.LineLog(storage / "runs.jsonl").append({"what": "after", **told})


def _steps(config: RunConfig, folder: RunFolder, score: float, done: int, gpus: float) -> int:
    log, ledger = MetricsLog(folder.metrics_log), jsonl.LineLog(folder.ledger_log)
    log.drop_after(done if done else -1)
    rate, step_s = config.learner.learning_rate, float((Path(config.storage) / "step_s").read_text())
    for step in range(done if done == 0 else done + 1, config.steps + 1):
        if folder.stop.exists():
            save(folder, step - 1, score, config.checkpoint.keep)
            return 130
        if step:
            score += rate
            if rate > 0.5 and step == 2:
                raise RunError("the loss is not finite")
        time.sleep(step_s)
        ledger.append(
            {
                "step": step,
                "phase": "learn",
                "seconds": 10.0,
                "gpu_seconds": 10 * gpus,
                "cpu_seconds": 1.0,
                "busy_gpu_seconds": 5 * gpus,
            }
        )
        at_end = step == config.steps
        evaluated = {"eval/oracle": score} if at_end or step % config.eval.every_steps == 0 else {}
        log.append(step, {"reward/mean": score, **evaluated})
        if step and (step % config.checkpoint.every_steps == 0 or at_end):
            save(folder, step, score, config.checkpoint.keep)
    return 0


def save(folder: RunFolder, step: int, score: float, keep: int) -> None:
    """A checkpoint as the real ones lie, the older ones removed."""
    if step < 1:
        return
    place = folder.checkpoints / step_name(step)
    place.mkdir(exist_ok=True)
    (place / "state.json").write_text(json.dumps(score))
    (folder.checkpoints / "LATEST").write_text(place.name)
    free = [
        path for path in sorted(folder.checkpoints.glob("step-*")) if path != place and not (path / PINNED).exists()
    ]
    for old in free[: max(0, len(free) - keep + 1)]:
        shutil.rmtree(old)
