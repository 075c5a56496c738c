"""Sequence ratios, log Z and critic under DeepSpeed: the same on one rank and two, saved, and not served. From `two_ranks`."""

from __future__ import annotations

from typing import Any

import pytest
from two_ranks import OBJECTIVE_CASES, OBJECTIVES_ON_RANKS

pytestmark = [pytest.mark.stack, pytest.mark.parametrize("name", OBJECTIVES_ON_RANKS)]


def test_an_objectives_update_is_the_same_on_one_rank_and_on_two(trained: dict[str, Any], name: str) -> None:
    """After several steps, over ranks, ZeRO stages 2 and 3 (sharded from the first), and microbatches.

    After their last step the float32 gradients' moments agree to 1e-5 of the largest.
    """
    alone, *others = (trained[f"{name}-{case.name}"] for case in OBJECTIVE_CASES)
    for other in others:
        assert other["state"].keys() == alone["state"].keys()
        for parameter, slots in alone["state"].items():
            for slot, tensor in slots.items():
                here = other["state"][parameter][slot]
                bound = 1e-5 * float(tensor.abs().max()) + (2e-5 if slot == "master" else 1e-7)
                assert float((here - tensor).abs().max()) <= bound, f"{parameter} {slot}"
        assert other["metrics"].keys() == alone["metrics"].keys()
        for metric, value in alone["metrics"].items():
            assert other["metrics"][metric] == pytest.approx(value, rel=1e-4, abs=1e-5), metric


def test_what_an_objective_adds_is_saved_and_not_served(trained: dict[str, Any], name: str) -> None:
    """FlowRL's head beside the policy's weights, PPO's critic under names of its own; a fresh learner takes both over."""
    added = {"gspo": [], "ppo": ["critic.head.", "critic.language_model."], "flowrl": ["log_partition."]}[name]
    for case in OBJECTIVE_CASES:
        result = trained[f"{name}-{case.name}"]
        for beginning in added:
            assert any(parameter.startswith(beginning) for parameter in result["state"]), beginning
        assert not any("log_partition" in served or "head" in served for served in result["served"])
        for parameter, slots in result["state"].items():
            for slot, tensor in slots.items():
                assert result["again"][parameter][slot].equal(tensor), f"{parameter} {slot}"
        assert ("policy/log_z" in result["metrics"]) == (name == "flowrl")
        assert ("critic/loss" in result["metrics"]) == (name == "ppo")
