"""Every objective is offered, has a preset with its published settings, and is refused what it cannot work with."""

from __future__ import annotations

import pytest

from orchestrator.config.checks import GROUPLESS
from orchestrator.config.compose import CORE_PRESETS, ConfigError, compose
from orchestrator.config.keys import keys_of
from orchestrator.config.schema import AlgorithmConfig, RunConfig
from orchestrator.learning.objectives import OBJECTIVES


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
