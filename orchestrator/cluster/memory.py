"""How much memory a rank of the learner and a server take, in bytes, from shapes alone. Imports no framework.

Every rule was read in the installed DeepSpeed, transformers and vLLM and compared with what the real engine allocates
(tests/cluster/test_memory_real.py). N: parameters, R: ranks, e: bytes of the model's precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.config.schema import FleetConfig, LearnerConfig, ModelConfig
from orchestrator.config.shapes import DTYPE_BYTES, ModelShape

GB = 10**9
BUCKET_ELEMENTS = 50_000_000
"""Gradients that are reduced at once, as `orchestrator.learning.zero` tells DeepSpeed."""
LIVE_ELEMENTS = 1_000_000_000
"""Parameters that ZeRO-3 keeps gathered at most, and elements of one sub-group of its step (DeepSpeed's defaults)."""
PREFETCH_ELEMENTS = 50_000_000
"""Parameters that ZeRO-3 gathers at once, into a buffer from which they are copied (DeepSpeed's default)."""
LOGIT_ELEMENTS = 2**27
"""Elements of the largest logits tensor; `orchestrator.learning.model.TokenScorer` scores more targets in chunks."""
CUDA_CONTEXT = int(0.6 * GB)
"""CUDA's context, kernels and cuBLAS workspaces of a process (0.5 to 0.7 GB on A100 and H100)."""
NCCL_BUFFERS = int(0.4 * GB)
"""Channels of a communicator of several ranks."""
ENGINE_TOKENS = 8192
"""Tokens that a server on a GPU computes at once (vLLM would take 2,048 here), whose activations it sets aside."""
CUDA_GRAPHS = int(0.6 * GB)
"""Captured graphs of a server; they stay while it sleeps."""


@dataclass(frozen=True, slots=True)
class Work:
    """The largest microbatch of a rank. tokens: with padding. targets: scored tokens. row: length of a row.

    masked: rows with branches, which need a mask. several: whether gradients of several microbatches are summed.
    """

    tokens: int
    targets: int
    row: int
    masked: bool = False
    several: bool = True


@dataclass(frozen=True, slots=True)
class LearnerMemory:
    """What a rank holds. resident: between updates too. moments: what comes on top at each moment of an update.

    host: in the host's memory. All in bytes, by part.
    """

    resident: dict[str, int]
    moments: dict[str, dict[str, int]]
    host: dict[str, int] = field(default_factory=dict)

    @property
    def peak(self) -> tuple[str, dict[str, int]]:
        """(the moment that needs most, all parts then)."""
        moment = max(self.moments, key=lambda name: sum(self.moments[name].values()))
        return moment, self.at(moment)

    def at(self, moment: str) -> dict[str, int]:
        """All parts at a moment."""
        return added(self.resident, self.moments[moment])


def added(*parts: Mapping[str, int]) -> dict[str, int]:
    """Sum by part, in order of first appearance; what is 0 is left out."""
    total: dict[str, int] = {}
    for part in parts:
        for name, size in part.items():
            total[name] = total.get(name, 0) + size
    return {name: size for name, size in total.items() if size}


def learner_memory(
    shape: ModelShape, learner: LearnerConfig, dtype: str, work: Work, reference: bool, gpu: bool, critic: bool = False
) -> LearnerMemory:
    """Memory of one rank. reference: whether the starting policy is asked for log-probabilities; with LoRA it needs no copy.
    critic: whether a second model of the same layers is trained.

    ZeRO (arXiv 1910.02054, section 3; DeepSpeed 0.19): float32 master weights 4N and Adam's moments 8N, divided by R from stage 1
    on, beside the weights eN, which only stage 3 divides. A float32 model has a master copy too, except at stage 0. Weight
    transfer gathers a bucket at a time while no activations are held, and is never the peak. Nor is the critic's update: it begins
    when the policy's gradients are gone, and has no logits. With LoRA all but eN counts the adapters alone.
    """
    size = DTYPE_BYTES[dtype]
    reference = reference and not learner.lora_rank
    context = {"CUDA context, NCCL": CUDA_CONTEXT + (NCCL_BUFFERS if learner.ranks > 1 else 0)} if gpu else {}
    trained, host = _trained(shape, learner, size)
    others = {"reference model": trained["weights"] if reference else 0}
    if reference and learner.offload_parameters:
        host["reference model"] = size * shape.parameters // learner.ranks
    if critic:
        # Without a head over the vocabulary: its one row of values is not counted.
        its, its_host = _trained(replace(shape, tied=True), learner, size)
        others["critic"], host["critic"] = sum(its.values()), sum(its_host.values())
    resident = added(trained, others, context)
    return LearnerMemory(resident, _moments(shape, learner, size, work, reference, gpu), added(host))


def _trained(shape: ModelShape, learner: LearnerConfig, size: int) -> tuple[dict[str, int], dict[str, int]]:
    """(on the device, in the host's memory): weights and optimizer of a model that is trained, between updates."""
    states, host = _states(shape, learner, size)
    if learner.offload_parameters:
        host["weights"] = size * shape.parameters // learner.ranks
    adapters = {"adapters": _adapters(shape, learner, size)}
    return added({"weights": _weights(shape, learner, size)}, adapters, states), host


def trained_parameters(shape: ModelShape, learner: LearnerConfig) -> int:
    """Parameters with gradients: all, or the adapters."""
    return shape.adapters(learner.lora_rank, learner.lora_layers) if learner.lora_rank else shape.parameters


def _adapters(shape: ModelShape, learner: LearnerConfig, size: int) -> int:
    """ZeRO-3 divides them too, or keeps what is small whole: at most this."""
    return size * trained_parameters(shape, learner) if learner.lora_rank else 0


def _small(shape: ModelShape) -> int:
    """Parameters that ZeRO-3 keeps whole on every rank (norms and biases; below 100,000 elements each)."""
    matrices = 2 * shape.hidden * (shape.queries + shape.keys) + 3 * shape.hidden * shape.intermediate
    return shape.layers * (shape.layer - matrices) + shape.hidden


def _weights(shape: ModelShape, learner: LearnerConfig, size: int) -> int:
    if learner.zero_stage < 3:
        return size * shape.parameters
    whole = size * _small(shape) if learner.ranks > 1 or learner.offload_parameters else 0
    return whole if learner.offload_parameters else whole + size * shape.parameters // learner.ranks


def _states(shape: ModelShape, learner: LearnerConfig, size: int) -> tuple[dict[str, int], dict[str, int]]:
    """(on the device, in the host's memory): master weights, moments and what ZeRO-3 holds all the time.

    Offloaded, DeepSpeed also holds a float32 gradient and, at stage 2, staging in the model's precision.
    """
    stage, trained = learner.zero_stage, trained_parameters(shape, learner)
    shard = trained // learner.ranks
    if stage == 0:
        return {"Adam moments": 8 * trained}, {}
    states = {"master weights": 4 * shard, "Adam moments": 8 * shard}
    resting = {"gradients": 4 * shard} if stage == 3 else {}
    bucket = {"reduction bucket": size * BUCKET_ELEMENTS} if stage == 3 else {}
    if not learner.offload_optimizer:
        return states | resting | bucket, {}
    staging = size * shard * (2 if size == 4 else 1) if stage == 2 else 0
    host = states | {"gradients": 4 * shard * (2 if stage == 3 else 1), "staging": staging}
    # The largest gradient waits on the device for its way to the host.
    largest = trained // shape.layers if learner.lora_rank else shape.embedding
    return ({"reduction bucket": size * largest} if stage == 2 else bucket), host


def _moments(
    shape: ModelShape, learner: LearnerConfig, size: int, work: Work, reference: bool, gpu: bool
) -> dict[str, dict[str, int]]:
    """What each moment of an update needs beside what is resident.

    logits: the head's forward pass, all layers' activations waiting. reference: the frozen model's pass, between forward and
    backward. head, layer (the last one, where backward begins), first layer, embedding: their backward passes. step: the
    optimizer's.
    """
    stage, ranks, trained = learner.zero_stage, learner.ranks, trained_parameters(shape, learner)
    shard = trained // ranks
    saved, inner = activations(shape, size, work, learner.gradient_checkpointing, learner.lora_rank)
    kept, passing = logits(shape, work)
    # Of the sum so far; while a microbatch of a float32 model is reduced at stage 2, its own stand beside it.
    gradient = {0: size * trained, 1: size * trained, 2: 4 * shard, 3: 0}[stage]
    gradient = 0 if stage == 2 and learner.offload_optimizer and size == 4 else gradient
    before = gradient if work.several else 0
    during = gradient + (
        4 * shard if stage == 2 and size == 4 and work.several and not learner.offload_optimizer else 0
    )
    bucket = size * BUCKET_ELEMENTS if stage in (1, 2) else 0
    embedding, layer = (
        (0, size * trained // shape.layers) if learner.lora_rank else (size * shape.embedding, size * shape.layer)
    )
    # Reduced on its own, being larger than the bucket; several ranks exchange a copy.
    copy = embedding if ranks > 1 and stage == 3 else 0
    tied, chunks = (embedding if shape.tied else 0), work.targets * shape.vocab > LOGIT_ELEMENTS
    gathered = {"gathered weights": _gathered(shape, learner, size)}
    hidden = size * work.tokens * shape.hidden
    forward = gathered | {"gradients": before, "activations": saved}
    backward = gathered | {"reduction bucket": bucket}
    moments = {
        "logits": forward | {"logits": passing},
        "head": backward
        | {"activations": saved, "logits": kept + passing // 4 + passing * size // 16, "gradients": before}
        | {"gradient of the embedding": embedding * (2 if chunks else 1) + copy},
        "layer": backward
        | {"activations": saved + inner, "gradients": before}
        | {"gradient of the embedding": tied, "gradients of a layer": layer},
        "first layer": backward
        | {"activations": saved // shape.layers + inner, "gradients": during}
        | {"gradient of the embedding": tied, "gradients of a layer": layer},
        "embedding": backward
        | {"activations": 2 * hidden, "gradients": during, "gradient of the embedding": embedding + tied + copy},
        "step": {"gradients": gradient, "optimizer step": _step(learner, shape, shard, gpu)},
    }
    if reference:
        asked = max(passing, work.tokens * size * (3 * shape.intermediate + 2 * shape.hidden))
        # The frozen model gathers for itself; of a single rank's shards neither gathers.
        moments["reference"] = forward | {"gathered weights": 2 * gathered["gathered weights"], "logits": kept + asked}
    return moments


def _gathered(shape: ModelShape, learner: LearnerConfig, size: int) -> int:
    """Weights that ZeRO-3 holds whole at a time, and the buffer of the last gathering. A single rank's shard is the whole."""
    if learner.zero_stage < 3 or (learner.ranks == 1 and not learner.offload_parameters):
        return 0
    return size * (min(shape.parameters, LIVE_ELEMENTS) + min(shape.parameters, PREFETCH_ELEMENTS))


def _step(learner: LearnerConfig, shape: ModelShape, shard: int, gpu: bool) -> int:
    """The optimizer's own: a flat copy of the gradients where the stage makes one, and the root of the second moments.

    PyTorch's AdamW takes one temporary of the root's size on a GPU (its `foreach` form) and two on the CPU.
    """
    if learner.zero_stage == 0:
        return 4 * trained_parameters(shape, learner)
    if learner.offload_optimizer:
        return 0
    roots = 4 * shard if gpu else 8 * shard
    if learner.zero_stage < 3:
        return roots
    part = min(shard, LIVE_ELEMENTS)
    return 4 * part + roots * part // max(shard, 1)


def activations(shape: ModelShape, size: int, work: Work, checkpointing: bool, lora_rank: int = 0) -> tuple[int, int]:
    """(bytes that wait for the backward pass, bytes that one layer's backward pass adds).

    A layer of transformers' eager modules keeps, a token: of each norm its input and its normed input (a float32 model: both in
    float32; a bfloat16 model: a float32 copy and a bfloat16 one) and what the next matrix reads; queries, keys, values, the
    attention's output and its log-sum-exp; gate, up, their activation and product. With checkpointing only its input, and one
    layer's at a time. (Korthikanti et al., arXiv 2205.05198, count the same way.)
    """
    norm = 6 if size == 2 else 8
    if lora_rank:
        # A frozen scale needs no normed input.
        norm = 4
    keys, queries, hidden = shape.keys, shape.queries, shape.hidden
    attention = size * 2 * (queries + keys) + 4 * shape.heads
    if shape.qk_norm:
        attention += norm * (queries + keys) + 4 * (shape.heads + shape.kv_heads)
    layer = 2 * (norm + size) * hidden + 8 + attention + 4 * size * shape.intermediate
    layer += size * lora_rank * len(shape.linear)
    # Gradients of gate and up, and of the two residual streams.
    working = size * (2 * shape.intermediate + 2 * hidden)
    ends = norm * hidden + size * hidden + 2 * size * shape.head_dim
    mask = work.row if work.masked else 0
    # PyTorch turns a mask of yes and no into numbers, for each layer anew.
    as_numbers = size * mask
    if checkpointing:
        waiting = shape.layers * size * hidden + ends + mask
        return work.tokens * waiting, work.tokens * (layer + working + as_numbers)
    waiting = shape.layers * (layer + as_numbers) + ends + mask
    return work.tokens * waiting, work.tokens * working


def logits(shape: ModelShape, work: Work) -> tuple[int, int]:
    """(bytes of logits that wait for the backward pass, largest bytes in passing) of `TokenScorer`.

    In passing: float32 logits, their log-softmax, its exponential and the product for the entropy, 16 bytes a logit. Of one
    chunk the log-softmax waits; of several none does, because they are recomputed.
    """
    wanted = work.targets * shape.vocab
    elements = min(wanted, max(LOGIT_ELEMENTS // shape.vocab, 1) * shape.vocab)
    return (4 * elements if wanted <= LOGIT_ELEMENTS else 0), 16 * elements


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """Memory of a server on one device. cache_tokens: tokens that fit in its key-value cache (over all devices of the server)."""

    parts: dict[str, int]
    asleep: dict[str, int]
    cache_tokens: int
    host: int

    @property
    def total(self) -> int:
        return sum(self.parts.values())


def cache_bytes_a_token(shape: ModelShape, dtype: str, devices: int = 1) -> int:
    """Keys and values of one token in all layers, on one of `devices` that share the heads: 2 x layers x heads x width x e."""
    heads = max(1, shape.kv_heads // devices)
    return 2 * shape.layers * heads * shape.head_dim * DTYPE_BYTES[dtype]


def cache_tokens(shape: ModelShape, dtype: str, cache_bytes: int, block: int = 16, devices: int = 1) -> int:
    """Tokens in vLLM's paged cache: whole blocks of `block` tokens (num_gpu_blocks x block_size)."""
    return max(0, cache_bytes) // (cache_bytes_a_token(shape, dtype, devices) * block) * block


def engine_memory(
    shape: ModelShape, model: ModelConfig, fleet: FleetConfig, device_bytes: int | None, keeps_weights: bool = True
) -> EngineMemory:
    """Memory of a vLLM server. device_bytes: of one GPU; None on the CPU, where fleet.kv_cache_bytes decides.

    On a GPU vLLM takes its share of the memory: weights, what a profiling run of ENGINE_TOKENS tokens needs, an estimate of the
    captured graphs, and the rest for the cache. keeps_weights: whether a sleeping server keeps its weights in the host's memory.
    """
    size, devices = DTYPE_BYTES[model.dtype], max(1, int(fleet.gpus_per_server))
    weights = size * shape.parameters // devices
    if device_bytes is None:
        tokens = cache_tokens(shape, model.dtype, fleet.kv_cache_bytes, block=32)
        return EngineMemory({"engine weights": weights, "KV cache": fleet.kv_cache_bytes}, {}, tokens, 0)
    # The gated MLP's two halves, its input and output; float32 logits of all sequences and two copies for sampling.
    profile = ENGINE_TOKENS * size * (2 * shape.intermediate // devices + 4 * shape.hidden)
    profile += 3 * 4 * fleet.max_concurrent_sequences * shape.vocab
    budget = int(fleet.gpu_memory_share * device_bytes)
    cache = budget - weights - profile - CUDA_CONTEXT - CUDA_GRAPHS
    parts = {
        "engine weights": weights,
        "KV cache": max(0, cache),
        "engine activations": profile,
        "engine context, graphs": CUDA_CONTEXT + CUDA_GRAPHS,
    }
    asleep = {"sleeping engines": CUDA_CONTEXT + CUDA_GRAPHS}
    tokens = cache_tokens(shape, model.dtype, cache, devices=devices)
    return EngineMemory(parts, asleep, tokens, size * shape.parameters if keeps_weights else 0)
