"""Social reasoning by rewards on the whole trajectory (arXiv 2603.09249)."""

from __future__ import annotations

from orchestrator.config.schema import RunConfig
from workloads.base import BaseWorkload


class Config(RunConfig):
    """A run of this workload."""


class Workload(BaseWorkload):
    """Implements `workloads.base.Workload`."""
