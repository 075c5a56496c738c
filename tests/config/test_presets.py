"""Every objective is offered, has a preset with its published settings, and is refused what it cannot work with."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cluster.needs import needs_of
from orchestrator.config.checks import GROUPLESS
from orchestrator.config.compose import ConfigError, compose, trace
from orchestrator.config.keys import keys_of
from orchestrator.config.layers import CORE_PRESETS
from orchestrator.config.schema import AlgorithmConfig, RunConfig
from orchestrator.learning.objectives import OBJECTIVES

OWN = """
from workloads.base import BaseWorkload

class Workload(BaseWorkload):
    def tasks(self, split):
        return []

def reward(episodes):
    return []
"""


def test_the_names_on_offer_are_those_of_the_table() -> None:
    assert keys_of(RunConfig)["algorithm.name"].choices == tuple(sorted(OBJECTIVES))
    assert [name for name in OBJECTIVES if AlgorithmConfig(name=name).has_critic] == ["ppo"]
    assert all(AlgorithmConfig(name=name).has_critic == objective.critic for name, objective in OBJECTIVES.items())
    assert set(GROUPLESS) == {name for name, objective in OBJECTIVES.items() if not objective.compares}


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("ppo", "kl_in", "reward"), ("ppo", "dual_clip", 3), ("grpo", "kl_weight", 0.001), ("dr_grpo", "kl_weight", 0),
        ("dapo", "clip_high", 0.28), ("dapo", "dynamic_sampling", True), ("rloo", "kl_estimator", "k1"),
        ("reinforce_pp", "kl_in", "reward"), ("reinforce_pp_baseline", "kl_estimator", "k2"), ("gspo", "clip_high", 4e-4),
        ("cispo", "clip_high", 4), ("flowrl", "beta", 15),
    ],
)  # fmt: skip
def test_a_name_alone_selects_the_published_settings(name: str, key: str, value: object) -> None:
    config = compose("rlvr", [f"algorithm={name}"])
    assert config.algorithm.name == name
    assert getattr(config.algorithm, key) == value
    assert compose("rlvr", [f"algorithm={name}", "algorithm.clip_low=0.125"]).algorithm.clip_low == 0.125


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_machine_leaves_the_published_settings_alone(name: str) -> None:
    plain = compose("rlvr", [f"algorithm={name}"]).algorithm
    for path in (CORE_PRESETS / "hardware").glob("*.yaml"):
        assert compose("rlvr", [f"hardware={path.stem}", f"algorithm={name}"]).algorithm == plain


def test_a_single_answer_a_prompt() -> None:
    assert compose("rlvr", ["algorithm=ppo", "rollout.samples_per_prompt=1"]).rollout.samples_per_prompt == 1
    for settings in (["algorithm=rloo"], ["algorithm=ppo", "algorithm.dynamic_sampling=true"]):
        with pytest.raises(ConfigError, match=r"rollout.samples_per_prompt=1: .* sample at least 2"):
            compose("rlvr", [*settings, "rollout.samples_per_prompt=1"])


def test_a_dual_clip_below_fresh_samples_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"algorithm.dual_clip=0.5 .* set it above 1"):
        compose("rlvr", ["algorithm.dual_clip=0.5"])


def test_pretrained_weights_on_ones_own_data_are_of_the_small_size(tmp_path: Path) -> None:
    """Not where a preset or a machine is chosen, for a policy built on the spot, or where the workload has no such preset."""
    (tmp_path / "p.csv").touch()
    data, model, judge = f"data.path={tmp_path}/p.csv", "model=hf:Qwen/Qwen3-0.6B", "judge=hf:Qwen/Qwen3-1.7B"
    composed = trace("rubric", [data, model, judge])
    config = composed.config
    assert (config.preset, composed.origins["preset"]) == ("small", "model=hf:Qwen/Qwen3-0.6B")
    assert (config.model.name, config.model.dtype, config.learner.lora_rank) == ("hf:Qwen/Qwen3-0.6B", "bfloat16", 16)
    assert not needs_of(config, 24).lacks
    for words in ([data, model, judge, "preset=mini"], [model, judge], [data, judge], [data, model, "hardware=1x80GB"]):
        assert compose("rubric", words).preset == "mini", words
    (tmp_path / "own.py").write_text(OWN)
    assert compose(f"{tmp_path}/own.py", [data, "data.source=csv", model]).preset == "mini"


def test_a_judge_on_the_cpu_has_room_for_its_widened_context(tmp_path: Path) -> None:
    """Qwen3-1.7B in float32: 28 layers x 8 heads x 128 wide x keys and values x 4 bytes are 229,376 bytes a token; 1 GiB holds 4,681 of
    them, and 512 + 1,024 are needed."""
    config = compose("rubric", ["judge=hf:Qwen/Qwen3-1.7B"])
    assert (config.preset, config.roles()["judge"].model.context_tokens) == ("mini", 1536)
    assert config.judge.fleet.kv_cache_bytes // (28 * 8 * 128 * 2 * 4) == 4681
    assert not needs_of(config, None).lacks
