"""`orchestrate submit`: a verb as a Ray job, with an upload that is listed, a driver that is placed on purpose, and no secrets."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import typer

from orchestrator.cluster.session import NODE_ID
from orchestrator.cluster.upload import Upload
from orchestrator.config.job import SECRETS
from orchestrator.errors import ConfigError, RunError

ANSWER_S = 10.0
"""Longest wait for the cluster to answer at all."""
STOP_S = 600
"""How long a job that is stopped may take to end its step and write a checkpoint; Ray's own bound is 3 seconds."""
RECONNECT_S, RECONNECTS = 2.0, 30
INTERRUPTED = 130
MOST_NODES = 10_000


def submit(address: str, upload: Upload, secrets: Sequence[str], detach: bool) -> int:
    """Send a verb to the cluster and follow it. Returns the verb's own exit status; 0 at once where it is detached.

    address: of the cluster's dashboard. secrets: names of environment variables that the nodes hold.
    Raises ConfigError for an upload that is too large, RunError where the cluster does not answer or take the job.
    """
    with tempfile.TemporaryDirectory(prefix="orchestrate-") as folder:
        upload.write(Path(folder))
        typer.echo(f"upload: {len(upload.files)} files, {upload.bytes / 2**20:.1f} MiB", err=True)
        client = connect(address)
        job = client.submit_job(
            # Ray starts a shell; with exec the signal of `ray job stop` reaches the program itself.
            entrypoint=f"exec python -m orchestrator {shlex.join(upload.words)}",
            runtime_env={"working_dir": folder, "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S)}},
            metadata={SECRETS: ",".join(secrets)} if secrets else {},
            entrypoint_num_cpus=0,
            entrypoint_label_selector=seat_of_driver(address),
        )
    told = (
        f"follow it with: ray job logs --address {address} --follow {job}\n"
        f"stop it with:   ray job stop --address {address} {job}"
    )
    typer.echo(f"job: {job}", err=True)
    if detach:
        typer.echo(told, err=True)
        return 0
    try:
        asyncio.run(_follow(client, job))
        return _status(client, job)
    except KeyboardInterrupt:
        typer.echo(f"\nno longer followed; the job {job} goes on.\n{told}", err=True)
        return INTERRUPTED


def connect(address: str) -> Any:
    """A client of the cluster's jobs (ray.job_submission.JobSubmissionClient). Raises ConfigError, RunError."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"--address {address}: write the address of the cluster's dashboard, as http://HOST:8265.")
    try:
        # Ray's own client waits for minutes where nobody answers.
        urlopen(f"{address}/api/version", timeout=ANSWER_S).close()
    except HTTPError:
        pass  # it answers; why not with the version, Ray's client says below
    except (OSError, HTTPException) as error:
        raise RunError(
            f"--address {address}: nothing answers there ({error}). Is the cluster up, its dashboard open to this machine? A tunnel "
            "is `kubectl port-forward service/NAME-head-svc 8265` or `ssh -L 8265:localhost:8265 HEAD`."
        ) from error
    # RAY_ADDRESS, where it is set, would win over the client's argument; this wins over both.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for module in ("dashboard_sdk", "job.sdk"):
        logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)
    try:
        return JobSubmissionClient(address)
    except AuthenticationError as error:
        raise RunError(
            f"--address {address}: the cluster refuses this machine's token ({str(error).splitlines()[0]}). Set RAY_AUTH_MODE=token, "
            "and the cluster's token in RAY_AUTH_TOKEN, or in a file named by RAY_AUTH_TOKEN_PATH (by default ~/.ray/auth_token)."
        ) from error
    # requests' exceptions are OSErrors; another server's answer is no JSON, or has no version.
    except (RuntimeError, OSError, KeyError, TypeError) as error:
        raise RunError(
            f"--address {address}: what answers there is no Ray dashboard ({type(error).__name__}: {error})."
        ) from error


def seat_of_driver(address: str) -> dict[str, str]:
    """Where the driver goes, as a label selector: to any node but the head, whose processes the whole cluster depends on.

    To the head where it is alone and has CPUs: a machine on which `ray start --head` was all. The driver itself takes no CPU:
    what a run needs fits whether or not a job brings it.
    """
    from ray.util.state import list_nodes

    nodes = [node for node in list_nodes(address=address, limit=MOST_NODES) if node.state == "ALIVE"]
    head = next(node for node in nodes if node.is_head_node)
    alone = len(nodes) == 1 and head.resources_total.get("CPU", 0) > 0
    return {NODE_ID: head.node_id if alone else f"!{head.node_id}"}


async def _follow(client: Any, job: str) -> None:
    """Print the job's log until the job ends. A connection that breaks is opened again; what was printed is not repeated."""
    from aiohttp import ClientError

    printed = failures = 0
    while True:
        seen = 0
        try:
            async for text in client.tail_job_logs(job):
                fresh = text[max(0, printed - seen) :]
                seen += len(text)
                if fresh:
                    typer.echo(fresh, nl=False)
                    printed, failures = max(printed, seen), 0
            return
        except (RuntimeError, OSError, ClientError) as error:
            failures += 1
            if failures > RECONNECTS:
                raise RunError(
                    f"the log of {job} cannot be followed any longer ({error}). The job may go on: ray job status {job}"
                ) from error
            await asyncio.sleep(RECONNECT_S)


def _status(client: Any, job: str) -> int:
    """The exit status of the job's driver. Its log may end a moment before Ray knows it."""
    failures = 0
    while True:
        try:
            info = client.get_job_info(job)
            failures = 0
            if info.status.is_terminal():
                break
        except (RuntimeError, OSError) as error:
            failures += 1
            if failures > RECONNECTS:
                raise RunError(f"how {job} ended cannot be asked ({error}): ray job status {job}") from error
        time.sleep(RECONNECT_S if failures else 0.2)
    if info.driver_exit_code is not None:
        return int(info.driver_exit_code)
    typer.echo(f"job {job}: {info.status}. {info.message or ''}", err=True)
    return INTERRUPTED if str(info.status.value) == "STOPPED" else 1
