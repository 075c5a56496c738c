"""Settings that cannot go together: each is refused, names its keys, and its remedy is taken."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.config.checks import check
from orchestrator.config.compose import ConfigError, compose
from orchestrator.config.keys import keys_of

WORKLOAD = """
from orchestrator.config.schema import RunConfig as Config


class Workload:
    def __init__(self, config: Config) -> None: ...
"""
URL = "http://localhost:8000/v1"

SPLIT = ["learner.gpus_per_rank=1", "rollout.fleet.gpus_per_server=1", "judge.fleet.gpus_per_server=1"]
COLOCATED = ["placement=colocated", *SPLIT]

BFLOAT16 = ["model.dtype=bfloat16", "limits.logprob_gap_max=10", "limits.logprob_gap_mean=0.05"]
SHARED = ["judge.shared=true", "judge=hf:Qwen/Qwen3-0.6B"]
IMPOSSIBLE = {
    "completion fills the context": ["rollout.max_completion_tokens=256"],
    "width not a multiple of heads": ["model.heads=6", "model.kv_heads=2"],
    "odd head width": ["model.heads=128", "model.kv_heads=2"],
    "heads not a multiple of kv heads": ["model.kv_heads=3"],
    "judge: width not a multiple of heads": ["judge.model.hidden_size=130"],
    "judge: heads not a multiple of kv heads": ["judge.model.kv_heads=3"],
    "heads over GPUs": ["rollout.fleet.gpus_per_server=3"],
    "no data": ["data.source=morebench_site"],
    "data not there": ["data.source=morebench_site", "data.path=missing.json"],
    "data that is not read": ["data.path=present.json"],
    "a path as name": ["name=runs/first"],
    "a parent as name": ["name=.."],
    "an empty name": ["name=''"],
    "a reference as name": ["name=first@3"],
    "no storage": ["storage=''"],
    "a URL as policy": [f"model={URL}"],
    "no model reference": ["model=Qwen/Qwen3-0.6B"],
    "no judge reference": ["judge=gpt"],
    "no model folder": ["model=path:missing"],
    "no such run": ["judge=run:missing"],
    "the judge's name in the wrong place": ["judge.model=hf:Qwen/Qwen3-0.6B"],
    "more minibatches than episodes": ["algorithm.minibatches=65"],
    "bfloat16 without ZeRO": [*BFLOAT16, "learner.zero_stage=0"],
    "float32's bound for bfloat16": ["model.dtype=bfloat16"],
    "offloaded optimizer at stage 1": ["learner.offload_optimizer=true", "learner.zero_stage=1"],
    "offloaded parameters at stage 2": ["learner.offload_parameters=true"],
    "colocated on parts of GPUs": ["placement=colocated", "learner.gpus_per_rank=0.5"],
    "colocated servers on GPUs, learner on the CPU": ["placement=colocated", "rollout.fleet.gpus_per_server=1"],
    "a colocated server on part of a GPU": [*COLOCATED, "judge.fleet.gpus_per_server=0.5"],
    "a colocated server without GPU": [*COLOCATED, "rollout.fleet.gpus_per_server=0"],
    "more colocated servers than GPUs": [*COLOCATED, "rollout.fleet.servers=3"],
    "a colocated server of more GPUs than there are": [*COLOCATED, "judge.fleet.gpus_per_server=4"],
    "ipc on the CPU": ["sync.transport=ipc"],
    "nccl on the CPU": ["sync.transport=nccl"],
    "ipc between GPUs": [*SPLIT, "sync.transport=ipc"],
    "nccl on one GPU": [*COLOCATED, "sync.transport=nccl"],
    "a shared judge that every run would teach": ["judge.shared=true"],
    "a shared judge behind a URL": ["judge.shared=true", f"judge={URL}"],
    "nccl on parts of GPUs": [*SPLIT, "learner.gpus_per_rank=0.5", "sync.transport=nccl"],
}

POSSIBLE = {
    "policy on a GPU, learner on the CPU": ["rollout.fleet.gpus_per_server=1"],
    "bfloat16 on the CPU": BFLOAT16,
    "a URL as judge": [f"judge={URL}"],
    "shapes of a model from elsewhere are not looked at": ["model=hf:Qwen/Qwen3-0.6B", "model.kv_heads=3"],
    "as many minibatches as episodes": ["algorithm.minibatches=64"],
    "the longest completion": ["rollout.max_completion_tokens=255"],
    "data": ["data.source=morebench_site", "data.path=present.json"],
    "every ZeRO stage": ["learner.zero_stage=0"],
    "name": ["name=my-run_2.1"],
    "colocated on GPUs": [*COLOCATED, "rollout.fleet.servers=2", "judge.fleet.gpus_per_server=2", "sync.transport=ipc"],
    "colocated on the CPU": ["placement=colocated", "rollout.fleet.servers=3"],
    "colocated with a judge elsewhere": [*COLOCATED, f"judge={URL}", "judge.fleet.servers=9"],
    "colocated with a judge of a pool on the CPU": [*COLOCATED, *SHARED, "judge.fleet.gpus_per_server=0"],
    "nccl between GPUs": [*SPLIT, "sync.transport=nccl"],
    "everything offloaded": [
        "learner.zero_stage=3",
        "learner.offload_optimizer=true",
        "learner.offload_parameters=true",
    ],
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "world.py").write_text(WORKLOAD)
    (tmp_path / "present.json").write_text("[]")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("overrides", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_combination_is_refused_by_its_keys(overrides: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("world.py", overrides)
    message = str(caught.value)
    assert any(override.partition("=")[0] in message for override in overrides)
    assert "wrong:" not in message  # one cause, one sentence
    keys = keys_of(type(compose("world.py")))
    named = re.findall(r"\b((?:[a-z_]+\.)+[a-z_]+)(?==)", message)
    assert set(named) <= set(keys)


@pytest.mark.parametrize("overrides", POSSIBLE.values(), ids=POSSIBLE.keys())
def test_what_is_possible_is_taken(overrides: list[str]) -> None:
    assert check(compose("world.py", overrides)) == []
