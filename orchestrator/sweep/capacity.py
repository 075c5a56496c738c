"""How many runs fit side by side, so that none waits half-placed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from orchestrator.cluster.plan import Bundle, Plan
from orchestrator.cluster.preflight import PROCESSES_MAX, Node, check_fit, place


def at_once(plan: Plan, nodes: Sequence[Node], most: int | None = None) -> int:
    """How many runs with this plan the nodes hold at the same time; what is shared is there once.

    most: not more than this. Raises PreflightError where not even one fits.
    """
    check_fit(plan, nodes)
    processes = sum(bundle.count for bundle in plan.bundles if not bundle.shared)
    fits, too_many = 1, 1 + min(_bound(plan, nodes), PROCESSES_MAX // max(1, processes), most or PROCESSES_MAX)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if place(_copies(plan, middle), nodes) is None:
            too_many = middle
        else:
            fits = middle
    return fits


def largest(plans: Sequence[Plan], apart: Collection[str] = ()) -> Plan:
    """A plan that has room for any of these: of each role the most processes, and the most CPUs and GPUs of one.

    So any k of them fit where k copies of it fit. apart: shared roles whose pools are not the same for all of them.
    """
    bundles: dict[str, Bundle] = {}
    for bundle in (bundle for plan in plans for bundle in plan.bundles):
        other = bundles.setdefault(bundle.role, bundle)
        bundles[bundle.role] = replace(
            other,
            count=max(other.count, bundle.count),
            cpus=max(other.cpus, bundle.cpus),
            gpus=max(other.gpus, bundle.gpus),
            colocated=other.colocated and bundle.colocated,
            shared=bundle.role not in apart and other.shared and bundle.shared,
        )
    return Plan(tuple(bundles.values()), plans[0].facts)


def _copies(plan: Plan, count: int) -> tuple[Bundle, ...]:
    return tuple(item if item.shared else replace(item, count=item.count * count) for item in plan.bundles)


def _bound(plan: Plan, nodes: Sequence[Node]) -> int:
    """More runs than this take more CPUs or GPUs than there are in all."""
    own = Plan(tuple(bundle for bundle in plan.bundles if not bundle.shared))
    there = ((own.cpus, sum(node.cpus for node in nodes)), (own.gpus, sum(node.gpus for node in nodes)))
    return min((int(has / asked + 1e-6) for asked, has in there if asked), default=PROCESSES_MAX)
