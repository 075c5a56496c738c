"""The wordings that there are, by the name that a task's reference has under "wording"."""

from __future__ import annotations

from orchestrator.errors import DataError
from workloads.cdi.tool_wording import ToolWording
from workloads.cdi.wording import Wording

WORDINGS: dict[str, Wording] = {"tools": ToolWording()}
"""A world with words of its own adds them when it is imported."""


def wording_of(name: str) -> Wording:
    """Raises DataError naming those that there are."""
    if name not in WORDINGS:
        raise DataError(f"no wording {name!r}: there are {', '.join(sorted(WORDINGS))}. Import the module that has it.")
    return WORDINGS[name]
