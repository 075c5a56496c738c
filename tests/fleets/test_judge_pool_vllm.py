"""A pool over a real vLLM engine: what two runs that ask at once get, and what a kept verdict is."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import JudgeConfig, ModelConfig, RunConfig
from orchestrator.fleets.pool import lease
from orchestrator.fleets.pooled import PooledFleet
from orchestrator.learning.model import build, save_folder, served_weights
from orchestrator.learning.starting import StartingModel
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer
from orchestrator.values import JUDGE, Call, Choice

pytestmark = [pytest.mark.stack, pytest.mark.long]
WORDS = ["yes", "no", "we", "owe", "you", "honesty", "and", "care", "is", "harm", "hidden", "may", "break"]


def questions(words: Sequence[str]) -> list[Call]:
    return [
        Call(f"{one} {other}", JUDGE, ({"role": "user", "content": f"we owe {one} {other}"},), choices=("yes", "no"))
        for one in words
        for other in WORDS
    ]


def yes(fleet: PooledFleet, purpose: str, calls: Sequence[Call]) -> list[float]:
    fleet.begin_step(purpose)
    answers = fleet.complete(calls)
    return [answer.probabilities["yes"] for answer in answers if isinstance(answer, Choice)]


def test_runs_share_one_engine_and_batches_move_the_last_bits_alone(ray_cluster: Any, tmp_path: Path) -> None:
    """26 questions asked for another purpose are asked again, among others: P(yes) stays within 1e-5. Kept ones stay as they are."""
    shape = ModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, context_tokens=128)
    build_tokenizer(WORDS, [], 512, None, tmp_path / "tokenizer")
    build_model_folder(shape, tmp_path / "tokenizer", tmp_path / "built")
    save_folder(dict(served_weights(build(tmp_path / "built", 0, "float32"))), tmp_path / "built", tmp_path / "judge")
    judge = JudgeConfig(name=f"path:{tmp_path / 'judge'}", model=shape, shared=True)
    config = RunConfig(storage=str(tmp_path / "runs"), judge=judge)
    model = StartingModel(JUDGE, str(tmp_path / "judge"), True, None, False, served=False)
    mine, others = questions(WORDS[:2]), questions(WORDS[2:])
    with lease(config, model, "the driver") as spec, ThreadPoolExecutor(2) as threads:
        one, other = PooledFleet(spec, "one"), PooledFleet(spec, "other")
        alone = yes(one, "train", mine)
        beside = threads.submit(yes, other, "eval", others)
        among = yes(one, "eval", mine)
        assert len(beside.result()) == len(others)
        assert (len(alone), among) == (26, pytest.approx(alone, abs=1e-5))
        assert yes(other, "train", mine) == alone
        assert yes(other, "eval", mine) == among
        counted = other.take_statistics()
        assert (counted["asked"], counted["verdict_hits"]) == (len(others) + 52, 52)
        one.close()
        other.close()
