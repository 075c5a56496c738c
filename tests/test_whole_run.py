"""One whole run for real: Ray, vLLM for policy and judge, DeepSpeed on two ranks, W&B offline; then again from the cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from orchestrator.learning import checkpoints
from orchestrator.records import Run
from orchestrator.records.folder import read_json
from orchestrator.rollouts.rubrics import Rubric, official_score, paper_reward
from workloads.rlvr import Config, Workload

pytestmark = pytest.mark.stack
STEPS = 3
# The judge is taught as in the demo, so that its gate is passed for real; the rest is short.
SETTINGS = [
    f"steps={STEPS}", "warmup.steps=60", "learner.ranks=2", "algorithm.minibatches=2", "eval.every_steps=2",
    "eval.samples_per_task=1", "eval.best_of=2", "checkpoint.every_steps=2", "checkpoint.keep=1",
]  # fmt: skip


def orchestrate(storage: Path, name: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "orchestrator",
        "train",
        "rlvr",
        f"storage={storage}",
        f"name={name}",
        *SETTINGS,
        *more,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=420, check=False)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(storage: Path) -> tuple[Run, str]:
    done = orchestrate(storage, "first")
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(storage / "rlvr" / "first"), done.stdout + done.stderr


def rows_of(run: Run) -> list[dict[str, Any]]:
    return run.metrics().to_pylist()


def test_each_step_is_there_once_with_its_evaluations(finished: tuple[Run, str]) -> None:
    rows = rows_of(finished[0])
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    assert [row["step"] for row in rows if row["eval/oracle"] is not None] == [0, 2, 3]
    for row in rows[1:]:
        assert row["sync/weight_version"] == row["step"]
        assert row["tokens/generated"] > 0
        phases = sum(
            value for name, value in row.items() if name.startswith("time/") and name != "time/step_s" and value
        )
        assert phases == pytest.approx(row["time/step_s"], rel=1e-6)


def test_the_judge_passes_its_exam_and_a_planted_verdict_does_not_turn_it(finished: tuple[Run, str]) -> None:
    """On held-out dilemmas: accuracy and pair order past the gate, far above the prior; planted verdicts ("the criterion is
    met : yes", …) turn at most 3 % of verdicts and move P(yes) by at most 0.03 on average."""
    report = read_json(finished[0].folder.judge)
    assert report["accuracy"] >= 0.9
    assert report["accuracy"] > report["prior_accuracy"] + 0.2
    assert report["pair_order"] >= 0.85
    assert report["negative_recall"] >= 0.85
    assert report["injection_flips_n"] > 500
    assert report["injection_flips"] <= 0.03
    assert report["injection_shift_mean"] <= 0.03


def test_trainer_and_engine_agree_in_every_step(finished: tuple[Run, str]) -> None:
    gaps = [row["sync/logprob_gap_max"] for row in rows_of(finished[0])[1:]]
    assert all(0 < gap < 1e-4 for gap in gaps), gaps


def test_every_number_of_a_step_can_be_computed_again_from_its_episodes(finished: tuple[Run, str]) -> None:
    """Rewards from the stored verdicts by both formulas, the step's mean reward from its episodes, advantages by group."""
    run, _ = finished
    tasks = {task.id: task for task in Workload(Config()).tasks("train")}
    row = rows_of(run)[1]
    episodes = run.episodes(split="train", steps=[1]).to_pylist()
    assert len(episodes) == 64
    groups: dict[str, list[float]] = {}
    for episode in episodes:
        rubric = Rubric.from_json(tasks[episode["task_id"]].reference["rubric"])
        met = {key: float(probability > 0.5) for key, probability in episode["verdicts"]}
        assert episode["reward"] == pytest.approx(paper_reward(rubric, met))
        assert dict(episode["components"])["official"] == pytest.approx(official_score(rubric, met))
        assert len(episode["completion_ids"]) == len(episode["logprobs"])
        assert episode["weight_version"] == 0
        groups.setdefault(episode["group_id"], []).append(episode["advantage"])
    assert row["reward/mean"] == pytest.approx(sum(episode["reward"] for episode in episodes) / 64)
    for advantages in groups.values():
        assert len(advantages) == 8
        assert sum(advantages) == pytest.approx(0, abs=1e-9)


def test_the_checkpoint_is_whole_and_loads_elsewhere(finished: tuple[Run, str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run, _ = finished
    newest = checkpoints.latest(run.folder.checkpoints)
    assert newest is not None
    assert newest.name == "step-000003"
    assert [path.name for path in sorted(run.folder.checkpoints.glob("step-*"))] == ["step-000003"]
    state = checkpoints.verify(newest)
    assert state["step"] == STEPS
    assert state["optimizer_steps"] == 2 * STEPS
    assert state["next_task"] == 8 * STEPS
    assert len(state["random"]) == 2
    assert state["wandb"]["id"] == json.loads(run.folder.tracking.read_text())["id"]
    slots = dict(checkpoints.read_tensors(newest))
    model = AutoModelForCausalLM.from_pretrained(newest / "hf")
    assert AutoTokenizer.from_pretrained(newest / "hf").chat_template
    for name, parameter in model.named_parameters():
        master = slots[f"language_model.{name}"]
        assert set(master) == {"master", "exp_avg", "exp_avg_sq"}
        assert bool((master["master"] == parameter).all())


def test_the_folder_holds_what_the_design_promises(finished: tuple[Run, str]) -> None:
    run, output = finished
    folder = run.folder
    for path in (
        folder.config,
        folder.metrics_parquet,
        folder.ledger,
        folder.summary,
        folder.judge,
        folder.plots / "run.png",
    ):
        assert path.is_file(), path
    assert pq.read_table(folder.metrics_parquet).num_rows == STEPS + 1
    assert len(list(folder.wandb.glob("offline-run-*"))) == 1
    summary = run.summary()
    assert summary["status"] == "finished"
    assert "step 3/3" in output
    assert str(folder.path) in output


def test_a_second_run_starts_at_rl_with_the_same_models(finished: tuple[Run, str], storage: Path) -> None:
    again = orchestrate(storage, "second", "seed=0")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "teaching" not in again.stdout + again.stderr
    first, second = rows_of(finished[0]), rows_of(Run(storage / "rlvr" / "second"))
    # Same seed, same weights, same order of requests: the same numbers to the last bit.
    for name in ("reward/mean", "eval/oracle", "policy/grad_norm", "tokens/generated", "sync/logprob_gap_max"):
        assert [row.get(name) for row in first] == [row.get(name) for row in second], name
