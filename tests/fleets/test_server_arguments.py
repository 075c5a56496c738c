"""vLLM's settings by hardware, and how weights are told apart and travel."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.rated import RatedConfig

from orchestrator.config.schema import FleetConfig, LearnerConfig, ModelConfig, RunConfig, SyncConfig
from orchestrator.fleets.specs import ServerSpec, engine_arguments, specs_of
from orchestrator.fleets.weights import FINGERPRINTED_BYTES, Fingerprint, to_array, to_tensor
from orchestrator.learning.starting import StartingModel
from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer

CPU = ServerSpec("policy", 2, "models/x", True, ModelConfig(context_tokens=512, dtype="bfloat16"), FleetConfig())


def named(role: str) -> StartingModel:
    return StartingModel(role, "models/x", True, None, False)


def on_gpus(count: int) -> dict[str, Any]:
    return engine_arguments(replace(CPU, fleet=FleetConfig(gpus_per_server=count, gpu_memory_share=0.5)))


@pytest.mark.parametrize("arguments", [engine_arguments(CPU), on_gpus(1), on_gpus(4)])
def test_what_would_change_the_samples_is_set_on_all_hardware(arguments: dict[str, Any]) -> None:
    expected = {
        "model": "models/x",
        "load_format": "auto",
        "dtype": "bfloat16",
        "max_model_len": 512,
        "seed": 0,
        "logprobs_mode": "processed_logprobs",
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "worker_extension_cls": "orchestrator.fleets.worker.WorkerExtension",
        "weight_transfer_config": {"backend": "orchestrator_object_store"},
    }
    assert {name: arguments[name] for name in expected} == expected
    # one token's candidates: two words, each with and without a space, in three spellings
    assert arguments["max_logprobs"] >= 2 * 2 * 3


def test_the_executor_is_named_and_gpus_share_a_model() -> None:
    assert engine_arguments(CPU)["distributed_executor_backend"] == "uni"
    assert (on_gpus(1)["distributed_executor_backend"], on_gpus(1)["tensor_parallel_size"]) == ("uni", 1)
    assert (on_gpus(4)["distributed_executor_backend"], on_gpus(4)["tensor_parallel_size"]) == ("mp", 4)
    assert on_gpus(4)["gpu_memory_utilization"] == 0.5


def test_a_server_of_adapters_has_room_for_their_rank_and_leaves_the_embedding_alone() -> None:
    # vLLM makes room for 8, 16, 32, … : 12 needs 16.
    config = RunConfig(
        learner=LearnerConfig(lora_rank=12, lora_targets="q_proj, v_proj"), sync=SyncConfig(lora="adapter")
    )
    policy, judge = (engine_arguments(specs_of(config, named(name))[0]) for name in ("policy", "judge"))
    assert (policy["enable_lora"], policy["max_lora_rank"]) == (True, 16)
    assert policy["lora_target_modules"] == ["q_proj", "v_proj"]
    assert "enable_lora" not in judge


def test_the_cpu_never_splits_a_prefill() -> None:
    """So a batch must have room for the longest prompt, here 512 tokens and then 8,192."""
    arguments = engine_arguments(CPU)
    assert arguments["enable_chunked_prefill"] is False
    assert arguments["enforce_eager"] is True
    assert arguments["kv_cache_memory_bytes"] == CPU.fleet.kv_cache_bytes
    assert arguments["max_num_batched_tokens"] >= 512
    long = engine_arguments(replace(CPU, model=ModelConfig(context_tokens=8192)))
    assert long["max_num_batched_tokens"] == 8192
    assert "enable_chunked_prefill" not in on_gpus(1)


def test_a_server_that_is_given_weights_does_not_read_any() -> None:
    assert engine_arguments(replace(CPU, trained=False))["load_format"] == "dummy"
    assert CPU.name == "policy-2"


def fingerprint(*buckets: Mapping[str, Any]) -> str:
    digest = Fingerprint()
    for bucket in buckets:
        digest.add({name: to_array(tensor) for name, tensor in bucket.items()})
    return digest.hexdigest()


def weights() -> dict[str, torch.Tensor]:
    return {"embed": torch.arange(12.0).reshape(3, 4), "norm": torch.ones(4), "scale": torch.tensor(2.0)}


def test_one_changed_weight_or_name_changes_the_fingerprint() -> None:
    first = fingerprint(weights())
    assert fingerprint(weights()) == first
    seen = {first}
    for name in weights():
        changed = weights()
        changed[name].view(-1)[-1] += 2**-20
        seen.add(fingerprint(changed))
    seen.add(fingerprint({("other" if name == "norm" else name): tensor for name, tensor in weights().items()}))
    assert len(seen) == 5


def test_the_fingerprint_does_not_depend_on_how_weights_are_packed() -> None:
    """One bucket or three, torch or NumPy, contiguous or a transposed view."""
    first = fingerprint(weights())
    assert fingerprint(*({name: tensor} for name, tensor in weights().items())) == first
    assert fingerprint({name: tensor.numpy() for name, tensor in weights().items()}) == first
    transposed = weights()
    transposed["embed"] = transposed["embed"].T.contiguous().T
    assert fingerprint(transposed) == first


def test_large_tensors_are_told_apart_by_their_beginning() -> None:
    """float32: the first 4096 / 4 = 1,024 numbers are looked at."""
    large = torch.zeros(5000)
    last_seen, first_unseen = large.clone(), large.clone()
    last_seen[FINGERPRINTED_BYTES // 4 - 1] = 1
    first_unseen[FINGERPRINTED_BYTES // 4] = 1
    assert fingerprint({"w": last_seen}) != fingerprint({"w": large})
    assert fingerprint({"w": first_unseen}) == fingerprint({"w": large})


def test_every_bfloat16_travels_exactly() -> None:
    """All 65,536 bit patterns there and back, NaNs too, in two bytes each."""
    bits = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)
    array = to_array(bits.view(torch.bfloat16))
    assert array.nbytes == 2 * 65536
    back = to_tensor(pickle.loads(pickle.dumps(array)))
    assert back.dtype == torch.bfloat16
    assert torch.equal(back.view(torch.int16), bits)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.int16]
)
def test_a_tensor_arrives_with_its_precision_and_shape(dtype: torch.dtype) -> None:
    """A matrix, a transposed view, a scalar; a copy that may be written to. Integers of two bytes are no bfloat16."""
    matrix = torch.arange(6).reshape(2, 3).to(dtype)
    for sent in (matrix, matrix.T, matrix[1, 2]):
        array = to_array(sent)
        array.flags.writeable = False
        back = to_tensor(array)
        assert back.dtype == dtype
        assert torch.equal(back, sent)
        back.zero_()
    assert int(matrix.sum()) == 15


def test_the_fingerprint_of_bfloat16_is_of_the_bytes_that_are_sent() -> None:
    """Two bytes each: 4096 / 2 = 2,048 numbers are looked at; a float32 of the same value is told apart."""
    large = torch.zeros(5000, dtype=torch.bfloat16)
    last_seen, first_unseen = large.clone(), large.clone()
    last_seen[FINGERPRINTED_BYTES // 2 - 1] = 1
    first_unseen[FINGERPRINTED_BYTES // 2] = 1
    assert fingerprint({"w": last_seen}) != fingerprint({"w": large})
    assert fingerprint({"w": first_unseen}) == fingerprint({"w": large})
    assert fingerprint({"w": torch.ones(1)}) != fingerprint({"w": torch.ones(1, dtype=torch.bfloat16)})


@pytest.mark.parametrize("transport", ["nccl", "ipc", "object_store"])
def test_only_the_policy_waits_for_the_learners_transport(transport: str) -> None:
    """A judge that is taught gets its weights once, through the object store. The policy starts with placeholders: a server that
    was restarted must not answer with the weights of its folder."""
    config = RunConfig(sync=SyncConfig(transport=transport))
    policy, judge = (specs_of(config, named(name))[0] for name in ("policy", "judge"))
    assert (policy.transport, policy.trained) == (transport, False)
    assert (judge.transport, judge.trained) == ("object_store", True)
    (taught,) = specs_of(config, StartingModel("judge", "models/x", True, "models/y", True))
    assert (taught.trained, taught.folder, taught.taught) == (False, "models/x", "models/y")


def test_a_reward_model_has_a_head_before_it_is_taught(tmp_path: Path) -> None:
    """Placeholders in the shape of what the lesson will write; a named model's folder says its shape itself."""
    build_tokenizer(["we"], [], 512, None, tmp_path / "tokenizer")
    shape = ModelConfig(hidden_size=16, layers=1, heads=2, kv_heads=1)
    build_model_folder(shape, tmp_path / "tokenizer", tmp_path / "built")
    built = StartingModel("content", str(tmp_path / "built"), False, "models/y", True)
    (spec,) = specs_of(RatedConfig(), built)
    assert (spec.scores, spec.taught) == (True, "models/y")
    arguments = engine_arguments(spec)
    assert (arguments["runner"], arguments["load_format"]) == ("pooling", "dummy")
    assert arguments["hf_overrides"]["architectures"] == ["Qwen3ForSequenceClassification"]
    assert arguments["hf_overrides"]["num_labels"] == 1
    ready = engine_arguments(specs_of(RatedConfig(), named("content"))[0])
    assert (ready["runner"], ready["load_format"], "hf_overrides" in ready) == ("pooling", "auto", False)
    assert "runner" not in engine_arguments(specs_of(RatedConfig(), named("judge"))[0])
