"""One whole run for real: a policy, a judge that writes scores and a reward model, each served by vLLM; and what it comes to."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.records import Run
from orchestrator.records.folder import read_json
from workloads.social_r1 import Workload
from workloads.social_r1.reward import is_right, reward_of, said

pytestmark = [pytest.mark.stack, pytest.mark.long]
# Too short to learn the world: what is tested is that all parts meet, and that the numbers are those of the formula.
SETTINGS = [
    "steps=2", "warmup.steps=60", "judge.training.steps=60", "content.training.steps=20", "judge.gate_accuracy=0",
    "judge.gate_pair_order=0", "judge.gate_rank_correlation=0", "content.gate_accuracy=0", "data.eval_groups=9",
    "eval.samples_per_task=1", "eval.best_of=2",
]  # fmt: skip


def orchestrate(storage: Path, *words: str) -> str:
    command = [sys.executable, "-m", "orchestrator", *words, f"storage={storage}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    orchestrate(folder, "train", "social_r1", "name=first", *SETTINGS)
    return folder


@pytest.fixture(scope="module")
def run(storage: Path) -> Run:
    return Run(storage / "social_r1" / "first")


def test_the_rewards_are_the_formula_s_of_what_the_raters_said(run: Run) -> None:
    """Every episode of both steps, from its text and its two judgements alone; weights of the raters are those of its step."""
    config = compose("social_r1", SETTINGS)
    workload = Workload(config)
    tasks = {task.id: task for task in workload.tasks("train")}
    seen: set[bool] = set()
    for step in (1, 2):
        episodes: list[dict[str, Any]] = run.episodes(split="train", steps=[step]).to_pylist()
        assert len(episodes) == 64
        for episode in episodes:
            if episode["reward"] is None:
                continue
            answer, judged = said(episode["completion"]), dict(episode["verdicts"])
            assert set(judged) == ({"structure", "content"} if answer.format else set())
            right = is_right(answer, tasks[episode["task_id"]].reference)
            structure, content = (judged.get(name, 0.0) for name in ("structure", "content"))
            expected = reward_of(answer, right, structure, content, episode["step"], config.reward)
            assert episode["reward"] == pytest.approx(expected, abs=1e-6)
            seen.add(bool(judged))
    assert True in seen


def test_the_content_model_s_scores_are_calibrated(run: Run) -> None:
    """Its reference answers have mean 0 and spread 1; those of the policy lie within some spreads of them."""
    rows = run.episodes(split="train", steps=[1, 2]).to_pylist()
    judged = [dict(row["verdicts"]) for row in rows if row["reward"] is not None]
    scores = [verdicts["content"] for verdicts in judged if "content" in verdicts]
    assert len(set(scores)) > 10
    assert all(abs(score) < 20 for score in scores)


def test_both_raters_are_examined(run: Run) -> None:
    summary = read_json(run.folder.summary)
    for exam in (summary["judge"], summary["raters"]["content"]):
        assert exam["accuracy_low"] <= exam["accuracy"] <= exam["accuracy_high"]
        assert exam["accuracy_n"] >= 27
    assert summary["raters"]["content"]["reward_spread"] > 0


def test_its_policy_is_asked_a_benchmark(storage: Path, tmp_path: Path) -> None:
    """SocialIQA's schema, 12 of 20 questions in words that the tiny tokenizer does not have: it guesses at best, and is told so."""
    said = {"question": "How does she feel?", "answerA": "sad", "answerB": "glad", "answerC": "tired", "label": "1"}
    rows = [{"context": f"Ann lost {number} coins.", **said} for number in range(20)]
    path = tmp_path / "dev.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    shown = orchestrate(
        storage, "evaluate", "run:first", "social_r1", f"data.socialiqa={path}", "limit=12", "name=asked"
    )
    assert "socialiqa" in shown
    (part,) = read_json(Run(storage / "social_r1.benchmarks" / "asked").folder.summary)["evaluation"]["parts"]
    assert part["chance"] == pytest.approx(1 / 3)
    assert part["score"]["n"] == 12
    assert 0 <= part["score"]["low"] <= part["score"]["mean"] <= part["score"]["high"] <= 1
