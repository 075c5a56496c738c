"""Hours by formula, worked out by hand."""

from __future__ import annotations

import pytest

from orchestrator.cluster.cost import START_S, cost_of, device_of, forward_flops
from orchestrator.config.schema import RunConfig
from orchestrator.config.shapes import KNOWN

SHAPE = KNOWN["Qwen2.5-7B"]


def config_of() -> RunConfig:
    """Qwen2.5-7B on 4 GPUs, judged elsewhere; 10 steps of 8 episodes of 512 + 512 tokens."""
    config = RunConfig(steps=10)
    config.model.name, config.model.dtype, config.model.context_tokens = "hf:Qwen/Qwen2.5-7B", "bfloat16", 2048
    config.judge.name = "http://localhost:8000/v1"
    config.rollout.prompts_per_step, config.rollout.samples_per_prompt, config.rollout.max_completion_tokens = 2, 4, 512
    config.rollout.fleet.gpus_per_server, config.rollout.fleet.servers = 1, 2
    config.learner.ranks, config.learner.gpus_per_rank = 2, 1
    config.algorithm.kl_weight = 0
    config.eval.every_steps, config.eval.best_of, config.eval.samples_per_task, config.data.eval_groups = 10, 0, 1, 8
    return config


def test_devices() -> None:
    assert [device_of(size).name for size in (24, 40, 80, 141, 2000)] == ["A10", "A100", "A100", "H200", "H200"]


def test_flops() -> None:
    # The embedding of 152,064 x 3,584 is looked up; 28 layers x 3,584 x 2 x 100 a token for attention over 100 tokens.
    per_token = 2 * (SHAPE.parameters - 152064 * 3584) + 2 * 28 * 3584 * 100
    assert forward_flops(SHAPE, 1, 100) == per_token
    tied = KNOWN["Qwen3-0.6B"]
    assert forward_flops(tied, 1, 0) == 2 * tied.parameters


def test_hours_by_hand() -> None:
    cost = cost_of(config_of(), 80)
    assert cost
    assert cost.gpus == 4
    # Three passes over 80 episodes of 1,024 tokens on two A100 at 30 % of 312 TFLOP/s.
    assert cost.seconds["learning"] == pytest.approx(3 * 80 * forward_flops(SHAPE, 1024, 1024) / (2 * 312e12 * 0.3))
    # Weights of 15.2 GB and the cache of 4 sequences of 768 tokens on average at 57,344 bytes, read 512 times a step at 60 % of
    # 2 TB/s; two prompts of 512 are read first. 80 episodes and 2 x 8 answers of evaluations are 12 steps' worth.
    reading = 512 * (2 * SHAPE.parameters + 4 * 768 * 57344) / 1.2e12
    prefill = forward_flops(SHAPE, 2 * 512, 1024) / (2 * 312e12 * 0.4)
    assert cost.seconds["rollouts"] == pytest.approx(12 * (reading + prefill))
    assert cost.seconds["sync"] == pytest.approx(10 * 2 * SHAPE.parameters / 5e9)
    assert cost.seconds["starting"] == START_S
    assert cost.gpu_hours == pytest.approx(4 * sum(cost.seconds.values()) / 3600)
    assert "GPU-hours (range" in cost.sentences[0]


def test_the_test_split_is_asked_at_both_ends() -> None:
    """6 tasks x 4 answers, twice, are 48 more than the 80 + 16 of the run: half as many again to generate."""
    plain, tested = config_of(), config_of()
    tested.data.test_groups, tested.eval.test_samples_per_task = 6, 4
    costs = [cost_of(config, 80) for config in (plain, tested)]
    assert costs[0]
    assert costs[1]
    assert costs[1].seconds["rollouts"] == pytest.approx(1.5 * costs[0].seconds["rollouts"])
    assert costs[1].seconds["learning"] == costs[0].seconds["learning"]


def test_what_makes_it_dearer() -> None:
    def learning(**settings: object) -> float:
        config = config_of()
        for name, value in settings.items():
            group, _, key = name.partition("__")
            setattr(getattr(config, group), key, value)
        found = cost_of(config, 80)
        assert found
        return found.seconds["learning"]

    plain = learning()
    assert learning(learner__gradient_checkpointing=True) == pytest.approx(plain * 4 / 3)
    assert learning(algorithm__kl_weight=0.1) == pytest.approx(plain * 4 / 3)
    # Two steps a batch need the old log-probabilities: one more pass.
    assert learning(algorithm__minibatches=2) == pytest.approx(plain * 4 / 3)
    # Older answers are compared with the policy before the update.
    assert learning(rollout__max_staleness=1) == pytest.approx(plain * 4 / 3)
    # Twice the training, and each of the two is asked once.
    assert learning(algorithm__epochs_per_batch=2, algorithm__kl_weight=0.1) == pytest.approx(plain * 8 / 3)
    # FlowRL asks the starting policy without a KL penalty.
    assert learning(algorithm__name="flowrl") == pytest.approx(plain * 4 / 3)
    assert learning(algorithm__name="flowrl", algorithm__flow_prior="old") == pytest.approx(plain)
    # A critic: three passes, and one that tells its values; 2 x 152,064 x 3,584 FLOPs a token fewer, having no such head.
    whole = forward_flops(SHAPE, 1024, 1024)
    headless = whole - 2 * 1024 * 152064 * 3584
    assert learning(algorithm__name="ppo") == pytest.approx(plain * (3 * whole + 4 * headless) / (3 * whole))
    # 28 bytes of half of the parameters at 10 GB/s, in ten steps.
    offloaded = learning(learner__offload_optimizer=True) - plain
    assert offloaded == pytest.approx(10 * 28 * SHAPE.parameters / 2 / 10e9)
    with_critic = learning(learner__offload_optimizer=True, algorithm__name="ppo") - learning(algorithm__name="ppo")
    assert with_critic == pytest.approx(10 * 28 * (2 * SHAPE.parameters - 152064 * 3584) / 2 / 10e9)


def test_no_gpu_hours_without_gpus() -> None:
    config = config_of()
    config.learner.gpus_per_rank = 0
    assert cost_of(config, 80) is None
