"""Which server gets a call, and what it does with a batch, over an engine and a tokenizer that only take notes."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator.config.schema import FleetConfig, ModelConfig
from orchestrator.fleets.choices import ChoiceTokens
from orchestrator.fleets.fleet import server_of, slowest
from orchestrator.fleets.server import MissedBatchesError, StaleWeightsError, VllmServer
from orchestrator.fleets.specs import ServerSpec
from orchestrator.learning.calibration import Calibration
from orchestrator.learning.tokenizer import build_tokenizer
from orchestrator.values import Call, Choice, Fault, Sampling, Score, Turn

CONTEXT = 10


class Engine:
    """Generates token 7 for everyone, with probability 1; whoever asks for a class gets the length of the prompt."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.waiting: dict[str, list[int]] = {}
        self.pooled = False

    def reset_prefix_cache(self) -> None:
        self.notes.append("reset")

    def add_request(self, name: str, prompt: dict[str, list[int]], parameters: Any, lora_request: Any) -> None:
        self.notes.append(f"add {name}: {len(prompt['prompt_token_ids'])}")
        self.waiting[name] = prompt["prompt_token_ids"]
        self.pooled = self.pooled or "task" in parameters

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)

    def step(self) -> list[Any]:
        done, self.waiting = self.waiting, {}
        row = dict.fromkeys(range(64), SimpleNamespace(logprob=0.0))
        if self.pooled:
            return [
                SimpleNamespace(
                    request_id=f"{name}-x",
                    finished=True,
                    outputs=SimpleNamespace(data=torch.tensor([float(len(ids))])),
                    num_cached_tokens=1,
                )
                for name, ids in done.items()
            ]
        completion = SimpleNamespace(token_ids=[7], logprobs=[row], finish_reason="stop")
        return [
            SimpleNamespace(request_id=f"{name}-x", finished=True, outputs=[completion], num_cached_tokens=0)
            for name in reversed(done)
        ]


class Words:
    """A token a word; a chat is its last message. Only "yes" and "no" are one token in every form."""

    def apply_chat_template(self, messages: list[Any], **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [1] * len(messages[-1]["content"].split())}

    eos_token_id = 9

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [2] * len(text.split())}

    def encode(self, word: str, add_special_tokens: bool) -> list[int]:
        return [3] if word.strip().lower() in ("yes", "no") else [4, 5]

    def decode(self, ids: tuple[int, ...], skip_special_tokens: bool) -> str:
        return "seven"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> VllmServer:
    """A server that needs no vLLM: weights of version 4, a context of 10 tokens."""
    for name, content in (
        ("vllm", {"SamplingParams": dict, "PoolingParams": dict}),
        ("vllm.sampling_params", {"RequestOutputKind": SimpleNamespace(FINAL_ONLY=0)}),
    ):
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    made = object.__new__(VllmServer)
    spec = ServerSpec("judge", 0, "models/x", False, ModelConfig(context_tokens=CONTEXT), FleetConfig())
    state = {
        "spec": spec,
        "engine": Engine(),
        "adapter": None,
        "tokenizer": Words(),
        "version": 4,
        "batches": 0,
        "choices": ChoiceTokens(Words(), "models/x"),
        "asleep": set(),
        "calibration": Calibration(1.0, 0.5, 10),
    }
    made.__dict__.update({f"_{name}": value for name, value in state.items()})
    return made


def notes(server: VllmServer) -> list[str]:
    return server._engine.notes


def asked(words: int, *choices: str) -> Call:
    message = ({"role": "user", "content": "word " * words},)
    return Call(f"of {words}", "judge", message, None if choices else Sampling(4), choices)


def test_calls_of_one_route_share_a_server_and_others_are_spread() -> None:
    """Eight criteria of each of 40 responses: a response is whole on one server; each of three servers gets its share, 13 ± 9
    (three standard deviations). Without a route it is the key that decides.
    """
    servers: Counter[int] = Counter()
    for response in range(40):
        calls = [Call(f"1/t/{response}/{c}", "judge", (), route=f"1/t/{response}") for c in range(8)]
        (server,) = {server_of(call, 3) for call in calls}
        servers[server] += 1
        assert server_of(Call(f"1/t/{response}", "judge", ()), 3) == server
    assert sorted(servers) == [0, 1, 2]
    assert all(4 <= count <= 22 for count in servers.values())


def test_a_steps_batches_share_one_prefix_cache(server: VllmServer) -> None:
    """Step one: batches 0 and 1. Step two begins with its own batch 0."""
    for number in (0, 1, 0):
        (answer,), statistics = server.complete([asked(3)], 4, number)
        assert isinstance(answer, Turn)
        assert statistics["prompt_tokens"] == 3
    assert notes(server) == ["reset", "add 0: 3", "add 0: 3", "reset", "add 0: 3"]


def test_a_batch_out_of_its_order_and_other_weights_are_refused(server: VllmServer) -> None:
    """A server that was restarted knows no batch, so it cannot have cached what the third of a step builds on."""
    with pytest.raises(MissedBatchesError, match="judge-0 knows 0 batches of this step, not 2"):
        server.complete([asked(3)], 4, 2)
    with pytest.raises(StaleWeightsError, match="holds weights 4, asked for 5"):
        server.complete([asked(3)], 5, 0)
    assert notes(server) == []


def test_a_prompt_without_room_is_a_lasting_fault_and_the_others_are_answered(server: VllmServer) -> None:
    """A context of 10: nine words leave room for one token, ten for none."""
    answers, statistics = server.complete([asked(10), asked(9, "yes", "no"), asked(2)], 4, 0)
    assert answers[0] == Fault("prompt of 10 tokens leaves no room in a context of 10", lasting=True)
    assert isinstance(answers[1], Choice)
    assert isinstance(answers[2], Turn)
    assert len(answers[2].prompt_ids) == 2
    assert notes(server) == ["reset", "add 1: 9", "add 2: 2"]
    assert statistics["prompt_tokens"] == 11


def scalar(words: int) -> Call:
    messages = ({"role": "user", "content": "word word"}, {"role": "assistant", "content": "good " * words})
    return Call(f"of {words}", "judge", messages, scalar=True)


def test_a_reward_model_reads_prompt_answer_and_end(server: VllmServer) -> None:
    """Two words of a prompt, three of an answer, the end: raw 6, which is (6 - 1) / 0.5 = 10 spreads above the mean. Seven words
    fill the context of 10, and eight are too many.
    """
    server._spec = replace(server._spec, scores=True)
    assert server._render(scalar(3)) == [1, 1, 2, 2, 2, 9]
    answers, statistics = server.complete([scalar(3), scalar(8), scalar(7)], 4, 0)
    assert answers[0] == Score(10.0, 6.0)
    assert isinstance(answers[1], Fault)
    assert answers[1].lasting
    assert answers[2] == Score(18.0, 10.0)
    counted = {name: statistics[name] for name in ("prompt_tokens", "cached_tokens", "generated_tokens")}
    assert counted == {"prompt_tokens": 16, "cached_tokens": 2, "generated_tokens": 0}


def test_words_and_scalars_are_not_mixed_up(server: VllmServer) -> None:
    with pytest.raises(ValueError, match="judge-0 writes, and call of 3 asks it for a scalar"):
        server.complete([scalar(3)], 4, 0)
    server._spec = replace(server._spec, scores=True)
    with pytest.raises(ValueError, match="judge-0 scores answers, and call of 3 asks it for words"):
        server.complete([asked(3)], 4, 0)
    assert notes(server) == ["reset", "reset"]


def test_a_call_that_cannot_be_asked_leaves_nothing_behind_in_the_engine(server: VllmServer) -> None:
    with pytest.raises(ValueError, match="no single token spells 'maybe'"):
        server.complete([asked(3), asked(3, "maybe")], 4, 0)
    assert notes(server) == ["reset"]


TEMPLATE = (
    "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    "{% if enable_thinking is not defined or enable_thinking %} think{% endif %}"
)


@pytest.mark.parametrize(("thinking", "expected"), [(False, "we owe"), (True, "we owe think")])
def test_a_template_that_thinks_by_default_is_told_not_to(
    server: VllmServer, tmp_path: Path, thinking: bool, expected: str
) -> None:
    """As Qwen3's: a verdict of one token must not find itself in a thinking block."""
    from transformers import AutoTokenizer

    build_tokenizer(["we", "owe", "think"], [], 512, TEMPLATE, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    server._tokenizer = tokenizer
    server._spec = ServerSpec("judge", 0, "x", True, ModelConfig(thinking=thinking), FleetConfig())
    ids = server._render(Call("k", "judge", ({"role": "user", "content": "we owe"},), choices=("yes",)))
    assert tokenizer.decode(ids).strip() == expected


# Of three servers the median is 2 s; of two it is the faster one's, 4 s. One server, or none that worked, has no other to wait for.
def test_the_slowest_server_is_compared_with_the_median() -> None:
    assert slowest({0: 1.0, 1: 2.0, 4: 5.0}) == {"slowest": 4.0, "slowest_ratio": 2.5}
    assert slowest({0: 6.0, 1: 4.0}) == {"slowest": 0.0, "slowest_ratio": 1.5}
    assert slowest({0: 6.0}) == slowest({}) == slowest({0: 0.0, 1: 0.0}) == {}
