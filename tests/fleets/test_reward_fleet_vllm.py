"""Real vLLM engines that serve a reward model: scalars as transformers computes them, calibrated, of a folder and of pushed weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.config.schema import FleetConfig, ModelConfig
from orchestrator.fleets.fleet import Fleet, start_servers
from orchestrator.fleets.specs import ServerSpec
from orchestrator.fleets.weights import publish
from orchestrator.learning.calibration import Calibration
from orchestrator.learning.head import sequence_scorer, sequence_settings
from orchestrator.learning.model import build, read_folder, save_folder, served_weights
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer
from orchestrator.values import Call, Fault, Score

pytestmark = pytest.mark.stack
WORDS = ["we", "owe", "you", "honesty", "and", "care", "is", "harm", "hidden", "may", "break"]
SHAPE = ModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, context_tokens=128)
CALIBRATION = Calibration(0.25, 0.5, 40)
PROMPT = {"role": "user", "content": "we owe you honesty " * 12}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(a model that writes, without weights; the reward model that was made of it)"""
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("models")
    build_tokenizer(WORDS, [], 512, None, root / "tokenizer")
    build_model_folder(SHAPE, root / "tokenizer", root / "built")
    scorer = sequence_scorer(build(root / "built", seed=1, dtype="float32"), ["reward"])
    with torch.no_grad():
        torch.nn.init.normal_(scorer.head.weight, generator=torch.Generator().manual_seed(2))
    settings = sequence_settings(str(root / "built"), AutoTokenizer.from_pretrained(root / "built"), ("reward",))
    save_folder(dict(served_weights(scorer)), root / "built", root / "taught", {**settings, **CALIBRATION.settings})
    return root / "built", root / "taught"


@pytest.fixture(scope="module")
def fleets(ray_cluster: Any, folders: tuple[Path, Path]) -> dict[str, Fleet]:
    """Of the taught folder, and of placeholders in the shape that it will have."""
    built, taught = map(str, folders)
    settings = FleetConfig(kv_cache_bytes=2**26)
    specs = {
        "named": ServerSpec("content", 0, taught, True, SHAPE, settings, scores=True),
        "pushed": ServerSpec("content", 1, built, False, SHAPE, settings, scores=True, taught=taught),
    }
    made = {name: Fleet("content", start_servers([spec]), 300, 300, 0) for name, spec in specs.items()}
    for fleet in made.values():
        fleet.wait_ready()
    made["pushed"].push(publish(1, read_folder(folders[1])))
    return made


def calls() -> list[Call]:
    """Answers of one prompt of 48 words: all but the first share a cached block of it."""
    answers = [" ".join(WORDS[start : start + 1 + start % 4]) for start in range(8)]
    return [
        Call(f"key-{n}", "content", (PROMPT, {"role": "assistant", "content": text}), scalar=True, route="one")
        for n, text in enumerate(answers)
    ]


def by_transformers(folder: Path) -> list[float]:
    """The same texts, each alone, with the end of the text."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = (
        AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    prompt = tokenizer.apply_chat_template([PROMPT], add_generation_prompt=True, return_dict=True)["input_ids"]
    with torch.no_grad():
        return [
            float(
                model(
                    torch.tensor([[*prompt, *tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]])
                ).logits
            )
            for text in (call.messages[-1]["content"] for call in calls())
        ]


@pytest.mark.parametrize("which", ["named", "pushed"])
def test_scalars_are_those_of_transformers(fleets: dict[str, Fleet], folders: tuple[Path, Path], which: str) -> None:
    """Also with a cached prefix; the value is (raw - 0.25) / 0.5, and each batch is repeated to the last bit."""
    fleet, expected = fleets[which], by_transformers(folders[1])
    assert max(expected) - min(expected) > 0.1
    answers = []
    for _ in range(2):
        fleet.begin_step("train")
        answers.append(fleet.complete(calls()[:1]) + fleet.complete(calls()))
    assert answers[0] == answers[1]
    scores = [answer for answer in answers[0] if isinstance(answer, Score)]
    assert [score.raw for score in scores] == pytest.approx([expected[0], *expected], abs=1e-4)
    assert [score.value for score in scores] == pytest.approx([(score.raw - 0.25) / 0.5 for score in scores])
    assert fleet.take_statistics()["cached_tokens"] >= 2 * 8 * 32


def test_an_answer_that_fills_the_context_is_scored_and_a_longer_one_is_a_fault(fleets: dict[str, Fleet]) -> None:
    fleet = fleets["named"]

    def asked(words: int) -> Any:
        messages = ({"role": "user", "content": "we"}, {"role": "assistant", "content": "care " * words})
        return fleet.complete([Call(str(words), "content", messages, scalar=True)])[0]

    fleet.begin_step("train")
    first = next(words for words in range(100, 140) if isinstance(asked(words), Fault))
    assert asked(first).lasting
    assert "128" in asked(first).reason
    assert isinstance(asked(first - 1), Score)
