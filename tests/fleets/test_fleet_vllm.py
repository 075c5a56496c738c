"""Real vLLM engines behind a fleet: log-probabilities, weight updates, choices, a killed server."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.config.schema import FleetConfig, LearnerConfig, ModelConfig
from orchestrator.fleets.fleet import Fleet, start_servers
from orchestrator.fleets.specs import AdapterSpec, ServerSpec
from orchestrator.fleets.weights import publish
from orchestrator.learning.lora import adapted, apart, parts_of, whole, without_adapters
from orchestrator.learning.model import TokenScorer, build, served_weights
from orchestrator.learning.rows import Row, pack
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer
from orchestrator.values import Call, Choice, Fault, Sampling, Turn

pytestmark = pytest.mark.stack
WORDS = ["yes", "no", "we", "owe", "you", "honesty", "and", "care", "is", "harm", "hidden", "may", "break"]
GAP = 1e-4


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    root = tmp_path_factory.mktemp("models")
    made = {}
    for tied in (True, False):
        shape = ModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, context_tokens=128, tie_embeddings=tied)
        build_tokenizer(WORDS, [], 512, None, root / f"tokenizer-{tied}")
        build_model_folder(shape, root / f"tokenizer-{tied}", root / f"model-{tied}")
        made[tied] = root / f"model-{tied}"
    return made


@pytest.fixture(scope="module")
def fleets(ray_cluster: Any, folders: dict[bool, Path]) -> dict[bool, Fleet]:
    """One engine with tied embeddings and one without, started with placeholder weights, side by side."""
    made = {}
    for tied, folder in folders.items():
        spec = ServerSpec(
            "policy", 0, str(folder), False, ModelConfig(context_tokens=128), FleetConfig(kv_cache_bytes=2**26)
        )
        made[tied] = Fleet("policy", start_servers([spec]), 300, 300, max_restarts=2)
    for fleet in made.values():
        fleet.wait_ready()
    return made


def calls(count: int) -> list[Call]:
    message = ({"role": "user", "content": "we owe you honesty"},)
    return [Call(f"key-{n}", "policy", message, Sampling(24, temperature=0.7), seed=n) for n in range(count)]


def widened(scorer: TokenScorer, factor: float) -> TokenScorer:
    """Fresh weights are nearly uniform; larger ones make a wrong weight visible in every log-probability."""
    with torch.no_grad():
        for parameter in scorer.parameters():
            if parameter.ndim == 2:
                parameter.mul_(factor)
    return scorer


def largest_gap(scorer: TokenScorer, turns: list[Turn]) -> float:
    rows = [Row(turn.prompt_ids, (turn.completion_ids,), (len(turn.completion_ids),)) for turn in turns]
    sampled = torch.tensor([logprob for turn in turns for logprob in turn.logprobs])
    scored = torch.empty_like(sampled)
    for microbatch in pack(rows, 0, 1, 10**6, 0):
        with torch.no_grad():
            scored[microbatch.flat] = scorer(microbatch, temperature=0.7).logprobs
    return float((scored - sampled).abs().max())


def turns_of(fleet: Fleet, count: int = 12) -> list[Turn]:
    """A step's first answers."""
    fleet.begin_step("train")
    answers = fleet.complete(calls(count))
    assert all(isinstance(answer, Turn) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Turn)]


@pytest.mark.parametrize("tied", [True, False])
def test_engine_and_trainer_agree_after_every_update(
    fleets: dict[bool, Fleet], folders: dict[bool, Path], tied: bool
) -> None:
    fleet = fleets[tied]
    for version, factor in ((1, 6.0), (2, 10.0)):
        scorer = widened(build(folders[tied], seed=version, dtype="float32"), factor)
        fleet.push(publish(version, [dict(served_weights(scorer))]))
        turns = turns_of(fleet)
        assert {turn.weight_version for turn in turns} == {version}
        assert max(-min(turn.logprobs) for turn in turns) > 1.0
        assert largest_gap(scorer, turns) < GAP


@pytest.mark.long
def test_a_server_adds_adapters_itself(ray_cluster: Any, folders: dict[bool, Path]) -> None:
    """Two adapters after one another on weights that are sent once; log-probabilities are the trainer's of their sum."""
    learner = LearnerConfig(lora_rank=4, lora_alpha=16)
    scorer = adapted(widened(build(folders[True], seed=1, dtype="float32"), 6.0), learner)
    shape, settings = ModelConfig(context_tokens=128), FleetConfig(kv_cache_bytes=2**26)
    spec = ServerSpec(
        "policy", 0, str(folders[True]), False, shape, settings, adapter=AdapterSpec.of(learner)
    )  # fmt: skip
    fleet = Fleet("policy", start_servers([spec]), 300, 300, max_restarts=2)
    fleet.wait_ready()
    weights, adapters = apart(served_weights(scorer))
    fleet.push(publish(0, [{name: whole(weight) for name, weight in weights}]))
    seen = []
    for version in (1, 2):
        with torch.no_grad():
            for _, weight in adapters[1::2]:
                parts_of(weight)[0].normal_(0, 0.1)
        fleet.push(publish(version, [{name: whole(weight) for name, weight in adapters}], fleet.base))
        seen.append(turns_of(fleet))
        assert {turn.weight_version for turn in seen[-1]} == {version}
        assert largest_gap(scorer, seen[-1]) < GAP
    assert largest_gap(scorer, seen[0]) > 0.1
    with without_adapters(scorer):
        assert largest_gap(scorer, seen[1]) > 0.1
    for server in fleet.servers:
        ray_cluster.kill(server)


def test_the_same_calls_give_the_same_tokens_and_another_seed_others(fleets: dict[bool, Fleet]) -> None:
    first, again = turns_of(fleets[True]), turns_of(fleets[True])
    assert first == again
    assert len({turn.completion_ids for turn in first}) > 6


def test_choices_are_the_probabilities_of_the_words(fleets: dict[bool, Fleet], folders: dict[bool, Path]) -> None:
    """P(yes) and P(no) of the next token equal a softmax over the trainer's logits at the prompt's last position."""
    from transformers import AutoTokenizer

    scorer = widened(build(folders[False], seed=7, dtype="float32"), 6.0)
    fleets[False].push(publish(3, [dict(served_weights(scorer))]))
    message = ({"role": "user", "content": "is harm hidden"},)
    answer = fleets[False].complete([Call("judged", "policy", message, choices=("yes", "no"))])[0]
    tokenizer = AutoTokenizer.from_pretrained(folders[False])
    ids = tokenizer.apply_chat_template(list(message), add_generation_prompt=True, return_dict=True)["input_ids"]
    with torch.no_grad():
        probabilities = scorer.language_model(torch.tensor([ids])).logits[0, -1].softmax(-1)
    assert isinstance(answer, Choice)
    for word in ("yes", "no"):
        expected = float(probabilities[tokenizer.encode(word, add_special_tokens=False)[0]])
        assert answer.probabilities[word] == pytest.approx(expected, abs=1e-6)


def test_a_prompt_longer_than_the_context_is_a_fault(fleets: dict[bool, Fleet]) -> None:
    long = ({"role": "user", "content": "harm " * 300},)
    good, bad = fleets[True].complete([*calls(1), Call("long", "policy", long, Sampling(4))])
    assert isinstance(good, Turn)
    assert isinstance(bad, Fault)
    assert bad.lasting
    assert "128" in bad.reason


def test_a_killed_server_comes_back_with_its_weights_and_its_batch(fleets: dict[bool, Fleet]) -> None:
    """In a step's second batch, which finds the first one's prompt (48 words, a block of 32 tokens) in the cache."""
    fleet = fleets[True]
    message = ({"role": "user", "content": "we owe you honesty " * 12},)
    batches = [[replace(call, messages=message) for call in calls(count)] for count in (1, 8)]
    fleet.begin_step("train")
    fleet.take_statistics()
    before = [fleet.complete(batch) for batch in batches]
    assert fleet.take_statistics()["cached_tokens"] >= 8 * 32
    fleet.begin_step("train")
    first = fleet.complete(batches[0])
    pid = fleet.wait_ready()[0]["pid"]
    os.kill(pid, signal.SIGKILL)
    assert [first, fleet.complete(batches[1])] == before
    assert fleet.wait_ready()[0]["pid"] != pid
    assert fleet.take_statistics()["restarts"] == 1
