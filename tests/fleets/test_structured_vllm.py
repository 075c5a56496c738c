"""Real vLLM engine: calls that are held to a form answer in it, also from weights that know nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import FleetConfig, ModelConfig
from orchestrator.fleets.fleet import Fleet, start_servers
from orchestrator.fleets.specs import ServerSpec
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer
from orchestrator.values import Call, Fault, Sampling, Turn
from workloads.cdi.tool_wording import ToolWording
from workloads.cdi.tools import LOOP_TOOLS, TOOLS

pytestmark = pytest.mark.stack
WORDS = ["send", "wait", "ann", "bob", "one", "two", "three", "yes", "no"]
GRAMMAR = 'root ::= " send" (" ann" | " bob") (" one" | " two" | " three") | " wait"'
ASKED = ({"role": "user", "content": "send"},)


@pytest.fixture(scope="module")
def fleet(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    root: Path = tmp_path_factory.mktemp("models")
    shape = ModelConfig(hidden_size=64, layers=2, heads=2, kv_heads=1, context_tokens=512)
    build_tokenizer(WORDS, [], 512, None, root / "tokenizer")
    build_model_folder(shape, root / "tokenizer", root / "model")
    served = ServerSpec(
        "sender", 0, str(root / "model"), False, ModelConfig(context_tokens=512), FleetConfig(kv_cache_bytes=2**26)
    )
    made = Fleet("sender", start_servers([served]), 300, 300, max_restarts=0)
    made.wait_ready()
    return made


def call(number: int, **what: Any) -> Call:
    return Call(f"key-{number}", "sender", ASKED, Sampling(400), seed=number, **what)


def test_a_grammar_of_words_and_a_tool_call_hold_and_others_stay_free(fleet: Fleet) -> None:
    """Fresh weights draw nearly at random: without a form none of these would ever come out."""
    wording, tools = ToolWording(), (TOOLS["Messenger_get_messages"], *LOOP_TOOLS)
    asked = [call(n, schema=GRAMMAR) for n in range(8)]
    asked += [call(n, schema=wording.schema((LOOP_TOOLS[1],))) for n in range(8, 12)]
    asked += [call(12), call(13, schema="root ::= (")]
    fleet.begin_step("train")
    *answers, free, broken = fleet.complete(asked)
    for answer in answers[:8]:
        assert isinstance(answer, Turn)
        words = answer.text.split()
        assert words == ["wait"] or (words[0], len(words)) == ("send", 3), answer.text
        assert answer.finish_reason == "stop"
    for answer in answers[8:]:
        assert isinstance(answer, Turn)
        assert wording.read(answer.text, tools).tool.name == "complete_task"
        assert json.loads(answer.text) == {"name": "complete_task", "arguments": {}}
    assert isinstance(free, Turn)
    assert len(free.completion_ids) > 3
    assert isinstance(broken, Fault)
    assert broken.lasting
    # The engine goes on after a form that it refused.
    (again,) = fleet.complete([call(20, schema=GRAMMAR)])
    assert isinstance(again, Turn)
