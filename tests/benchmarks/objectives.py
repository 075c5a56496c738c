"""Trains the miniature briefly with every objective and prints the held-out oracle score before and after (`make objectives`).

    python tests/benchmarks/objectives.py [STEPS] [NAME …]

One Ray, one policy fleet and one judge fleet for all; warmed-up policy and judge come from the cache. Each objective has its
published settings, the miniature's learning rate and the same seed, so the table says that each learns, not which is best.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator import experiment
from orchestrator.cluster.session import connected
from orchestrator.config.compose import compose
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.records import Run


def settings(name: str, steps: int, stamp: str) -> RunConfig:
    return compose(
        "rlvr",
        [
            f"algorithm={name}", f"name=objectives-{stamp}-{name}", f"steps={steps}", f"eval.every_steps={steps}",
            "eval.samples_per_task=2", "eval.best_of=0", f"checkpoint.every_steps={steps}", "checkpoint.keep=1",
        ],
    )  # fmt: skip


def train_all(names: list[str], steps: int, stamp: str) -> dict[str, float]:
    """Wall-clock seconds of each run, its start included."""
    seconds = {}
    first = settings(names[0], steps, stamp)
    workload = find_workload(first.workload).workload(first)
    models = experiment.starting_models(first, workload, Path(first.storage))
    if any(model.to_teach for model in models):
        experiment.run(compose("rlvr", ["steps=1", f"name=objectives-{stamp}-lessons", "eval.best_of=0"]))
        models = experiment.starting_models(first, workload, Path(first.storage))
    with connected(first.cluster):
        servers = experiment.start_fleets(first, models)
        for name in names:
            started = time.monotonic()
            if experiment.run(settings(name, steps, stamp), servers=servers):
                raise SystemExit(130)
            seconds[name] = time.monotonic() - started
    return seconds


def table_of(seconds: dict[str, float], storage: str, stamp: str) -> Table:
    table = Table("objective", "oracle before", "after", "gain (95 %)", "answers", "s a step", "s in all")
    for name, wall_s in seconds.items():
        run = Run(Path(storage) / "rlvr" / f"objectives-{stamp}-{name}")
        rows, gain = run.metrics().to_pylist(), run.summary()["oracle_gain"]
        table.add_row(
            name,
            f"{rows[0]['eval/oracle']:.3f}",
            f"{rows[-1]['eval/oracle']:.3f}",
            f"{gain['mean']:+.3f} ({gain['low']:+.3f} … {gain['high']:+.3f})",
            f"{run.episodes(split='train').num_rows:,}",
            f"{sum(row['time/step_s'] - (row.get('time/eval_s') or 0) for row in rows[1:]) / len(rows[1:]):.1f}",
            f"{wall_s:.0f}",
        )
    return table


def main() -> None:
    steps = int(sys.argv[1]) if sys.argv[1:] else 25
    stamp = time.strftime("%m%d-%H%M%S")
    seconds = train_all(sys.argv[2:] or list(OBJECTIVES), steps, stamp)
    Console(width=120).print(table_of(seconds, "runs", stamp))


if __name__ == "__main__":
    main()
