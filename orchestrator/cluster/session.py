"""Connecting to Ray: the cluster that is named, or a Ray of our own on this machine."""

from __future__ import annotations

import os
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
OBJECT_STORE_BYTES = 512 * 2**20


@contextmanager
def connected(cluster: ClusterConfig) -> Iterator[Any]:
    """The `ray` module, connected. A Ray that was started here ends with the block; one that was there already stays."""
    limits = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(cluster.placement_deadline_s)}
    os.environ.update({key: value for key, value in (ENVIRONMENT | limits).items() if key not in os.environ})
    import ray

    if ray.is_initialized():
        yield ray
        return
    address = cluster.address or os.environ.get("RAY_ADDRESS")
    # Ray refuses a variable that the job sets too.
    ours = {key: value for key, value in (ENVIRONMENT | WORKER_ENVIRONMENT).items() if key not in variables()}
    runtime = {"env_vars": ours}
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
