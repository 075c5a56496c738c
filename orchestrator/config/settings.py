"""How a setting is declared: a typed dataclass field that carries its documentation and bounds."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    file: bool = False,
    indifferent: bool = False,
) -> Any:
    """A documented field. choices, low and high (inclusive) are checked by `orchestrator.config.compose`.

    file: its text is the path of a file (or folder) that decides the run's numbers, or `hf:…`. It is kept as an absolute path, and a
    run is not resumed with another file content. indifferent: it changes no result, and is no part of a run's key (`sweep.keys`).
    """
    metadata = {
        "doc": doc, "choices": choices, "low": low, "high": high, "file": file, "indifferent": indifferent
    }  # fmt: skip
    return field(default=default, metadata=metadata)


def group(cls: type, doc: str, *, indifferent: bool = False) -> Any:
    """A nested group of settings. indifferent: all of them change no result."""
    return field(default_factory=cls, metadata={"doc": doc, "indifferent": indifferent})
