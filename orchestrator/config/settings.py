"""How a setting is declared: a typed dataclass field that carries its documentation and bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(
    default: Any, doc: str, *, choices: tuple[str, ...] = (), low: float | None = None, high: float | None = None
) -> Any:
    """A documented field. choices, low and high (inclusive) are checked by `orchestrator.config.compose`."""
    metadata = {"doc": doc, "choices": choices, "low": low, "high": high}
    return field(default=default, metadata=metadata)


def group(cls: type, doc: str) -> Any:
    """A nested group of settings."""
    return field(default_factory=cls, metadata={"doc": doc})
