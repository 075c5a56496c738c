"""Bytes by formula, worked out by hand."""

from __future__ import annotations

import pytest

from orchestrator.cluster import memory
from orchestrator.cluster.memory import (
    CUDA_CONTEXT,
    CUDA_GRAPHS,
    Work,
    activations,
    added,
    cache_bytes_a_token,
    cache_tokens,
    engine_memory,
    learner_memory,
    logits,
)
from orchestrator.config.schema import FleetConfig, LearnerConfig, ModelConfig
from orchestrator.config.shapes import KNOWN, ModelShape

SEVEN = KNOWN["Qwen2.5-7B"]
N = SEVEN.parameters
WORK = Work(1024, 1024, 512)


def resident(stage: int, ranks: int = 1, shape: ModelShape = SEVEN, **settings: bool) -> dict[str, int]:
    learner = LearnerConfig(ranks=ranks, zero_stage=stage, **settings)
    return learner_memory(shape, learner, "bfloat16", WORK, reference=False, gpu=False).resident


def test_states_by_stage() -> None:
    # bfloat16: weights 2N; master 4N and moments 8N from stage 1 on divided by ranks; stage 3 divides the weights and holds the
    # float32 gradient 4N / ranks and one bucket all the time.
    assert resident(2) == {"weights": 2 * N, "master weights": 4 * N, "Adam moments": 8 * N}
    assert resident(2, ranks=8) == {"weights": 2 * N, "master weights": 4 * (N // 8), "Adam moments": 8 * (N // 8)}
    three = resident(3, ranks=8)
    assert three["gradients"] == 4 * (N // 8)
    assert three["reduction bucket"] == 2 * memory.BUCKET_ELEMENTS
    # 28 layers with two norms of 3,584 and biases of 3,584 + 2 x 512, and the last norm, stay whole: 331,264 of 2 bytes.
    assert three["weights"] == 2 * N // 8 + 2 * (28 * (2 * 3584 + 3584 + 1024) + 3584)


def test_float32_has_a_master_copy_except_at_stage_0() -> None:
    learner = LearnerConfig(ranks=1, zero_stage=0)
    assert learner_memory(SEVEN, learner, "float32", WORK, False, False).resident == {
        "weights": 4 * N,
        "Adam moments": 8 * N,
    }
    learner = LearnerConfig(ranks=1, zero_stage=2)
    assert learner_memory(SEVEN, learner, "float32", WORK, False, False).resident["master weights"] == 4 * N


def test_what_is_offloaded_is_in_the_hosts_memory() -> None:
    assert "master weights" not in resident(2, offload_optimizer=True)
    assert "Adam moments" not in resident(3, offload_optimizer=True)
    learner = LearnerConfig(ranks=1, zero_stage=3, offload_optimizer=True, offload_parameters=True)
    found = learner_memory(SEVEN, learner, "bfloat16", WORK, True, False)
    # Master 4N, moments 8N, gradient 8N; policy and reference 2N each.
    assert sum(found.host.values()) == 24 * N
    assert found.resident["weights"] == found.resident["reference model"] < 0.001 * N


def test_a_critic_is_a_second_model_with_an_optimizer() -> None:
    # Qwen2.5-7B without its output head of 152,064 x 3,584: 2 + 4 + 8 bytes a weight on one rank.
    critic = N - 152064 * 3584
    learner = LearnerConfig(ranks=1, zero_stage=2)
    found = learner_memory(SEVEN, learner, "bfloat16", WORK, False, False, critic=True)
    alone = learner_memory(SEVEN, learner, "bfloat16", WORK, False, False)
    assert found.resident == alone.resident | {"critic": 14 * critic}
    assert found.moments == alone.moments
    assert sum(found.peak[1].values()) == sum(alone.peak[1].values()) + 14 * critic
    # Offloaded whole: 2 + 4 + 8 and a gradient of 8 in the host's memory; norms and biases, and one bucket, stay.
    learner = LearnerConfig(ranks=1, zero_stage=3, offload_optimizer=True, offload_parameters=True)
    found = learner_memory(SEVEN, learner, "bfloat16", WORK, False, False, critic=True)
    assert found.host["critic"] == 22 * critic
    assert found.resident["critic"] == found.resident["weights"] + 2 * memory.BUCKET_ELEMENTS


def test_activations_by_hand() -> None:
    # hidden 8, queries 8, keys 4, intermediate 16, 2 heads, 1 key head, 3 layers, bfloat16, with head norms.
    # Two norms: 2 x (6 + 2) x 8 + 8 = 136. Attention: 2 x 2 x 12 + 4 x 2 = 56. Head norms: 6 x 12 + 4 x 3 = 84. MLP: 4 x 2 x 16 = 128.
    # A layer: 404. Ends: 6 x 8 + 2 x 8 + 2 x 2 x 4 = 80. Backward: 2 x (32 + 16) = 96.
    shape = ModelShape(10, 8, 3, 2, 1, 4, 16, tied=True, qk_norm=True)
    assert activations(shape, 2, Work(10, 1, 10), checkpointing=False) == (10 * (3 * 404 + 80), 10 * 96)
    assert activations(shape, 2, Work(10, 1, 10), checkpointing=True) == (10 * (3 * 16 + 80), 10 * (404 + 96))
    # A mask of 10 x 10 yes and no, and as bfloat16 in each layer.
    kept, _ = activations(shape, 2, Work(10, 1, 10, masked=True), checkpointing=False)
    assert kept == 10 * (3 * (404 + 20) + 80 + 10)


def test_logits_of_one_chunk_wait_those_of_several_do_not() -> None:
    # 100 x 152,064 logits of 16 bytes in passing, the log-softmax of 4 bytes waits.
    assert logits(SEVEN, Work(1024, 100, 512)) == (100 * 152064 * 4, 100 * 152064 * 16)
    # 2^27 / 152,064 = 882 targets at once.
    assert logits(SEVEN, Work(16384, 16384, 512)) == (0, 882 * 152064 * 16)


def test_cache() -> None:
    # Qwen2.5-7B: 2 x 28 layers x 4 heads x 128 x 2 bytes = 57,344 bytes a token; over two GPUs half.
    assert cache_bytes_a_token(SEVEN, "bfloat16") == 57344
    assert cache_bytes_a_token(SEVEN, "bfloat16", 2) == 28672
    # Heads are copied where there are fewer than GPUs.
    assert cache_bytes_a_token(SEVEN, "bfloat16", 8) == 14336
    # 10^6 bytes are 17.4 tokens, which is one block of 16.
    assert cache_tokens(SEVEN, "bfloat16", 10**6) == 16
    assert cache_tokens(SEVEN, "bfloat16", -5) == 0
    # mini on the CPU: 2 x 4 layers x 2 heads x 32 x 4 bytes = 2,048 a token, 2^28 / 2,048 = 131,072 tokens, all in blocks of 32.
    mini = ModelShape(512, 128, 4, 4, 2, 32, 384, tied=True, qk_norm=True)
    found = engine_memory(mini, ModelConfig(), FleetConfig(), None)
    assert found.cache_tokens == 131072
    assert found.parts == {"engine weights": 4 * mini.parameters, "KV cache": 2**28}


def test_a_server_takes_its_share() -> None:
    fleet = FleetConfig(gpus_per_server=2, gpu_memory_share=0.5, max_concurrent_sequences=100)
    found = engine_memory(SEVEN, ModelConfig(dtype="bfloat16"), fleet, 80 * 10**9)
    assert found.total == 40 * 10**9
    # 8,192 tokens x 2 bytes x (2 x 18,944 / 2 + 4 x 3,584) and 100 x 152,064 logits three times in float32.
    profile = 8192 * 2 * (18944 + 14336) + 3 * 4 * 100 * 152064
    assert found.parts["engine activations"] == profile
    cache = 40 * 10**9 - N - profile - CUDA_CONTEXT - CUDA_GRAPHS
    assert found.parts["KV cache"] == cache
    assert found.cache_tokens == cache // (28672 * 16) * 16


def test_added_keeps_order_and_drops_nothings() -> None:
    assert list(added({"a": 1, "b": 0}, {"c": 2, "a": 3}).items()) == [("a", 4), ("c", 2)]


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_more_ranks_never_need_more_but_for_the_exchange(ranks: int) -> None:
    def peak(count: int) -> int:
        learner = LearnerConfig(ranks=count, zero_stage=2, gradient_checkpointing=True)
        return sum(learner_memory(SEVEN, learner, "bfloat16", WORK, True, False).peak[1].values())

    assert peak(2 * ranks) < peak(ranks)
