"""What a run costs in hours and GPU-hours, estimated from shapes and stated assumptions. Imports no framework.

Compute: 2 FLOPs a parameter and token forward, twice that backward, and 2 x layers x width x length for causal attention (Kaplan
et al., arXiv 2001.08361, section 2.1; attention halved by causality); recomputation adds a forward pass. Decoding is bound
by reading the weights and the cache once a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from orchestrator.cluster.memory import GB, cache_bytes_a_token, engine_memory
from orchestrator.cluster.plan import make_plan
from orchestrator.config.schema import Role, RunConfig
from orchestrator.config.shapes import DTYPE_BYTES, ModelShape, shape_of
from orchestrator.values import JUDGE, POLICY


@dataclass(frozen=True, slots=True)
class Device:
    """flops: bfloat16 without sparsity, a second. bandwidth: of its memory, bytes a second."""

    name: str
    flops: float
    bandwidth: float


DEVICES = {
    24: Device("A10", 125e12, 600e9),
    80: Device("A100", 312e12, 2.0e12),
    1024: Device("H200", 989e12, 4.8e12),
}
"""By the largest memory in GB that is taken for it. From NVIDIA's data sheets."""

TRAINING_SHARE = 0.3
"""Of the peak FLOPs. Published runs reach 0.1 to 0.15 with small models and short rows, 0.3 to 0.4 with large ones."""
PREFILL_SHARE = 0.4
BANDWIDTH_SHARE = 0.6
"""Of the memory's bandwidth, in decoding."""
LINK_BYTES = 5e9
"""A second, for new weights on their way to the servers (published: 3 GB/s in buckets of verl, 24 to 38 GB/s at best)."""
HOST_BYTES = 10e9
"""A second and rank, for an optimizer that works in the host's memory and moves 28 bytes a parameter."""
PROMPT_TOKENS = 512
CRITERIA, CRITERION_TOKENS = 20, 64
"""Questions that a judge is asked about an answer, which it reads once, and the length of each."""
START_S = 300.0
"""Imports, loading, compiling and capturing graphs."""


@dataclass(frozen=True, slots=True)
class Cost:
    """seconds: of the whole run by phase. gpus: held all the time. assumptions: what the estimate rests on."""

    seconds: Mapping[str, float]
    gpus: float
    assumptions: tuple[str, ...]

    @property
    def hours(self) -> float:
        return sum(self.seconds.values()) / 3600

    @property
    def gpu_hours(self) -> float:
        return self.hours * self.gpus

    @property
    def sentences(self) -> tuple[str, ...]:
        phases = ", ".join(f"{name} {seconds / 3600:.1f}" for name, seconds in self.seconds.items() if seconds >= 180)
        return (
            f"about {self.hours:.1f} hours on {self.gpus:g} GPU(s), {self.gpu_hours:.0f} GPU-hours "
            f"(range {self.gpu_hours / 2:.0f} to {2 * self.gpu_hours:.0f})",
            f"hours by phase: {phases}",
            *self.assumptions,
        )


def device_of(gpu_memory_gb: float) -> Device:
    """The device that GPUs of this memory are taken for."""
    return DEVICES[min((size for size in DEVICES if gpu_memory_gb <= size), default=1024)]


def cost_of(config: RunConfig, gpu_memory_gb: float) -> Cost | None:
    """The cost of a run on GPUs of this memory; None where a model's shape is unknown, a process works on the CPU, or the run only
    evaluates: the data decide how much."""
    roles = {name: role for name, role in config.roles().items() if not role.elsewhere}
    shapes = {name: shape_of(role.model, role.name, config.storage) for name, role in roles.items()}
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    on_cpu = not config.learner.gpus_per_rank or any(not role.fleet.gpus_per_server for role in roles.values())
    if len(known) < len(roles) or on_cpu or config.evaluates:
        return None
    device = device_of(gpu_memory_gb)
    trained, evaluated = _episodes(config)
    answers = trained + evaluated
    seconds = {
        "starting": START_S,
        "teaching": sum(_teaching(config, roles[name], known[name], device) for name in roles),
    }
    assumed = _assumptions(config, device, gpu_memory_gb)
    if config.gathers():
        assumed += (f"not counted: what is asked before of {', '.join(config.gathers())}",)
    if POLICY not in known:
        return Cost(seconds, make_plan(config).gpus, assumed)
    policy = known[POLICY]
    per_step = config.rollout.prompts_per_step * config.rollout.samples_per_prompt
    seconds["rollouts"] = answers / per_step * _decoding(config, policy, device, gpu_memory_gb, per_step)
    for name in known.keys() - {POLICY}:
        seconds[name] = answers * _asking(config, roles[name], known[name], device)
    seconds["learning"] = trained * _learning(config, policy, device) + config.steps * _host_step(config, policy)
    seconds["sync"] = config.steps * DTYPE_BYTES[config.model.dtype] * policy.parameters / LINK_BYTES
    return Cost(seconds, make_plan(config).gpus, assumed)


def _episodes(config: RunConfig) -> tuple[int, int]:
    """(episodes of training, answers of all evaluations)."""
    trained = config.steps * config.rollout.prompts_per_step * config.rollout.samples_per_prompt
    tasks, first = config.data.eval_groups, config.eval.best_of or config.eval.samples_per_task
    later = -(-config.steps // config.eval.every_steps)
    tested = 2 * config.data.test_groups * config.eval.test_samples_per_task  # at both ends
    return trained, tasks * (first + later * config.eval.samples_per_task) + tested


def _prompt(config: RunConfig) -> int:
    return min(PROMPT_TOKENS, config.model.context_tokens - config.rollout.max_completion_tokens)


def forward_flops(shape: ModelShape, tokens: float, length: float) -> float:
    """Of one forward pass over `tokens` tokens in sequences of `length`. An embedding that is only looked up costs nothing."""
    multiplied = shape.parameters - (0 if shape.tied else shape.embedding)
    return tokens * (2 * multiplied + 2 * shape.layers * shape.queries * length)


def _learning(config: RunConfig, shape: ModelShape, device: Device) -> float:
    """Seconds an episode. Each epoch: forward and backward (3), recomputation (1). Once: the reference, the old policy (1 each).

    A critic is asked once and trained as often as the policy, without the head over the vocabulary.
    """
    length = _prompt(config) + config.rollout.max_completion_tokens
    algorithm, learner = config.algorithm, config.learner
    training = algorithm.epochs_per_batch * (3 + learner.gradient_checkpointing)
    asked = algorithm.needs_reference + (algorithm.needs_old or config.rollout.max_staleness > 0)
    forward = forward_flops(shape, length, length)
    flops = (training + asked) * forward
    if algorithm.has_critic:
        flops += (training + 1) * (forward - 2 * length * shape.embedding)
    speed = learner.ranks * min(1, learner.gpus_per_rank) * device.flops * TRAINING_SHARE
    return flops / speed


def _host_step(config: RunConfig, shape: ModelShape) -> float:
    """Seconds a step of an optimizer in the host's memory."""
    learner = config.learner
    steps = config.algorithm.epochs_per_batch * config.algorithm.minibatches
    trained = shape.parameters + (replace(shape, tied=True).parameters if config.algorithm.has_critic else 0)
    return steps * 28 * trained / learner.ranks / HOST_BYTES if learner.offload_optimizer else 0.0


def _teaching(config: RunConfig, role: Role, shape: ModelShape, device: Device) -> float:
    """Seconds of a role's lesson, with rows of half the context."""
    training = role.training
    if role.name != "mini" and not training.named_models:
        return 0.0
    length = role.model.context_tokens / 2
    passes = 3 + config.learner.gradient_checkpointing
    speed = config.learner.ranks * min(1, config.learner.gpus_per_rank) * device.flops * TRAINING_SHARE
    return passes * training.steps * training.examples_per_step * forward_flops(shape, length, length) / speed


def _decoding(config: RunConfig, shape: ModelShape, device: Device, memory_gb: float, episodes: int) -> float:
    """Seconds of generating one step's episodes: waves of as many sequences as a server works on at once."""
    fleet, dtype = config.rollout.fleet, config.model.dtype
    gpus = max(1, int(fleet.gpus_per_server))
    completion, length = config.rollout.max_completion_tokens, _prompt(config) + config.rollout.max_completion_tokens
    cached = engine_memory(shape, config.model, fleet, int(memory_gb * GB)).cache_tokens
    mine = -(-episodes // fleet.servers)
    at_once = max(1, min(mine, fleet.max_concurrent_sequences, cached // length))
    waves = mine / at_once
    cache = at_once * (length - completion / 2) * cache_bytes_a_token(shape, dtype, gpus)
    reading = (DTYPE_BYTES[dtype] * shape.parameters / gpus + cache) / (device.bandwidth * BANDWIDTH_SHARE)
    computing = forward_flops(shape, at_once, length) / (gpus * device.flops * PREFILL_SHARE)
    share = min(1, fleet.gpus_per_server)
    prefill = forward_flops(shape, config.rollout.prompts_per_step * _prompt(config), length)
    prefill /= fleet.servers * gpus * device.flops * PREFILL_SHARE
    return (waves * completion * max(reading, computing) + prefill) / share


def _asking(config: RunConfig, role: Role, shape: ModelShape, device: Device) -> float:
    """Seconds an answer is judged: it is read once, and each criterion after it. A reward model reads it after the prompt."""
    tokens = config.rollout.max_completion_tokens + (_prompt(config) if role.scores else CRITERIA * CRITERION_TOKENS)
    speed = role.fleet.servers * role.fleet.gpus_per_server * device.flops * PREFILL_SHARE
    return forward_flops(shape, tokens, config.rollout.max_completion_tokens) / speed


def _assumptions(config: RunConfig, device: Device, memory_gb: float) -> tuple[str, ...]:
    judged = f"{CRITERIA} criteria an answer of {CRITERION_TOKENS} tokens each, " if JUDGE in config.roles() else ""
    return (
        f"assumed: GPUs of {memory_gb:g} GB are {device.name}s ({device.flops / 1e12:.0f} TFLOP/s bfloat16, "
        f"{device.bandwidth / 1e12:.1f} TB/s); training reaches {TRAINING_SHARE:.0%} of the FLOPs, prefill {PREFILL_SHARE:.0%}, "
        f"decoding {BANDWIDTH_SHARE:.0%} of the bandwidth",
        f"assumed: prompts of {_prompt(config)} tokens, answers of {config.rollout.max_completion_tokens} (the longest), "
        f"{judged}new weights at {LINK_BYTES / 1e9:g} GB/s",
    )
