"""What this process knows of the Ray job that it drives; outside a job nothing of it applies. Imports no framework."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError

SECRETS = "orchestrate_secrets"
"""The job's metadata that names, with commas, the environment variables that its driver needs; never their values."""


def job() -> dict[str, Any]:
    """What Ray hands the driver of a job: its `runtime_env` and its `metadata`; {} outside one."""
    found: dict[str, Any] = json.loads(os.environ.get("RAY_JOB_CONFIG_JSON_ENV_VAR") or "{}")
    return found


def variables() -> set[str]:
    """Environment variables that the job was given, which Ray refuses to have set again."""
    return set((job().get("runtime_env") or {}).get("env_vars") or {})


def uploaded() -> bool:
    """Whether the working folder is the job's upload, which is removed with it."""
    return bool((job().get("runtime_env") or {}).get("working_dir"))


def lasting(folder: Path) -> Path:
    """A folder of runs that outlives the job: one below the home folder in place of one in the upload."""
    return Path.home() / folder if uploaded() and not folder.expanduser().is_absolute() else folder


def check_secrets() -> None:
    """Raises ConfigError where the job was told of a secret that this node's environment does not hold."""
    names = [name for name in ((job().get("metadata") or {}).get(SECRETS) or "").split(",") if name]
    unset = [name for name in names if not os.environ.get(name)]
    if unset:
        raise ConfigError(
            f"{' and '.join(unset)}: not set in the environment of the cluster's nodes, where the job looks for it. Set it there "
            "before Ray starts: a Kubernetes Secret, or `export` before `ray start` (clusters/README.md)."
        )
