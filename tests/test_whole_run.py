"""One whole run for real: Ray, vLLM for policy and judge, DeepSpeed on two ranks, W&B offline; then again, interrupted and resumed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from orchestrator.config.compose import compose
from orchestrator.fleets.serving.parity import check_tensors, check_tokenizer
from orchestrator.learning import checkpoints
from orchestrator.records import Run
from orchestrator.records.canary import read_canary
from orchestrator.records.folder import read_json
from orchestrator.rollouts.rubrics import Rubric, official_score, paper_reward
from workloads.rlvr import Workload

pytestmark = pytest.mark.stack
STEPS = 7
# The judge is taught as in the demo, so that its gate is passed for real; the rest is short.
SETTINGS = [
    f"steps={STEPS}", "warmup.steps=60", "learner.ranks=2", "algorithm.minibatches=2", "eval.every_steps=4",
    "eval.samples_per_task=1", "eval.best_of=2", "data.eval_groups=24", "checkpoint.every_steps=2", "checkpoint.keep=1",
]  # fmt: skip


def command_of(storage: Path, name: str) -> list[str]:
    return [sys.executable, "-m", "orchestrator", "train", "rlvr", f"storage={storage}", f"name={name}", *SETTINGS]


def orchestrate(storage: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`orchestrate train` with these words."""
    command = [sys.executable, "-m", "orchestrator", "train", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=420, check=False)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def finished(storage: Path) -> tuple[Run, str]:
    done = orchestrate(storage, *command_of(storage, "first")[4:])
    assert done.returncode == 0, done.stdout + done.stderr
    return Run(storage / "rlvr" / "first"), done.stdout + done.stderr


def rows_of(run: Run) -> list[dict[str, Any]]:
    return run.metrics().to_pylist()


def test_each_step_is_there_once_with_its_evaluations(finished: tuple[Run, str]) -> None:
    rows = rows_of(finished[0])
    assert [row["step"] for row in rows] == list(range(STEPS + 1))
    assert [row["step"] for row in rows if row["eval/oracle"] is not None] == [0, 4, 7]
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
    assert report["injection_flips_n"] > 400
    assert report["injection_flips"] <= 0.03
    assert report["injection_shift_mean"] <= 0.03


def test_trainer_and_engine_agree_in_every_step(finished: tuple[Run, str]) -> None:
    gaps = [row["sync/logprob_gap_max"] for row in rows_of(finished[0])[1:]]
    assert all(0 < gap < 1e-4 for gap in gaps), gaps


def test_every_number_of_a_step_can_be_computed_again_from_its_episodes(finished: tuple[Run, str]) -> None:
    """Rewards from the stored verdicts by both formulas, the step's mean reward from its episodes, advantages by group."""
    run, _ = finished
    tasks = {task.id: task for task in Workload(compose("rlvr", ["data.eval_groups=24"])).tasks("train")}
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
    newest = run.folder.newest_checkpoint()
    assert newest is not None
    assert newest.name == "step-000007"
    assert [path.name for path in sorted(run.folder.checkpoints.glob("step-*"))] == ["step-000007"]
    state = checkpoints.verify(newest)
    assert state["step"] == STEPS
    assert state["optimizer_steps"] == 2 * STEPS
    assert state["next_task"] == 8 * STEPS
    assert len(state["random"]) == 2
    assert state["wandb"]["id"] == json.loads(run.folder.tracking.read_text())["id"]
    slots = dict(checkpoints.read_tensors(newest))
    model = AutoModelForCausalLM.from_pretrained(newest / "hf")
    canary = read_canary(newest / "hf")
    assert canary is not None
    check_tokenizer(canary, AutoTokenizer.from_pretrained(newest / "hf"))
    assert [len(case.logprobs) for case in canary.cases] == [len(case.completion_ids) for case in canary.cases]
    check_tensors(newest / "hf")
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
    assert f"step {STEPS}/{STEPS}" in output
    assert str(folder.path) in output


def interrupt(command: list[str], after: int, send: Callable[[subprocess.Popen[str]], None]) -> tuple[int, str]:
    """Start a run and do `send` to it when step `after` is told. Returns exit status and output; no process of it is left."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        told, family = [], []
        for line in process.stdout:
            told.append(line)
            if f"step {after}/{STEPS}" in line:
                family = psutil.Process(process.pid).children(recursive=True)
                send(process)
        status = process.wait(timeout=60)
    # Ray's agents look only now and then whether what they serve is still there.
    _, left = psutil.wait_procs(family, timeout=120)
    assert family, "".join(told)
    assert not left, f"{left} outlived the run"
    return status, "".join(told)


def ask_to_stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def insist_on_stopping(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)


@pytest.mark.long
def test_a_run_killed_at_three_steps_goes_on_to_the_same_numbers_and_weights(
    finished: tuple[Run, str], storage: Path
) -> None:
    """The same run again, on two ranks, its models from the cache. It is asked to stop at step 1 (and writes a checkpoint), told to
    stop at once at step 3 by a second Ctrl-C, and killed at step 5 without a word: what came after the newest checkpoint is
    done again. The end has the very weights, episodes and metrics of the run that was never interrupted; W&B sees no step twice."""
    resume = [*command_of(storage, "second")[:4], "--resume", "second", "--storage", str(storage)]
    status, output = interrupt(command_of(storage, "second"), 1, ask_to_stop)
    assert status == 130, output
    assert "teaching" not in output
    assert "--resume" in output
    second = Run(storage / "rlvr" / "second")
    assert 1 <= second.metrics().num_rows - 1 <= 2
    assert second.summary()["status"] == "stopped"
    status, output = interrupt(resume, 3, insist_on_stopping)
    assert status not in (0, -signal.SIGKILL), output
    status, output = interrupt(resume, 5, subprocess.Popen.kill)
    assert status == -signal.SIGKILL, output
    resumed = orchestrate(storage, "--resume", "second", "--storage", str(storage))
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    one, other = finished[0], second
    timed = ("time/", "throughput/", "judge/cache_hit_rate", "faults/")
    for left, right in zip(rows_of(one), rows_of(other), strict=True):
        assert {key: value for key, value in left.items() if not key.startswith(timed)} == {
            key: value for key, value in right.items() if not key.startswith(timed)
        }
    assert one.episodes().equals(other.episodes())
    files = [run.checkpoint() for run in (one, other)]
    assert files[0] is not None
    assert files[1] is not None
    for part in ("hf/model.safetensors", "optimizer-00000.safetensors"):
        assert (files[0] / part).read_bytes() == (files[1] / part).read_bytes(), part
    assert json.loads(second.folder.tracking.read_text())["last_step"] == STEPS


def test_a_resume_with_nothing_to_do_or_with_other_settings_is_refused(
    finished: tuple[Run, str], storage: Path
) -> None:
    nothing = orchestrate(storage, "--resume", "first", "--storage", str(storage))
    assert nothing.returncode == 2
    assert "nothing to resume" in nothing.stderr
    other = orchestrate(storage, "seed=1", "--resume", "first", "--storage", str(storage))
    assert other.returncode == 2
    assert "--from first" in other.stderr
