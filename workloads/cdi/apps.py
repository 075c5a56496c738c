"""Simulated apps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Activity:
    """An entry of the activity log: what a user did in an app."""

    index: int
    app: str
    action: str
    user_id: str
    involved: tuple[str, ...]
    details: Mapping[str, Any]
