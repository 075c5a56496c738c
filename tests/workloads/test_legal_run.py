"""Both stages for real, and another model's view of the reasoning: what is stored is the formula's of logits that can be had again."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from orchestrator.records import Run
from orchestrator.records.folder import read_json
from workloads.legal_delta import mini
from workloads.legal_delta.answers import direct
from workloads.legal_delta.scores import format_reward

pytestmark = [pytest.mark.stack, pytest.mark.long]
# Too short to learn the law: what is tested is that all parts meet, and that the numbers are those of the formula.
SETTINGS = [
    "data.train_groups=40", "data.eval_groups=10", "warmup.steps=60", "eval.samples_per_task=2", "eval.best_of=0"
]  # fmt: skip


def orchestrate(storage: Path, *words: str) -> None:
    command = [sys.executable, "-m", "orchestrator", *words, f"storage={storage}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stage 1 on ten traces of the oracle, stage 2 of two steps from there, and stage 1's model as a rater of stage 2's reasoning."""
    folder = tmp_path_factory.mktemp("runs")
    orchestrate(folder, "train", "legal_delta", "name=one", "steps=0", "traces=given", "traces.cases=10", *SETTINGS)
    orchestrate(folder, "train", "legal_delta", "name=two", "steps=2", "model=run:one@policy", *SETTINGS)
    rater = ["of=run:two", "model=run:one@policy", "name=rated", *SETTINGS[:2]]
    orchestrate(folder, "train", "legal_delta.quality", *rater)
    return folder


def rows(storage: Path, split: str, step: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Run(storage / "legal_delta" / "two").episodes(split=split, steps=[step]).to_pylist()
    return found


def test_rewards_are_the_formula_s(storage: Path) -> None:
    """R = R_format + R_legal / (1 + exp(-0.2 dQ)), with the weights of before the step; every stored episode of both steps."""
    for step in (1, 2):
        episodes = rows(storage, "train", step)
        assert len(episodes) == 64
        for episode in episodes:
            told = dict(episode["components"])
            assert told["format"] == pytest.approx(format_reward(episode["completion"]))
            gain = told.get("logit_reasoned", 0.0) - told.get("logit_direct", 0.0)
            assert told["gain"] == pytest.approx(gain)
            assert episode["reward"] == pytest.approx(
                told["format"] + told["legal"] / (1 + math.exp(-0.2 * gain)), abs=1e-6
            )
            assert told["logit_weights"] == step - 1


def test_the_recorded_logits_are_those_of_the_model(storage: Path) -> None:
    """Before the first step the policy is stage 1's model: its raw outputs by a plain forward pass, for the tokens of a single-word
    answer, after the reasoning as it was generated and, of the gold one, in direct mode."""
    models = json.loads((storage / "legal_delta" / "two" / "models.json").read_text())
    folder = storage / models["policy"]
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    checked = 0
    for episode in rows(storage, "eval", 0):
        told, reference = dict(episode["components"]), json.loads(episode["reference"])
        if reference["kind"] != "choice" or "logit_direct" not in told:
            continue
        asked = tokenizer.apply_chat_template(
            list(mini.WORDING.messages(reference, True)), add_generation_prompt=True, return_dict=True
        )["input_ids"]
        words = tokenizer.encode(direct(reference["answer"]), add_special_tokens=False)
        letter = tokenizer.encode(
            reference["answer"].removeprefix("[正确答案]").removesuffix("<eoa>"), add_special_tokens=False
        )
        assert len(letter) == 1
        ids = [*asked, *words]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        place = len(asked) + words.index(letter[0])
        assert told["logit_direct"] == pytest.approx(float(logits[place - 1, letter[0]]), abs=1e-3)
        assert told["logprob_direct"] == pytest.approx(float(logits[place - 1].log_softmax(-1)[letter[0]]), abs=1e-3)
        checked += 1
    assert checked >= 2


def test_another_model_rates_the_reasoning(storage: Path) -> None:
    summary = read_json(storage / "legal_delta.quality" / "rated" / "summary.json")
    assert summary["status"] == "finished"
    stored = Run(storage / "legal_delta.quality" / "rated").episodes(split="eval", steps=[0]).to_pylist()
    assert len(stored) == 10
    for episode in stored:
        told = dict(episode["components"])
        assert told["perplexity"] == pytest.approx(math.exp(-told["gold_logprob"]))
        assert told["perplexity"] >= 1
