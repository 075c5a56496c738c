"""What must be quick imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.config.workloads import workload_names

HEAVY = ("torch", "ray", "vllm", "transformers", "deepspeed", "wandb", "pyarrow", "numpy", "scipy", "matplotlib")


def heavy_after(code: str, names: tuple[str, ...] = HEAVY) -> list[str]:
    script = f"{code}\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.splitlines()[-1].split() if done.stdout.strip() else []


@pytest.mark.parametrize(
    "module",
    [
        "orchestrator.values",
        "orchestrator.config.compose",
        "orchestrator.config.explain",
        "orchestrator.config.references",
        "orchestrator.config.shapes",
        "orchestrator.cluster.cost",
        "orchestrator.cluster.memory",
        "orchestrator.cluster.needs",
        "orchestrator.cluster.plan",
        "orchestrator.cluster.preflight",
        "orchestrator.fleets.serving.access",
        "orchestrator.sweep.reading",
        "orchestrator.sweep.dry_run",
        "orchestrator.tables",
        "workloads.base",
        "workloads.rlvr.tables",
        *(f"workloads.{name}" for name in workload_names()),
    ],
)
def test_config_and_planning_import_no_framework(module: str) -> None:
    assert heavy_after(f"import {module}") == []


def test_the_command_line_alone_does_not_even_import_omegaconf() -> None:
    assert heavy_after("import orchestrator.cli", (*HEAVY, "omegaconf", "yaml", "rich")) == []


@pytest.mark.parametrize("module", ["source", "export", "bundle", "manifest"])
def test_sharing_needs_no_framework(module: str) -> None:
    frameworks = ("torch", "ray", "vllm", "transformers", "deepspeed", "wandb")
    assert heavy_after(f"import orchestrator.sharing.{module}", frameworks) == []


def test_a_map_by_words_needs_no_framework() -> None:
    frameworks = ("torch", "ray", "vllm", "transformers", "deepspeed", "wandb")
    assert heavy_after("import orchestrator.maps.drawing, orchestrator.maps.written", frameworks) == []
