"""ZeRO-3 keeps models sharded from their birth, and changes nothing in what they compute; what cannot be offloaded is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from orchestrator.config.schema import LearnerConfig
from orchestrator.errors import ConfigError
from orchestrator.learning.zero import deepspeed_config


@pytest.mark.parametrize("stage", [0, 1])
def test_an_optimizer_is_offloaded_from_stage_2_on(stage: int) -> None:
    with pytest.raises(
        ConfigError, match=f"learner.offload_optimizer needs learner.zero_stage=2 or 3, and it is {stage}"
    ):
        deepspeed_config(LearnerConfig(zero_stage=stage, offload_optimizer=True), "float32", 1e-3)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_parameters_are_offloaded_at_stage_3_alone(stage: int) -> None:
    with pytest.raises(ConfigError, match=f"learner.offload_parameters needs learner.zero_stage=3, and it is {stage}"):
        deepspeed_config(LearnerConfig(zero_stage=stage, offload_parameters=True), "float32", 1e-3)


def test_a_frozen_model_has_no_optimizer_to_offload() -> None:
    learner = LearnerConfig(zero_stage=3, offload_optimizer=True, offload_parameters=True)
    trained, frozen = (deepspeed_config(learner, "bfloat16", rate) for rate in (1e-3, None))
    assert trained["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert trained["optimizer"]["params"]["torch_adam"], "nothing is compiled"
    assert "optimizer" not in frozen
    assert "offload_optimizer" not in frozen["zero_optimization"]
    assert frozen["zero_optimization"]["offload_param"]["device"] == "cpu"


@pytest.mark.stack
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("case", ["load-float32", "build-float32", "load-bfloat16", "build-bfloat16"])
def test_each_of_two_ranks_holds_half_of_every_parameter(trained: dict[str, Any], rank: int, case: str) -> None:
    """15 elements are 8 and 8, the last one padding; nothing is gathered."""
    result = trained[f"sharded-{rank}"][case]
    assert result["held"] == {name: (size, (size + 1) // 2, 0) for name, size in result["sizes"].items()}
    assert 15 in result["sizes"].values()


@pytest.mark.stack
@pytest.mark.parametrize("part", ["weights", "buffers"])
@pytest.mark.parametrize("case", ["load-float32", "build-float32", "load-bfloat16", "build-bfloat16"])
def test_a_sharded_model_is_the_plain_one(trained: dict[str, Any], case: str, part: str) -> None:
    """Fresh weights follow from their seed alone; rotary frequencies stay in float32 beside bfloat16 weights."""
    for rank in (0, 1):
        plain, sharded = trained[f"sharded-{rank}"][case][part]
        assert plain.keys() == sharded.keys()
        for name, tensor in plain.items():
            assert tensor.dtype == sharded[name].dtype, name
            assert torch.equal(tensor, sharded[name]), name
        assert part == "weights" or {tensor.dtype for tensor in plain.values()} == {torch.float32}


@pytest.mark.stack
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("where", ["sharded", "host"])
def test_a_sharded_reference_answers_as_a_plain_one(trained: dict[str, Any], rank: int, where: str) -> None:
    """In each of two passes; afterwards a rank holds its shards only, half of the model and some padding."""
    result = trained[f"references-{rank}"]
    size = result["plain"]["held"]
    for passes in zip(*(result[name]["logprobs"] for name in ("plain", where)), strict=True):
        for plain, sharded in zip(*passes, strict=True):
            torch.testing.assert_close(sharded, plain, rtol=0, atol=1e-6)
    assert result[where]["held"] == 0
    assert size / 2 <= result[where]["shards"] < 0.51 * size
    assert not result[where]["trainable"]


@pytest.mark.stack
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_closed_engine_gives_everything_back(learned: dict[str, Any], stage: int) -> None:
    """A judge's weights and moments must not stay in memory for the whole run."""
    assert learned[f"teach_bfloat16_{stage}"]["freed"]


@pytest.mark.stack
@pytest.mark.parametrize("case", ["1", "2", "2-offloaded", "3", "3-offloaded"])
def test_steps_too_small_for_bfloat16_add_up_in_the_master_weights(learned: dict[str, Any], case: str) -> None:
    """Weights of 1 under a constant gradient: Adam moves them by the learning rate, 0.001, a step.

    Below 1 bfloat16 has steps of 1/256 = 0.0039. After 1 step 0.999 = 255.74/256 rounds to 1; after 5 0.995 = 254.72/256 to
    255/256; after 10 0.99 = 253.44/256 to 253/256. Rounded at every step, it would be 1 for ever. The state is taken over by a
    fresh engine after 5 steps: from the weights alone, 255/256 - 0.005 = 0.99109 = 253.72/256, it would end at 254/256.
    """
    result = learned["small_steps"][case]
    assert result["weights"] == [1.0, 255 / 256, 255 / 256, 253 / 256]
    assert result["masters"] == pytest.approx([0.999, 0.995, 0.995, 0.99], abs=1e-6)
    assert result["taken_over"]
