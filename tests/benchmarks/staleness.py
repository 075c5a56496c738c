"""What rollouts that run ahead save: the same run with rollout.max_staleness=0 and 1, judged by a server that is slow on purpose.

    python tests/benchmarks/staleness.py [STEPS] [DELAY_S]

The judge answers yes or no by a hash of the question, so rewards differ and mean nothing; only the times are of interest. Its
delay takes no core, as a judge elsewhere takes none, and the learner passes several times over few episodes, so that both sides have
about as much to do: on one machine what runs beside the learner otherwise slows it down.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fakes.openai_server import OpenAIServer, Reply, completion, serving  # noqa: E402

from orchestrator import experiment  # noqa: E402
from orchestrator.config.compose import compose  # noqa: E402
from orchestrator.records import Run  # noqa: E402
from orchestrator.values import stable_hash  # noqa: E402

COLUMNS = ("step", "rollout", "judge", "learn", "wait", "sync")


def answer(body: dict[str, Any], number: int) -> Reply:
    likely = 0.95 if stable_hash(str(body["messages"])) % 2 else 0.05
    words = {"yes": math.log(likely), "no": math.log(1 - likely)}
    return 200, completion("yes" if likely > 0.5 else "no", words)


def rows_of(staleness: int, steps: int, url: str, stamp: str) -> list[dict[str, Any]]:
    name = f"staleness-{stamp}-{staleness}"
    experiment.run(
        compose(
            "rlvr",
            [
                f"judge={url}",
                f"rollout.max_staleness={staleness}",
                f"name={name}",
                f"steps={steps}",
                "data.eval_groups=2",
                "eval.every_steps=1000",
                "eval.samples_per_task=1",
                "eval.best_of=0",
                "checkpoint.every_steps=1000",
                "judge.max_unscored_share=1",
                "rollout.prompts_per_step=4",
                "rollout.samples_per_prompt=4",
                "algorithm.epochs_per_batch=8",
                "learner.learning_rate=1e-5",
            ],
        )
    )
    return Run(Path("runs") / "rlvr" / name).metrics().to_pylist()


def main() -> None:
    steps = int(sys.argv[1]) if sys.argv[1:] else 12
    delay_s = float(sys.argv[2]) if sys.argv[2:] else 0.3
    stamp, steps_s = time.strftime("%m%d-%H%M%S"), list[float]()
    table = Table("max_staleness", *(f"{column}, s" for column in COLUMNS), "saved", "staleness", "steps")
    with serving(OpenAIServer(answer, delay_s=delay_s)) as judge:
        for staleness in (0, 1):
            # The first steps warm up, the last one also evaluates and has no rollouts beside it.
            rows = rows_of(staleness, steps, judge.url, stamp)[3:-1]
            means = [fmean(row.get(f"time/{column}_s") or 0.0 for row in rows) for column in COLUMNS]
            stale = fmean(row["episodes/staleness"] for row in rows)
            steps_s.append(means[0])
            saved = f"{1 - means[0] / steps_s[0]:.0%}"
            table.add_row(str(staleness), *(f"{mean:.2f}" for mean in means), saved, f"{stale:.2f}", str(len(rows)))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
