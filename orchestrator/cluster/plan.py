"""What a run needs: which process takes which CPUs and GPUs. Computed from the config alone, before anything starts."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.references import ModelReference
from orchestrator.config.schema import FleetConfig, ModelConfig, RunConfig


@dataclass(frozen=True, slots=True)
class Bundle:
    """`count` processes of one role, each of which needs `cpus` logical CPUs and `gpus` whole GPUs on one node."""

    role: str
    count: int
    cpus: float
    gpus: int
    what: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run places. facts: sizes that follow exactly from the config, for display."""

    bundles: tuple[Bundle, ...]
    facts: tuple[str, ...] = ()

    @property
    def cpus(self) -> float:
        """Logical CPUs in all."""
        return round(sum(bundle.count * bundle.cpus for bundle in self.bundles), 4)

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return sum(bundle.count * bundle.gpus for bundle in self.bundles)


def make_plan(config: RunConfig) -> Plan:
    """The processes of one run: driver, learner ranks, policy servers and, unless a URL judges, judge servers."""
    learner = config.learner
    device = "GPU" if learner.gpus_per_rank else f"CPU, {learner.threads_per_rank} thread(s)"
    rank = f"DeepSpeed ZeRO-{learner.zero_stage} rank, {config.model.dtype}, {device}"
    bundles = [
        Bundle("driver", 1, 0, 0, "starts and watches the others"),
        Bundle("learner", learner.ranks, learner.cpus_per_rank, learner.gpus_per_rank, rank),
        _fleet("policy", config.rollout.fleet, config.model.name, config.model),
    ]
    if ModelReference.parse(config.judge.name).kind != "url":
        bundles.append(_fleet("judge", config.judge.fleet, config.judge.name, config.judge.model))
    return Plan(tuple(bundles), _facts(config))


def _fleet(role: str, fleet: FleetConfig, name: str, model: ModelConfig) -> Bundle:
    if fleet.gpus_per_server > 1:
        device = f"tensor-parallel over {fleet.gpus_per_server} GPUs"
    else:
        device = "GPU" if fleet.gpus_per_server else f"CPU, {fleet.threads_per_server} thread(s)"
    what = f"vLLM server of {name}, {model.dtype}, {device}"
    return Bundle(role, fleet.servers, fleet.cpus_per_server, fleet.gpus_per_server, what)


def _facts(config: RunConfig) -> tuple[str, ...]:
    rollout = config.rollout
    episodes = rollout.prompts_per_step * rollout.samples_per_prompt
    facts = [
        f"{config.steps} steps of {episodes} episodes ({rollout.prompts_per_step} tasks x {rollout.samples_per_prompt} "
        f"samples), {config.steps * episodes:,} in all",
        f"at most {episodes * rollout.max_completion_tokens:,} generated tokens a step",
    ]
    if ModelReference.parse(config.judge.name).kind == "url":
        facts.append(f"judged by {config.judge.name}, which takes nothing from this cluster")
    return tuple(facts)


def plan_rows(plan: Plan) -> list[tuple[str, str, str, str, str]]:
    """(role, processes, CPUs each, GPUs each, what) for display; the last row sums CPUs and GPUs over all processes."""
    rows = [(item.role, str(item.count), f"{item.cpus:g}", str(item.gpus), item.what) for item in plan.bundles]
    processes = sum(item.count for item in plan.bundles)
    return [*rows, ("in all", str(processes), f"{plan.cpus:g}", str(plan.gpus), "")]
