"""What a well-typed config may still have wrong: values out of bounds, and settings that cannot go together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from orchestrator.config.keys import files_named, keys_of, value_at
from orchestrator.config.references import ModelReference, resolve
from orchestrator.config.schema import (
    ADAPTER_RANKS,
    EvalConfig,
    FleetConfig,
    LimitsConfig,
    ModelConfig,
    RaterConfig,
    RolloutConfig,
    RunConfig,
)
from orchestrator.errors import ConfigError
from orchestrator.values import POLICY

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,-]*")
"""A name that is one folder, also where it begins a command line's word."""


GROUPLESS = ("ppo", "reinforce_pp")
"""Objectives that learn from a single answer to a prompt."""

RANKING = ("rft", "dpo")
"""Objectives that choose answers by rank before the learner sees them."""


ENDS = ("lm_head", "embed_tokens")
"""The output head and the embedding."""


def out_of_bounds(config: RunConfig, origins: Mapping[str, str]) -> list[str]:
    """Values outside the choices, low and high that their fields declare, or not finite. origins: what set each key."""
    problems = []
    for name, key in keys_of(type(config)).items():
        value = None if key.is_group else value_at(config, name)
        where = f"{name}={value} ({origins.get(name, 'default')})"
        if key.choices and value not in key.choices:
            problems.append(f"{where}: must be {key.bounds_in_words}.")
        if isinstance(value, float) and not math.isfinite(value):
            problems.append(f"{where}: must be a finite number.")
        elif isinstance(value, (int, float)) and not _between(value, key.low, key.high):
            problems.append(f"{where}: must be {key.bounds_in_words}.")
    return problems


def _between(value: float, low: float | None, high: float | None) -> bool:
    return (low is None or value >= low) and (high is None or value <= high)


def check(config: RunConfig) -> list[str]:
    """Settings that cannot go together: one sentence each, with the keys and a remedy. Empty where all is well.

    Touches no disk: `missing` does.
    """
    if config.evaluates:
        return [*_places(config), *_servers(config), *_evaluated(config)]
    return [
        *_places(config),
        *_servers(config),
        *_run(config),
        *_data(config),
        *_policy(config),
        *_raters(config),
        *_gathering(config),
        *_batches(config),
        *_algorithm(config),
        *_placement(config),
        *_staleness(config),
        *_lora(config),
    ]


def _places(config: RunConfig) -> Iterator[str]:
    """Where it runs, and where it is written."""
    if config.name is not None and not RUN_NAME.fullmatch(config.name):
        yield (
            f"name={config.name}: must be the name of one folder (letters, digits and . _ + = , -), for example "
            "name=first-try; the folder of all runs is storage."
        )
    if not config.storage:
        yield "storage: must name a folder, for example storage=runs."
    if "://" in config.storage:
        yield (
            f"storage={config.storage}: runs are written to a folder. Name one that every node sees, and mirror={config.storage} for a "
            "copy there."
        )
    if config.cluster.address and config.cluster.address.startswith("ray://"):
        yield (
            f"cluster.address={config.cluster.address}: a Ray Client cannot follow the run's folder. Start the same command on the "
            "cluster with `ray job submit`, or name HOST:PORT of the cluster's own address."
        )


def _evaluated(config: RunConfig) -> Iterator[str]:
    yield from _reference("model.name", config.model.name)
    if config.reward.name is not None:
        yield f"reward.name={config.reward.name}: an evaluation scores answers by its own protocols. Leave reward.name out."
    if config.rollout.temperature != RolloutConfig().temperature:
        yield (
            f"rollout.temperature={config.rollout.temperature:g}: an evaluation samples as its protocols say. Set temperature="
            f"{config.rollout.temperature:g} for another one, and leave rollout.temperature out."
        )
    for name in ("samples_per_task", "test_samples_per_task"):
        given = getattr(config.eval, name)
        if given != getattr(EvalConfig(), name):
            yield f"eval.{name}={given}: an evaluation asks each question as often as its protocol says. Leave it out."


def _servers(config: RunConfig) -> Iterator[str]:
    for key, fleet in _fleets(config).items():
        if fleet.gpus_per_server > 1 and fleet.gpus_per_server % 1:
            yield f"{key}.gpus_per_server={fleet.gpus_per_server:g}: several GPUs must be a whole number of them."


def _run(config: RunConfig) -> Iterator[str]:
    if POLICY not in config.roles() and config.steps:
        yield f"steps={config.steps}: {config.workload} has no policy, and so no step of RL. Set steps=0."
    if config.model.dtype == "bfloat16" and config.learner.zero_stage < 2:
        # At 0 DeepSpeed's optimizer (FP16_UnfusedOptimizer) keeps its float32 weights where no checkpoint reaches; at 1 it sums
        # microbatch gradients in bfloat16.
        yield (
            f"learner.zero_stage={config.learner.zero_stage} with model.dtype=bfloat16 loses precision in checkpoints or gradients. "
            "Set learner.zero_stage=2, on one rank too."
        )
    limits, defaults = config.limits, LimitsConfig()
    if config.model.dtype == "bfloat16" and (
        limits.logprob_gap_max == defaults.logprob_gap_max or limits.logprob_gap_mean == defaults.logprob_gap_mean
    ):
        yield (
            f"limits.logprob_gap_max={limits.logprob_gap_max:g}, limits.logprob_gap_mean={limits.logprob_gap_mean:g}: the defaults are "
            "bounds for float32, and model.dtype=bfloat16 rounds more coarsely. Set limits.logprob_gap_max=10 and "
            "limits.logprob_gap_mean=0.05, or model.dtype=float32."
        )


def _data(config: RunConfig) -> Iterator[str]:
    source, path = config.data.source, config.data.path
    if config.data.test_groups and not config.has_test:
        yield (
            f"data.test_groups={config.data.test_groups}: the workload {config.workload} has no test split beside the held-out tasks. "
            "Leave it out."
        )
    if source == "mini":
        if path is not None:
            yield f"data.path={path} is not read where data.source=mini: set data.source, or drop it."
    elif source == "table" and (path is None or path.startswith("hf:")):
        return  # a workload may have an example of its own; the hub is asked when the rows are read
    elif path is None:
        yield f"data.source={source} is read from a file: set data.path=FILE."


def _policy(config: RunConfig) -> Iterator[str]:
    yield from _model("model", config.model, config.rollout.fleet.gpus_per_server, "rollout.fleet")
    yield from _reference("model.name", config.model.name)
    if config.model.name.startswith(("http://", "https://")):
        yield (
            f"model.name={config.model.name}: the learner needs the policy's weights, which a URL cannot give; "
            "use model=hf:ID, model=path:FOLDER or model=run:NAME. A URL can stand in for the judge (judge=URL)."
        )
    if config.rollout.max_completion_tokens >= config.model.context_tokens:
        yield (
            f"rollout.max_completion_tokens={config.rollout.max_completion_tokens} leaves no room for a prompt in "
            f"model.context_tokens={config.model.context_tokens}: lower the one or raise the other."
        )


def _raters(config: RunConfig) -> Iterator[str]:
    """Not of those that nothing asks."""
    for name, rater in config.raters().items():
        if name in config.roles():
            yield from _rater(name, rater)


def _rater(name: str, rater: RaterConfig) -> Iterator[str]:
    """name: of its role, and of its group of settings."""
    if rater.shared and rater.elsewhere:
        yield f"{name}.shared with {name}={rater.name}: what a URL serves is shared already. Leave {name}.shared out."
    yield from _reference(f"{name}.name", rater.name)
    if rater.model.name not in ("mini", rater.name):
        yield f"{name}.model.name={rater.model.name} is not read: set the {name}'s model with {name}={rater.model.name}."
    elif rater.name == "mini":
        if rater.shared:
            yield (
                f"{name}.shared needs a {name} that has its weights, and {name}=mini is taught in every run. Teach it in one of its "
                f"own (steps=0), and name it: {name}=run:NAME@{name}."
            )
        yield from _model(f"{name}.model", rater.model, rater.fleet.gpus_per_server, f"{name}.fleet")


def _fleets(config: RunConfig) -> dict[str, FleetConfig]:
    """The servers' settings by their key."""
    return {"rollout.fleet": config.rollout.fleet} | {
        f"{name}.fleet": rater.fleet for name, rater in config.raters().items()
    }


def _reference(key: str, text: str) -> Iterator[str]:
    try:
        ModelReference.parse(text)
    except ConfigError as error:
        yield f"{key}: {error}"


def missing(config: RunConfig) -> list[str]:
    """Files, models and runs that the settings name and that are not there: one sentence each, with the key."""
    problems = [
        f"{key}={path} does not exist: give its path from {Path.cwd()}."
        for key, path in files_named(config).items()
        if not path.expanduser().exists()
    ]
    asked = {name: served.name for name, served in config.gathers().items()}
    roles = config.roles()
    rated = {f"{name}.name": rater.name for name, rater in config.raters().items() if name in roles}
    models = asked | {"model.name": config.model.name} | rated
    for key, text in models.items():
        if not list(_reference(key, text)):
            try:
                resolve(ModelReference.parse(text), config.storage)
            except ConfigError as error:
                problems.append(f"{key}: {error}")
    return problems


def _model(key: str, model: ModelConfig, gpus: float, fleet: str) -> Iterator[str]:
    """The shape of a model that is built on the spot."""
    if model.name != "mini":
        return
    if model.hidden_size % model.heads:
        yield f"{key}.hidden_size={model.hidden_size} must be a multiple of {key}.heads={model.heads}: change one."
    elif model.hidden_size // model.heads % 2:
        yield (
            f"{key}.hidden_size={model.hidden_size} over {key}.heads={model.heads} gives heads of odd width, which "
            f"rotary positions cannot use: choose {key}.heads so that the quotient is even."
        )
    if model.heads % model.kv_heads:
        yield f"{key}.heads={model.heads} must be a multiple of {key}.kv_heads={model.kv_heads}: change one."
    if gpus > 1 and model.heads % gpus:
        yield f"{key}.heads={model.heads} cannot be split over {fleet}.gpus_per_server={gpus:g}: use a divisor."


def _gathering(config: RunConfig) -> Iterator[str]:
    for name, served in config.gathers().items():
        yield from _reference(name, served.name)
        if served.name == "mini":
            yield f"{name}: a model that is built on the spot has nothing to say. Name weights, such as hf:ID, or a URL."


def _batches(config: RunConfig) -> Iterator[str]:
    episodes = config.rollout.prompts_per_step * config.rollout.samples_per_prompt
    if config.algorithm.minibatches > episodes:
        yield (
            f"algorithm.minibatches={config.algorithm.minibatches} is more than the {episodes} episodes of a step "
            f"(rollout.prompts_per_step={config.rollout.prompts_per_step} times "
            f"rollout.samples_per_prompt={config.rollout.samples_per_prompt}): lower it, or sample more."
        )


def _staleness(config: RunConfig) -> Iterator[str]:
    if config.rollout.max_staleness and config.colocated:
        yield (
            f"rollout.max_staleness={config.rollout.max_staleness}: colocated servers sleep while the learner works, so nothing can "
            "run ahead. Set placement=split, or rollout.max_staleness=0."
        )


def _lora(config: RunConfig) -> Iterator[str]:
    learner = config.learner
    names = learner.lora_layers or ()
    if not all(names):
        yield (
            f"learner.lora_targets={learner.lora_targets!r} has an empty name: write all-linear, or names of layers with commas, "
            "as q_proj,v_proj."
        )
    ends = [name for name in names if name in ENDS]
    if ends:
        yield (
            f"learner.lora_targets={learner.lora_targets}: {' and '.join(ends)} cannot get adapters, because engines may hold the "
            "embedding and the output head as one. Leave it out; all-linear leaves it out too."
        )
    if config.sync.lora == "adapter" and not 0 < learner.lora_rank <= ADAPTER_RANKS[-1]:
        yield (
            f"sync.lora=adapter with learner.lora_rank={learner.lora_rank}: servers add adapters of rank 1 to {ADAPTER_RANKS[-1]}. "
            "Set such a rank, or sync.lora=merged."
        )


def _algorithm(config: RunConfig) -> Iterator[str]:
    algorithm, samples = config.algorithm, config.rollout.samples_per_prompt
    if samples < 2 and (algorithm.name not in GROUPLESS or algorithm.dynamic_sampling):
        yield (
            f"rollout.samples_per_prompt={samples}: algorithm.name={algorithm.name} compares the answers to one prompt"
            f"{' (algorithm.dynamic_sampling)' if algorithm.name in GROUPLESS else ''}; sample at least 2, or use one of "
            f"{', '.join(GROUPLESS)}."
        )
    if algorithm.name in RANKING and algorithm.kl_weight and algorithm.kl_in == "reward":
        yield (
            f"algorithm.kl_in=reward: {algorithm.name} ranks the answers before their KL penalty is known. Set algorithm.kl_in=loss, "
            "or algorithm.kl_weight=0."
        )
    if 0 < algorithm.dual_clip <= 1:
        yield (
            f"algorithm.dual_clip={algorithm.dual_clip:g} would bound the loss below its value on fresh samples: set it above 1 "
            "(3 is usual), or 0 for none."
        )


def _placement(config: RunConfig) -> Iterator[str]:
    """Which devices processes share, how weights travel between them, and what waits in the host's memory."""
    learner = config.learner
    if learner.offload_optimizer and learner.zero_stage < 2:
        yield f"learner.offload_optimizer needs learner.zero_stage=2 or 3, and it is {learner.zero_stage}."
    if learner.offload_parameters and learner.zero_stage < 3:
        yield f"learner.offload_parameters needs learner.zero_stage=3, and it is {learner.zero_stage}."
    if config.colocated:
        yield from _colocated(config)
    yield from _transport(config)


def _colocated(config: RunConfig) -> Iterator[str]:
    learner = config.learner
    if learner.gpus_per_rank not in (0, 1):
        yield (
            f"placement=colocated with learner.gpus_per_rank={learner.gpus_per_rank:g}: a rank lends its whole GPU. Set "
            "learner.gpus_per_rank=1 (0 on the CPU)."
        )
        return
    for name, role in config.roles().items():
        key, fleet = "rollout.fleet" if name == POLICY else f"{name}.fleet", role.fleet
        if role.elsewhere or role.shared:
            continue
        if not learner.gpus_per_rank:
            if fleet.gpus_per_server:
                yield (
                    f"placement=colocated with {key}.gpus_per_server={fleet.gpus_per_server:g}: the learner's ranks have no GPU to "
                    f"share. Set learner.gpus_per_rank=1, or {key}.gpus_per_server=0."
                )
        elif fleet.gpus_per_server < 1 or fleet.gpus_per_server % 1:
            yield (
                f"placement=colocated with {key}.gpus_per_server={fleet.gpus_per_server:g}: a server uses the whole GPUs of ranks. "
                f"Set {key}.gpus_per_server=1 (or 2, 4, 8), and its part of their memory with {key}.gpu_memory_share."
            )
        elif fleet.servers * fleet.gpus_per_server > learner.ranks:
            yield (
                f"placement=colocated: {key}.servers={fleet.servers} of {fleet.gpus_per_server:g} GPU(s) need "
                f"{fleet.servers * fleet.gpus_per_server:g} of the learner's {learner.ranks} GPU(s). Lower {key}.servers, or raise "
                "learner.ranks."
            )


def _transport(config: RunConfig) -> Iterator[str]:
    transport, placement = config.sync.transport, config.placement.name
    if transport not in ("nccl", "ipc"):
        return
    if not config.learner.gpus_per_rank or not config.rollout.fleet.gpus_per_server:
        yield (
            f"sync.transport={transport} sends from GPU to GPU, and learner.gpus_per_rank={config.learner.gpus_per_rank:g}, "
            f"rollout.fleet.gpus_per_server={config.rollout.fleet.gpus_per_server:g}: use sync.transport=object_store, or GPUs."
        )
    elif transport == "ipc" and placement != "colocated":
        yield "sync.transport=ipc shares the memory of one GPU: it needs placement=colocated. Use nccl, or auto."
    elif transport == "nccl" and placement != "split":
        yield "sync.transport=nccl needs a GPU for each process: it needs placement=split. Use ipc, or auto."
    elif transport == "nccl" and (config.learner.gpus_per_rank < 1 or config.rollout.fleet.gpus_per_server < 1):
        yield (
            "sync.transport=nccl needs whole GPUs (learner.gpus_per_rank, rollout.fleet.gpus_per_server): NCCL refuses two "
            "processes on one. Use object_store, or auto."
        )
