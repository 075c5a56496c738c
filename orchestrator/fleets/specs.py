"""What a server is to be: its model, its place, and vLLM's settings that follow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.cluster.memory import ENGINE_TOKENS
from orchestrator.config.schema import ADAPTER_RANKS, FleetConfig, LearnerConfig, ModelConfig, RunConfig
from orchestrator.errors import RunError
from orchestrator.fleets.weights import backend_of
from orchestrator.learning.starting import StartingModel, load_tokenizer
from orchestrator.values import POLICY, Call

LINEAR_LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""All linear layers of the dense models of the Llama and Qwen families; those of others are named in learner.lora_targets."""


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a colocated server sits: the node, and its GPUs by the names that CUDA_VISIBLE_DEVICES knows. No GPUs on the CPU."""

    node: str
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """LoRA adapters that a server adds to its weights itself. layers: names of the linear layers that may have one."""

    rank: int
    alpha: float
    layers: tuple[str, ...]

    @classmethod
    def of(cls, learner: LearnerConfig) -> AdapterSpec:
        """Those that the learner trains."""
        return cls(learner.lora_rank, learner.lora_alpha, learner.lora_layers or LINEAR_LAYERS)


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """What a server needs to start. folder: a local model folder or a hub id. trained: False starts with placeholder weights
    that the first sync replaces. transport: how new weights arrive. seat: the GPUs of others that it uses while they wait; it
    can sleep then. adapter: of the policy, where LoRA adapters arrive apart from the weights. scores: it is a reward model; taught:
    where the folder of the weights that it is yet to be given will lie."""

    role: str
    index: int
    folder: str
    trained: bool
    model: ModelConfig
    fleet: FleetConfig
    transport: str = "object_store"
    seat: Seat | None = None
    adapter: AdapterSpec | None = None
    scores: bool = False
    taught: str | None = None

    @property
    def name(self) -> str:
        return f"{self.role}-{self.index}"

    @property
    def workers(self) -> int:
        """Processes that share the model: one a GPU."""
        return max(1, int(self.fleet.gpus_per_server))


def specs_of(config: RunConfig, model: StartingModel, seats: Sequence[Seat | None] = ()) -> list[ServerSpec]:
    """The servers of a role's fleet. seats: one a server where they are colocated.

    The policy starts with placeholders, whatever its folder holds: it is given the learner's weights before it is asked, and a
    server that was restarted must not pass for one that was. What is still to be taught starts with them too, and gets its weights
    once, through the object store.
    """
    role, policy = config.roles()[model.role], model.role == POLICY
    ready = model.has_weights and not model.to_teach and not policy
    transport = config.transport() if policy else "object_store"
    adapter = AdapterSpec.of(config.learner) if policy and config.sync.lora == "adapter" else None
    first = ServerSpec(
        model.role, 0, model.folder, ready, role.model, role.fleet, transport, None, adapter, role.scores, model.taught
    )
    return [
        replace(first, index=index, seat=seat)
        for index, seat in zip(range(role.fleet.servers), seats or [None] * role.fleet.servers, strict=False)
    ]


def own_seat() -> Seat:
    """Where this process computes: its node and, where it has one, its GPU."""
    import ray
    import torch

    node = ray.get_runtime_context().get_node_id()
    if not torch.cuda.is_available():
        return Seat(node)
    index = torch.cuda.current_device()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    return Seat(node, (visible.split(",")[index],))


def share_seats(ranks: Sequence[Seat], fleet: FleetConfig, name: str) -> list[Seat]:
    """A seat for each server: the GPUs of as many ranks, in order, as it has workers.

    Raises RunError where the GPUs of one server would lie on two nodes.
    """
    workers = max(1, int(fleet.gpus_per_server))
    seats = []
    for index in range(fleet.servers):
        # On the CPU there may be more servers than ranks; they share.
        mine = [ranks[(index * workers + at) % len(ranks)] for at in range(workers)]
        nodes = {seat.node for seat in mine}
        if len(nodes) > 1:
            raise RunError(
                f"{name}-{index} would use GPUs of ranks on {len(nodes)} nodes: choose gpus_per_server of the {name} fleet as a "
                "divisor of a node's GPUs."
            )
        seats.append(Seat(mine[0].node, sum((seat.devices for seat in mine), ())))
    return seats


def reward_settings(folder: str) -> dict[str, Any]:
    """What the config.json of a reward model says that is taught from the model in this folder. Raises ConfigError."""
    from orchestrator.learning.head import sequence_settings
    from orchestrator.learning.reward_model import classes_of

    return dict(sequence_settings(folder, load_tokenizer(folder), classes_of(())))


def engine_arguments(spec: ServerSpec) -> dict[str, Any]:
    """vLLM's settings. Everything that could silently change what is sampled is set here."""
    context = spec.model.context_tokens
    arguments: dict[str, Any] = {
        "model": spec.folder,
        "load_format": "auto" if spec.trained else "dummy",
        "dtype": spec.model.dtype,
        "max_model_len": context,
        "max_num_seqs": spec.fleet.max_concurrent_sequences,
        "seed": 0,
        # Log-probabilities of the distribution that was sampled from, temperature included.
        "logprobs_mode": "processed_logprobs",
        # A model folder's generation defaults (top-p, top-k) would bias the samples.
        "generation_config": "vllm",
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "worker_extension_cls": "orchestrator.fleets.worker.WorkerExtension",
        "weight_transfer_config": {"backend": backend_of(spec.transport)},
        "max_logprobs": 32,
    }
    if spec.scores:
        arguments["runner"] = "pooling"
        if not spec.trained:
            # The folder is of a model that writes; the one that it is taught to be has a head in place of the vocabulary's.
            arguments["hf_overrides"] = reward_settings(spec.folder)
    if spec.adapter:
        arguments |= {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": next(rank for rank in ADAPTER_RANKS if rank >= spec.adapter.rank),
            # Without these vLLM wraps the embedding too, and cannot take over a tied output head.
            "lora_target_modules": list(spec.adapter.layers),
        }
    if spec.fleet.gpus_per_server:
        backend = "mp" if spec.workers > 1 else "uni"
        return arguments | {
            "tensor_parallel_size": spec.workers,
            "distributed_executor_backend": backend,
            "gpu_memory_utilization": spec.fleet.gpu_memory_share,
            "enable_sleep_mode": spec.seat is not None,
            "max_num_batched_tokens": ENGINE_TOKENS,
        }
    return arguments | {
        "distributed_executor_backend": "uni",
        "enforce_eager": True,
        "kv_cache_memory_bytes": spec.fleet.kv_cache_bytes,
        # The smallest block the CPU kernels like: short responses must fill blocks to be found in the prefix cache.
        "block_size": 32,
        # Seeded requests crash on the CPU when a prefill is split.
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(context, 4096),
    }


def form_of(call: Call) -> Any:
    """What the completion is held to, as vLLM wants it."""
    if call.schema is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    kind = "grammar" if isinstance(call.schema, str) else "json"
    return StructuredOutputsParams(**{kind: call.schema})
