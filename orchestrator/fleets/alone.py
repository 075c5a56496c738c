"""One fleet without a run: servers that are placed, waited for, lent and ended."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from orchestrator.cluster.plan import alone_plan
from orchestrator.cluster.preflight import check_engines, check_fit, nodes_there, wait_for_room
from orchestrator.cluster.session import connected, joins
from orchestrator.config.schema import RunConfig
from orchestrator.fleets.fleet import Fleet, start_servers
from orchestrator.fleets.specs import ServerSpec

log = logging.getLogger("orchestrator")


@contextmanager
def serving(config: RunConfig, specs: Sequence[ServerSpec]) -> Iterator[Fleet]:
    """A fleet of these servers, all of one role, that ends with the block. config: the cluster.

    The servers have GPUs of their own. Raises RunError where they do not fit or do not start.
    """
    role, settings = specs[0].role, specs[0].fleet
    plan = alone_plan(role, specs[0].folder, replace(settings, servers=len(specs)))
    with ExitStack() as stack:
        if joins(config.cluster):
            stack.enter_context(connected(config.cluster))
        check_fit(plan, nodes_there(config.cluster))
        check_engines(plan)
        ray = stack.enter_context(connected(config.cluster))
        wait_for_room(plan, config.cluster.placement_deadline_s, log.warning)
        servers = start_servers(specs)
        try:
            fleet = Fleet(role, servers, settings.request_deadline_s, settings.start_deadline_s, settings.max_restarts)
            fleet.wait_ready()
            yield fleet
        finally:
            for server in servers:
                ray.kill(server)
