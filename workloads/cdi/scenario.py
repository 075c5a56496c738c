"""The published config of a simulation, read and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    data_type: str
    content: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agent:
    name: str
    background: str
    profile: str
    application: str
    sensitive: Facts | str
    shareable: Facts | None
    task: str
    requirement: str


@dataclass(frozen=True, slots=True)
class Scenario:
    id: str
    subject: Agent
    sender: Agent
    recipient: Agent
    principle: str
    original_name: str
    original_tasks: Mapping[str, str]
    available_applications: tuple[str, ...]
    leak_application: str
    leak_function: str

    @property
    def sensitive(self) -> tuple[str, ...]:
        assert isinstance(self.subject.sensitive, Facts)
        return self.subject.sensitive.content

    @property
    def shareable(self) -> tuple[str, ...]:
        assert self.subject.shareable is not None
        return self.subject.shareable.content
