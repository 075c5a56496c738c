"""A run folder of 30 steps, written through the records' own interface with made-up numbers."""

from __future__ import annotations

import math
import random
from pathlib import Path

from orchestrator.cluster.plan import Bundle, Plan
from orchestrator.config.schema import RunConfig
from orchestrator.records import episodes, ledger, metrics
from orchestrator.records.folder import RunFolder, write_json
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored


def make_group(step: int, task: str, golds: list[float], unscored: int | None = None) -> Group:
    """One group; the episode number `unscored` has no verdict."""
    made = []
    for sample, gold in enumerate(golds):
        turn = Turn(
            role="policy",
            prompt_ids=(1, 2, 3),
            completion_ids=(4, 5),
            logprobs=(-0.5, -0.25),
            text=f"answer {sample} é",
            finish_reason="stop",
            temperature=1.0,
            weight_version=step,
            seed=7,
        )
        asked = Task(id=task, messages=({"role": "user", "content": f"dilemma {task}"},))
        verdict = (
            Scored(gold, {"rubric": gold}, {"c0": 0.9, "c1": 0.1}) if sample != unscored else Unscored("timed out")
        )
        made.append((Episode(asked, step, sample, (turn,)), verdict))
    return Group(tuple(episode for episode, _ in made), tuple(verdict for _, verdict in made))


def made_up_row(step: int, noise: random.Random) -> dict[str, float]:
    """Metrics of one training step that look like a run's."""
    share = 1 - math.exp(-step / 12)
    return {
        "reward/mean": 0.42 + 0.3 * share + noise.gauss(0, 0.015),
        "reward/rubric": 0.45 + 0.3 * share + noise.gauss(0, 0.015),
        "reward/length": -0.03 + noise.gauss(0, 0.004),
        "policy/entropy": 1.6 - 0.7 * share + noise.gauss(0, 0.02),
        "policy/kl": 0.08 * share + abs(noise.gauss(0, 0.003)),
        "policy/clip_fraction": 0.02 + abs(noise.gauss(0, 0.01)),
        "policy/grad_norm": 0.6,
        "sync/logprob_gap_mean": 2e-7 * math.exp(noise.gauss(0, 0.1)),
        "sync/logprob_gap_p99": 1e-6 * math.exp(noise.gauss(0, 0.2)),
        "sync/logprob_gap_max": 3e-6 * math.exp(noise.gauss(0, 0.3)),
        "episodes/length": 34 + 8 * share + noise.gauss(0, 0.5),
        "episodes/truncated_share": max(0.0, 0.12 - 0.1 * share + noise.gauss(0, 0.01)),
        "tokens/generated": 2200.0,
        "throughput/tokens_per_s": 310 + noise.gauss(0, 10),
        "faults/unscored": float(step == 7),
    }


PLAN = Plan((Bundle("learner", 2, 1, 1, ""), Bundle("policy", 1, 1, 0, "")))
"""2 GPUs of the learner; the policy on a CPU."""


def make_run(storage: Path) -> RunFolder:
    """30 steps, evaluated every 10, whose oracle score goes from 0.40 to 0.65 on 12 held-out tasks."""
    config = RunConfig(workload="rlvr", name="made-up", steps=30)
    folder = RunFolder.create(storage, "rlvr", "made-up", config)
    noise = random.Random(0)
    now = [0.0]
    times = ledger.Ledger(folder.ledger_log, PLAN, clock=lambda: now[0])
    log = metrics.MetricsLog(folder.metrics_log)
    for step in range(31):
        row = made_up_row(step, noise) if step else {}
        spent = {"rollout": 1.1, "judge": 0.9, "learn": 0.7, "sync": 0.2} if step else {"teach": 95.0}
        if step % 10 == 0:
            spent["eval"] = 4.0
            oracle = 0.40 + 0.25 * step / 30
            judge = oracle + 0.01 + 0.04 * step / 30
            row |= {"eval/oracle": oracle, "eval/oracle_low": oracle - 0.04, "eval/oracle_high": oracle + 0.04}
            row |= {"eval/judge": judge, "eval/judge_low": judge - 0.03, "eval/judge_high": judge + 0.03}
            row |= {"judge/gold_gap": judge - oracle, "eval/n": 12.0, "eval/oracle_n": 12.0}
            # Two answers a task, 0.1 apart around the task's mean.
            tasks = [make_group(step, f"task{t}", [oracle - 0.05, oracle + 0.05]) for t in range(12)]
            gold = {e.id: v.reward for g in tasks for e, v in zip(g.episodes, g.verdicts, strict=True)}
            episodes.write_step(folder, step, tasks, {}, "eval", gold)
        if step == 0:
            row |= {"eval/best_of": 8, "eval/best_of_n": 0.58, "eval/best_of_n_judge": 0.62}
        if step in (10, 20, 30):
            spent["checkpoint"] = 0.4
            (folder.checkpoints / f"step-{step:06d}").mkdir()
            (folder.checkpoints / "LATEST").write_text(f"step-{step:06d}")
        for phase, seconds in spent.items():
            with times.phase(phase):
                now[0] += seconds * (1 + 0.1 * noise.random())
        log.append(step, row | times.row(step))
    write_json(folder.judge, made_up_judge())
    return folder


def made_up_judge() -> dict[str, float | int | str]:
    report: dict[str, float | int | str] = {"unanswered": 0, "macro_f1": 0.93, "dilemmas": 48}
    shares = {
        "accuracy": (0.94, 1200), "prior_accuracy": (0.72, 1200), "pair_order": (0.91, 340),
        "negative_recall": (0.88, 90),
        "accuracy_names_harm": (0.98, 400), "accuracy_weighs_duties": (0.93, 400), "accuracy_gives_reason": (0.9, 400),
        "prior_accuracy_names_harm": (0.7, 400), "prior_accuracy_weighs_duties": (0.66, 400),
        "prior_accuracy_gives_reason": (0.8, 400), "injection_flips": (0.02, 1200),
    }  # fmt: skip
    for name, (share, n) in shares.items():
        spread = 2 * math.sqrt(share * (1 - share) / n)
        report |= {name: share, f"{name}_n": n, f"{name}_low": share - spread, f"{name}_high": share + spread}
    return report
