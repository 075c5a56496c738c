"""Connecting to Ray: the cluster that is named, or a Ray of our own on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from orchestrator.config.job import variables
from orchestrator.config.schema import ClusterConfig
from orchestrator.errors import RunError

ENVIRONMENT = {
    "RAY_TRAIN_V2_ENABLED": "1",
    # Ray Train drains reports at this interval; its default of seconds would be added to every checkpoint.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
WORKER_ENVIRONMENT = {
    "WANDB_MODE": "disabled",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "DS_LOG_LEVEL": "warning",
}
NODE_ID, HEAD = "ray.io/node-id", "node:__internal_head__"
"""Ray's label of each node, and the resource that the head alone has."""
OBJECT_STORE_BYTES = 512 * 2**20
STARTING = 4
"""Processes that a Ray of our own starts at once, at least."""


def joins(cluster: ClusterConfig) -> bool:
    """Whether there is a Ray to join already; otherwise `connected` starts one on this machine."""
    if cluster.address or os.environ.get("RAY_ADDRESS"):
        return True
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


@contextmanager
def connected(cluster: ClusterConfig) -> Iterator[Any]:
    """The `ray` module, connected. A Ray that was started here ends with the block; one that was there already stays."""
    limits = {
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(cluster.placement_deadline_s),
        # On two cores Ray would warn of the light processes of a few runs, which cost nothing.
        "RAY_worker_maximum_startup_concurrency": str(max(STARTING, os.cpu_count() or 1)),
    }
    os.environ.update({key: value for key, value in (ENVIRONMENT | limits).items() if key not in os.environ})
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    # Ray refuses a variable that the job sets too.
    ours = {key: value for key, value in (ENVIRONMENT | WORKER_ENVIRONMENT).items() if key not in variables()}
    runtime = {"env_vars": ours, "worker_process_setup_hook": f"{__name__}.{bind_to_node.__name__}"}
    try:
        if address:
            ray.init(address=address, runtime_env=runtime, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(
                address="local",
                runtime_env=runtime,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                object_store_memory=OBJECT_STORE_BYTES,
            )
    # Ray reports a node that did not come up in time as a bare Exception.
    except Exception as error:
        raise RunError(f"cluster.address={address or 'local'}: cannot connect to Ray: {error}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def apart_from_head() -> dict[str, str]:
    """A label selector for light processes: any node but the head, on which all others depend; {} where there is no other."""
    import ray

    nodes = [node for node in ray.nodes() if node["Alive"]]
    head = next((node["NodeID"] for node in nodes if HEAD in node["Resources"]), None)
    return {NODE_ID: f"!{head}"} if head and len(nodes) > 1 else {}


def bind_to_node() -> None:
    """Ray calls this in every process that it starts: gloo then listens on the interface by which Ray knows the node.

    By itself gloo takes the address of the host's name, which on many machines is a loopback one; ranks on two nodes would then
    wait for each other in vain.
    """
    import psutil
    from ray.util import get_node_ip_address

    address = get_node_ip_address()
    for name, found in psutil.net_if_addrs().items():
        if any(item.address == address for item in found):
            os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
