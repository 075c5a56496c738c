"""One fleet without a run: servers that are placed, waited for, lent and ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from orchestrator.cluster.plan import Plan, make_plan
from orchestrator.cluster.preflight import check_engines, check_fit, nodes_of_cluster
from orchestrator.cluster.session import connected
from orchestrator.config.schema import RunConfig
from orchestrator.fleets.fleet import Fleet, start_servers
from orchestrator.fleets.specs import ServerSpec


@contextmanager
def serving(config: RunConfig, specs: Sequence[ServerSpec]) -> Iterator[Fleet]:
    """A fleet of these servers, all of one role, that ends with the block. config: the cluster, and what a server takes of it.

    The servers have GPUs of their own: config.placement must be split. Raises RunError where they do not fit or do not start.
    """
    role, settings = specs[0].role, specs[0].fleet
    bundles = [replace(bundle, count=len(specs)) for bundle in make_plan(config).bundles if bundle.role == role]
    plan = Plan(tuple(bundles))
    with connected(config.cluster) as ray:
        check_engines(plan)
        check_fit(plan, nodes_of_cluster())
        servers = start_servers(specs)
        try:
            fleet = Fleet(role, servers, settings.request_deadline_s, settings.start_deadline_s, settings.max_restarts)
            fleet.wait_ready()
            yield fleet
        finally:
            for server in servers:
                ray.kill(server)
