"""What a run needs: which process takes which CPUs and GPUs. Computed from the config alone, before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator.config.schema import FleetConfig, Role, RunConfig
from orchestrator.values import POLICY

LEARNER = "learner"
"""The bundle of the learner's ranks."""
DRIVER = "driver"
RATERS = "raters"
"""Stands for all roles that the reward asks: those that neither learn nor play."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """`count` processes of one role, each of which needs `cpus` logical CPUs and `gpus` GPUs on one node.

    colocated: takes nothing of its own, because it uses what the learner holds. shared: one pool for all runs that ask it,
    which takes its resources once.
    """

    role: str
    count: int
    cpus: float
    gpus: float
    what: str
    colocated: bool = False
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run places. facts: sizes that follow exactly from the config, for display."""

    bundles: tuple[Bundle, ...]
    facts: tuple[str, ...] = ()

    def without(self, roles: Iterable[str]) -> Plan:
        """What is left to place where these roles are there already."""
        there = set(roles)
        return Plan(tuple(item for item in self.bundles if item.role not in there), self.facts)

    @property
    def shared(self) -> tuple[str, ...]:
        """The roles whose servers are not this run's alone."""
        return tuple(item.role for item in self.bundles if item.shared)

    def at_work(self, roles: Iterable[str]) -> tuple[float, float]:
        """(CPUs, GPUs) of this run that work while these roles (or all RATERS) do. Colocated servers work with what the learner
        holds."""
        asked = set(roles)
        if RATERS in asked:
            asked |= {item.role for item in self.bundles} - {DRIVER, LEARNER, POLICY}
        working = {LEARNER if item.colocated else item.role for item in self.bundles if item.role in asked}
        mine = [item for item in self.bundles if item.role in working and not item.shared]
        return sum(item.count * item.cpus for item in mine), sum(item.count * item.gpus for item in mine)

    @property
    def cpus(self) -> float:
        """Logical CPUs in all."""
        return round(sum(bundle.count * bundle.cpus for bundle in self.bundles), 4)

    @property
    def gpus(self) -> float:
        """GPUs in all."""
        return round(sum(bundle.count * bundle.gpus for bundle in self.bundles), 4)


def make_plan(config: RunConfig) -> Plan:
    """The processes of one run: driver, learner ranks, policy servers and those of the raters that are no URLs. One that only evaluates
    has no learner."""
    learner = config.learner
    device = "GPU" if learner.gpus_per_rank else f"CPU, {learner.threads_per_rank} thread(s)"
    rank = f"DeepSpeed ZeRO-{learner.zero_stage} rank, {config.model.dtype}, {device}"
    bundles = [Bundle(DRIVER, 1, 0, 0, "starts and watches the others")]
    if not config.evaluates:
        bundles.append(Bundle(LEARNER, learner.ranks, learner.cpus_per_rank, learner.gpus_per_rank, rank))
    for name, role in config.roles().items():
        if not role.elsewhere:
            bundles.append(_fleet(name, role, config.colocated))
    return Plan(tuple(bundles), _facts(config))


def alone_plan(name: str, model: str, fleet: FleetConfig) -> Plan:
    """The servers of one model without a run."""
    device = "GPU" if fleet.gpus_per_server else f"CPU, {fleet.threads_per_server} thread(s)"
    what = f"vLLM server of {model}, {device}"
    return Plan((Bundle(name, fleet.servers, fleet.cpus_per_server, fleet.gpus_per_server, what),))


def gathering_plans(config: RunConfig) -> list[Plan]:
    """The servers that are asked before anything is taught: of each model, or of all where they are there at the same time."""
    alone = [
        alone_plan(name, served.name, served.fleet) for name, served in config.gathers().items() if not served.elsewhere
    ]
    if config.gathers_at_once and alone:
        return [Plan(tuple(bundle for plan in alone for bundle in plan.bundles))]
    return alone


def _fleet(name: str, role: Role, colocated: bool) -> Bundle:
    fleet = role.fleet
    if fleet.gpus_per_server > 1:
        device = f"tensor-parallel over {fleet.gpus_per_server:g} GPUs"
    else:
        device = "GPU" if fleet.gpus_per_server else f"CPU, {fleet.threads_per_server} thread(s)"
    what = f"vLLM server of {role.name}, {role.model.dtype}, {device}"
    if colocated and not role.shared:
        return Bundle(name, fleet.servers, 0, 0, f"{what} of the learner's", colocated=True)
    return Bundle(name, fleet.servers, fleet.cpus_per_server, fleet.gpus_per_server, what, shared=role.shared)


def _facts(config: RunConfig) -> tuple[str, ...]:
    rollout = config.rollout
    episodes = rollout.prompts_per_step * rollout.samples_per_prompt
    facts = [
        f"{name}: {served.name} is asked before anything is taught"
        + (" (a URL)" if served.elsewhere else f", by {served.fleet.servers} server(s) that then end")
        for name, served in config.gathers().items()
    ]
    if config.evaluates:
        where = ", which takes nothing from this cluster" if config.roles()[POLICY].elsewhere else ""
        return (*facts, f"nothing is trained: {config.model.name}{where} is evaluated")
    if POLICY not in config.roles():
        return (*facts, f"no policy and no RL: the {' and the '.join(config.roles())} is taught, served and examined")
    facts += [
        f"{config.steps} steps of {episodes} episodes ({rollout.prompts_per_step} tasks x {rollout.samples_per_prompt} "
        f"samples), {config.steps * episodes:,} in all",
        f"at most {episodes * rollout.max_completion_tokens:,} generated tokens a step",
    ]
    for name, role in config.roles().items():
        if role.elsewhere:
            facts.append(f"the {name} is {role.name}, which takes nothing from this cluster")
    if config.reward.name:
        facts.append(
            f"the reward is {config.reward.name}, in {config.reward.processes} process(es) beside the learner's first rank; no judge "
            "is started"
        )
    return tuple(facts)


def plan_rows(plan: Plan) -> list[tuple[str, str, str, str, str]]:
    """(role, processes, CPUs each, GPUs each, what) for display; the last row sums CPUs and GPUs over all processes."""
    rows = [(item.role, str(item.count), f"{item.cpus:g}", f"{item.gpus:g}", item.what) for item in plan.bundles]
    processes = sum(item.count for item in plan.bundles)
    return [*rows, ("in all", str(processes), f"{plan.cpus:g}", f"{plan.gpus:g}", "")]
