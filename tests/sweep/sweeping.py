"""A driver process: `python tests/sweep/sweeping.py STORAGE SWEEP…` runs these sweeps, one after another, on the Ray of RAY_ADDRESS.

With `keep` in the place of STORAGE it is that Ray: two CPUs and eight GPUs that are not there.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from orchestrator.sweep.spec import Node, Range, Sweep, Tuning

RATE = "learner.learning_rate"
FOUR_GPUS = {
    "learner.ranks": 2, "learner.gpus_per_rank": 1, "learner.cpus_per_rank": 0.1, "rollout.fleet.gpus_per_server": 1,
    "rollout.fleet.servers": 1, "rollout.fleet.cpus_per_server": 0.1, "judge.fleet.gpus_per_server": 1,
    "judge.fleet.servers": 1, "judge.fleet.cpus_per_server": 0.1, "limits.logprob_gap_max": 10.0,
    "limits.logprob_gap_mean": 0.05, "model.dtype": "bfloat16",
}  # fmt: skip


def node(name: str, steps: int = 8, every: int = 2, **parts: Any) -> Node:
    settings = {**FOUR_GPUS, "steps": steps, "eval.every_steps": every, "checkpoint.every_steps": every}
    given: dict[str, Any] = {"target": "rlvr", "arms": {"": {}}, "seeds": (), **parts}
    return Node(name, settings={**settings, **given.pop("settings", {})}, **given)


def rates(*values: float) -> tuple[Range, ...]:
    return (Range(RATE, "grid", values=values),)


def tuning(**parts: Any) -> Tuning:
    return Tuning(**{"trials": 2, "searcher": "grid", **parts})


SWEEPS = {
    # Of the first two runs the worse one is stopped at step 2: half of what is known there is above it.
    "halving": Sweep(
        "halving",
        (node("policy", search=rates(0.3, 0.1, 0.2, 0.01), tuning=tuning(scheduler="asha", grace_steps=2, reduction=2)),),
    ),
    # Each run takes 9 rows x 10 s x 4 GPUs = 0.1 GPU-hours; two begin at once, and after the first one 0.05 are spent.
    "budget": Sweep("budget", (node("policy", search=rates(0.11, 0.12, 0.13), tuning=tuning(gpu_hours=0.05)),)),
    "failing": Sweep(
        "failing",
        (
            node("policy", arms={"good": {RATE: 0.3}, "bad": {RATE: 0.9}}, seeds=(0,)),
            node("test", settings={"model.name": "node:policy"}, arms={"good": {}, "bad": {}}, seeds=(0,), inputs=("policy",)),
        ),
    ),
    "long": Sweep("long", (node("policy", steps=60, every=10, search=rates(0.21, 0.22, 0.23), tuning=tuning()),)),
    "population": Sweep(
        "population",
        (
            node(
                "policy",
                steps=40,
                every=4,
                search=(Range(RATE, "choice", values=(0.01, 0.4)),),
                tuning=tuning(scheduler="pbt", searcher="random", seed=0, every_steps=4),
                settings={"checkpoint.keep": 1},
            ),
        ),
    ),
}  # fmt: skip


def main(storage: Path, names: list[str]) -> int:
    import ray

    from orchestrator.sweep.driver import run_sweep
    from tests.fakes.runs import fake_run, tell_what_is_left

    status = 0
    for name in names:
        if name == "after":
            ray.init(logging_level="ERROR", ignore_reinit_error=True)
            tell_what_is_left(storage)
            continue
        status = run_sweep(SWEEPS[name], storage, (storage / "sweeps" / name).is_dir(), f"again {name}", fake_run)
    return status


def keep() -> None:
    import ray

    ray.init(
        "local", num_cpus=2, num_gpus=8, include_dashboard=False, logging_level="ERROR", object_store_memory=100 * 2**20
    )
    sys.stdout.write(f"{ray.get_runtime_context().gcs_address}\n")
    sys.stdout.flush()
    while os.getppid() != 1:
        time.sleep(0.2)


if __name__ == "__main__":
    if sys.argv[1] == "keep":
        keep()
    else:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
