"""The memory of a run by device and phase: what the dry run prints and holds against the stated hardware. No framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.cluster.memory import (
    DTYPE_BYTES,
    GB,
    EngineMemory,
    LearnerMemory,
    Work,
    added,
    engine_memory,
    learner_memory,
    trained_parameters,
)
from orchestrator.config.schema import Role, RunConfig
from orchestrator.config.shapes import ModelShape, shape_of
from orchestrator.values import POLICY

HEADROOM = 0.06
"""Share of a device's memory that stays free: fragmentation, and what no formula counts."""

REMEDIES = {
    "weights": "shard them (learner.zero_stage=3) over more learner.ranks, or set learner.offload_parameters=true",
    "gathered weights": "train a smaller model, or set learner.zero_stage=2",
    "master weights": "set learner.offload_optimizer=true, or raise learner.ranks",
    "Adam moments": "set learner.offload_optimizer=true, or raise learner.ranks",
    "gradients": "set learner.offload_optimizer=true with learner.zero_stage=3, or raise learner.ranks",
    "optimizer step": "set learner.offload_optimizer=true, or raise learner.ranks",
    "reference model": "set algorithm.kl_weight=0 (flowrl: algorithm.flow_prior=old too), or shard it (learner.zero_stage=3)",
    "critic": "set learner.offload_optimizer=true, raise learner.ranks, or choose an algorithm.name without a critic",
    "activations": "set learner.gradient_checkpointing=true, or lower learner.tokens_per_microbatch (not below model.context_tokens)",
    "logits": "lower learner.tokens_per_microbatch",
}
"""What makes a part smaller."""
SERVERS = ("engine weights", "KV cache", "engine activations")
"""Parts that a smaller share of the GPU makes smaller."""


@dataclass(frozen=True, slots=True)
class MemoryNeed:
    """One device in one phase. parts: bytes by part. capacity: bytes of the device that may be used, None where unknown.

    keys: the setting that makes the servers' parts smaller.
    """

    device: str
    phase: str
    parts: Mapping[str, int]
    capacity: float | None
    keys: str = ""

    @property
    def total(self) -> int:
        return sum(self.parts.values())

    @property
    def allowed(self) -> float | None:
        """What of the capacity may be planned with."""
        return None if self.capacity is None else self.capacity * (1 - HEADROOM)

    @property
    def fits(self) -> bool:
        return self.allowed is None or self.total <= self.allowed

    @property
    def remedy(self) -> str:
        """One sentence on the largest part that can be made smaller."""
        mine = [name for name in self.parts if name in REMEDIES or (self.keys and name in SERVERS)]
        part = max(mine, key=lambda name: self.parts[name])
        return f"Largest is {part}, {self.parts[part] / GB:.1f} GB: {REMEDIES.get(part, f'lower {self.keys}')}."


@dataclass(frozen=True, slots=True)
class Needs:
    """columns: a device and phase each. facts: further sizes in words. unknown: what could not be computed, and what to do.
    lacks: servers that cannot work, and why.
    """

    columns: tuple[MemoryNeed, ...]
    facts: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


def needs_of(config: RunConfig, gpu_memory_gb: float | None) -> Needs:
    """Memory of every kind of process of a run. gpu_memory_gb: of each GPU, None where there are none or it is not known."""
    roles = {name: role for name, role in config.roles().items() if not role.elsewhere}
    shapes = {name: shape_of(role.model, role.name, config.storage) for name, role in roles.items()}
    unknown = [
        f"the shape of {roles[name].name} ({name}) is not known here: give the folder (path:FOLDER), or fetch its config.json once "
        "(`hf download MODEL config.json`)"
        for name, shape in shapes.items()
        if shape is None
    ]
    known = {name: shape for name, shape in shapes.items() if shape is not None}
    device = None if gpu_memory_gb is None else gpu_memory_gb * GB
    engines = _engines(config, roles, known, device)
    seated = _seated(config, roles, engines)
    columns = [] if config.evaluates else _learner(config, roles, known, device, seated)
    columns += [_server(name, roles[name], engine, device) for name, engine in engines.items() if name not in seated]
    return Needs(
        tuple(columns), tuple(_facts(config, roles, known, engines)), tuple(unknown), tuple(_lacks(roles, engines))
    )


def _seated(
    config: RunConfig, roles: Mapping[str, Role], engines: Mapping[str, EngineMemory]
) -> dict[str, EngineMemory]:
    """Those that share the learner's GPUs."""
    if not config.colocated or not config.learner.gpus_per_rank:
        return {}
    return {name: engine for name, engine in engines.items() if not roles[name].shared}


def _engines(
    config: RunConfig, roles: Mapping[str, Role], shapes: Mapping[str, ModelShape], device: float | None
) -> dict[str, EngineMemory]:
    """One server of each fleet; none where its GPU is of unknown size."""
    found = {}
    for name, shape in shapes.items():
        fleet = roles[name].fleet
        if not fleet.gpus_per_server:
            found[name] = engine_memory(shape, roles[name].model, fleet, None)
        elif device is not None:
            kept = name != POLICY or config.sync.lora == "adapter"
            found[name] = engine_memory(shape, roles[name].model, fleet, int(device), kept)
    return found


def _server(name: str, role: Role, engine: EngineMemory, device: float | None) -> MemoryNeed:
    fleet = role.fleet
    capacity = device * min(1, fleet.gpus_per_server) if device and fleet.gpus_per_server else None
    group = "rollout.fleet" if name == POLICY else f"{name}.fleet"
    key = f"{group}.gpu_memory_share={fleet.gpu_memory_share:g}" if fleet.gpus_per_server else f"{group}.kv_cache_bytes"
    return MemoryNeed(f"{name} server", "answering", engine.parts, capacity, key)


def _learner(
    config: RunConfig,
    roles: Mapping[str, Role],
    shapes: Mapping[str, ModelShape],
    device: float | None,
    seated: Mapping[str, EngineMemory],
) -> list[MemoryNeed]:
    """The learner's devices: while the policy learns, while models are taught before, and while servers seated there answer."""
    share = config.learner.gpus_per_rank
    capacity = device * share if device and share else None
    asleep = added(*(engine.asleep for engine in seated.values()))
    columns = []
    for name, memory in _lessons(config, roles, shapes).items():
        _, parts = memory.peak
        columns.append(MemoryNeed("learner rank", f"teaching the {name}", added(parts, asleep), capacity))
    if POLICY in shapes:
        memory = _learning(config, shapes[POLICY])
        moment, parts = memory.peak
        columns.append(MemoryNeed("learner rank", f"learning ({moment})", added(parts, asleep), capacity))
        if seated:
            keys = " or ".join(f"{'rollout' if name == POLICY else name}.fleet.gpu_memory_share" for name in seated)
            awake = added(memory.resident, *(engine.parts for engine in seated.values()))
            columns.append(MemoryNeed("learner rank", "servers awake", awake, capacity, keys))
    return columns


def _learning(config: RunConfig, shape: ModelShape) -> LearnerMemory:
    """RL: the policy, and beside it what the objective needs."""
    learner, algorithm = config.learner, config.algorithm
    return learner_memory(
        shape, learner, config.model.dtype, _work(config), algorithm.needs_reference, bool(learner.gpus_per_rank),
        algorithm.has_critic,
    )  # fmt: skip


def _work(config: RunConfig) -> Work:
    """A rank's largest microbatch of RL: filled to its budget, or one row of the whole context; all of it generated."""
    rollout, context = config.rollout, config.model.context_tokens
    episodes = -(-rollout.prompts_per_step * rollout.samples_per_prompt // config.learner.ranks)
    tokens = min(max(config.learner.tokens_per_microbatch, context), episodes * context)
    return Work(tokens, tokens, context, several=episodes * context > tokens)


def _lessons(
    config: RunConfig, roles: Mapping[str, Role], shapes: Mapping[str, ModelShape]
) -> dict[str, LearnerMemory]:
    """Of the models that are taught before RL, whose rows may have branches."""
    found = {}
    for name, role in roles.items():
        taught = role.training.steps > 0 and (role.name == "mini" or role.training.named_models)
        if not taught or name not in shapes:
            continue
        context = role.model.context_tokens
        rows = -(-role.training.examples_per_step // config.learner.ranks)
        tokens = min(max(config.learner.tokens_per_microbatch, context), rows * context)
        work = Work(tokens, tokens, context, masked=True, several=rows * context > tokens)
        # Lessons train all weights.
        learner = replace(config.learner, lora_rank=0)
        found[name] = learner_memory(
            shapes[name], learner, role.model.dtype, work, False, bool(config.learner.gpus_per_rank)
        )
    return found


def _facts(
    config: RunConfig, roles: Mapping[str, Role], shapes: Mapping[str, ModelShape], engines: Mapping[str, EngineMemory]
) -> list[str]:
    facts = [
        f"{name}: {roles[name].name} has {shape.parameters / 1e9:.3g} billion parameters"
        for name, shape in shapes.items()
        if shape.parameters >= 10**8
    ]
    for name, engine in engines.items():
        context, servers = roles[name].model.context_tokens, roles[name].fleet.servers
        facts.append(
            f"a {name} server's cache holds {engine.cache_tokens:,} tokens: {engine.cache_tokens // context:,} sequences of "
            f"{context:,} tokens ({servers} server(s))"
        )
    if POLICY in shapes and not config.evaluates:
        # Weights as they are served, and of what is trained master weights and both moments; the newest is written beside those kept.
        trained, weights = trained_parameters(shapes[POLICY], config.learner), shapes[POLICY].parameters
        size = DTYPE_BYTES[config.model.dtype] * weights + 12 * trained
        most = config.checkpoint.keep + 1
        facts.append(f"a checkpoint takes {_size(size)} of disk, {most} of them at most {_size(most * size)}")
        if config.learner.lora_rank:
            facts.append(
                f"LoRA of rank {config.learner.lora_rank} trains {trained:,} parameters ({trained / weights:.2%} of the policy's "
                f"{weights:,})"
            )
        memory = _learning(config, shapes[POLICY])
        seated = _seated(config, roles, engines)
        sleeping = sum(engine.host * roles[name].fleet.servers for name, engine in seated.items())
        host = sum(memory.host.values()) * config.learner.ranks + sleeping
        if host and config.learner.gpus_per_rank:
            facts.append(f"host memory of all nodes: {host / GB:.0f} GB for what is offloaded or sleeps")
    return facts


def _lacks(roles: Mapping[str, Role], engines: Mapping[str, EngineMemory]) -> list[str]:
    """Servers whose cache cannot hold one sequence of the whole context."""
    problems = []
    for name, engine in engines.items():
        role, group = roles[name], "rollout.fleet" if name == POLICY else f"{name}.fleet"
        key = "gpu_memory_share" if role.fleet.gpus_per_server else "kv_cache_bytes"
        if engine.cache_tokens < role.model.context_tokens:
            problems.append(
                f"a {name} server's cache holds {engine.cache_tokens:,} tokens and one sequence has up to "
                f"{role.model.context_tokens:,}: raise {group}.{key} or {group}.gpus_per_server, or lower the context_tokens of "
                "its model."
            )
    return problems


def memory_rows(columns: Sequence[MemoryNeed]) -> list[tuple[str, ...]]:
    """(part, GB in each column) for display; then the sums, and what of each device may be used."""
    names = list(dict.fromkeys(part for column in columns for part in column.parts))
    rows = [(name, *(_gb(column.parts.get(name)) for column in columns)) for name in names]
    rows.append(("in all", *(_gb(column.total) for column in columns)))
    if any(column.allowed is not None for column in columns):
        rows.append((f"may use ({1 - HEADROOM:.0%})", *(_gb(column.allowed) for column in columns)))
    return rows


def _size(size: float) -> str:
    return f"{size / GB:.0f} GB" if size >= 10 * GB else f"{size / 10**6:,.0f} MB"


def _gb(size: float | None) -> str:
    return "" if size is None else f"{size / GB:.2f}"
