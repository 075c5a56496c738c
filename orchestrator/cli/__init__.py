"""The verbs of `orchestrate`: each parses, calls one function and prints. What is heavy is imported inside its verb."""

from __future__ import annotations

# In the order in which --help lists their verbs.
from orchestrator.cli import begin, evaluating, judging, looking, mapping, sending, serving, sharing, tables
from orchestrator.cli.app import app

__all__ = [
    "app",
    "begin",
    "evaluating",
    "judging",
    "looking",
    "main",
    "mapping",
    "sending",
    "serving",
    "sharing",
    "tables",
]


def main() -> None:
    """The console script."""
    app()
