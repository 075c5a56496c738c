"""The defences: four ways to step into one loop of the sender's.

    prompting   before the loop, in the task
    guarding    before a send happens, at most k blocks a cycle
    cdi         after a read that found something, an instruction: a message of the user's
    none        nowhere

Which role watches (guard, instructor) is a part of the defence: the policy where it is trained. As
SALT-NLP/contextual_privacy_defense at 02d3931.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.errors import DataError
from orchestrator.values import POLICY, Message
from workloads.cdi.memory import Memory
from workloads.cdi.tools import Action, Tool
from workloads.cdi.wording import Wording

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask:
    """A role is to speak; the answer is its text. tools: those of which it must call one; none: it writes freely."""

    role: str
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


Consulting = Generator[Ask, str, T]
"""Asks whoever watches, if need be, and returns what came of it."""


@dataclass(frozen=True, slots=True)
class Defence:
    """None: the base of all. role: who watches."""

    role: str = POLICY
    name = "none"

    def goal(self, task: str, wording: Wording) -> str:
        """The sender's task."""
        return task

    def before_send(self, memory: Memory, pending: Action, blocked: int, wording: Wording) -> Consulting[bool]:
        """Whether a send is blocked. blocked: how many were in this cycle."""
        yield from ()
        return False

    def after_read(self, memory: Memory, fallback: str, wording: Wording) -> Consulting[str]:
        """An instruction for the sender's next step; empty: none."""
        yield from ()
        return ""

    def to_json(self) -> dict[str, Any]:
        """The inverse of `defence_of`."""
        return {"name": self.name, **{field: getattr(self, field) for field in self.__dataclass_fields__}}


@dataclass(frozen=True, slots=True)
class Prompting(Defence):
    """text: what is appended to the task; empty: the wording's own."""

    text: str = ""
    name = "prompting"

    def goal(self, task: str, wording: Wording) -> str:
        """The task and the text."""
        return f"{task} {self.text or wording.privacy}"


@dataclass(frozen=True, slots=True)
class Guarding(Defence):
    """blocks: most blocks a cycle, k; after them everything passes, and the guard is not asked. Which k the paper used is not known."""

    blocks: int = 1
    name = "guarding"

    def before_send(self, memory: Memory, pending: Action, blocked: int, wording: Wording) -> Consulting[bool]:
        """What the guard says; an answer that cannot be read does not block."""
        if blocked >= self.blocks:
            return False
        return wording.blocks((yield Ask(self.role, wording.guard(memory.without_failures(), pending))))


@dataclass(frozen=True, slots=True)
class Instructing(Defence):
    """The contextualised defence."""

    name = "cdi"

    def after_read(self, memory: Memory, fallback: str, wording: Wording) -> Consulting[str]:
        """What the instructor says; the sender's usual task where it cannot be read."""
        return wording.instruction((yield Ask(self.role, wording.instructor(memory)))) or fallback


DEFENCES: Mapping[str, type[Defence]] = {kind.name: kind for kind in (Defence, Prompting, Guarding, Instructing)}


def defence_of(values: Mapping[str, Any] | str) -> Defence:
    """From {"name": …, …} or a name alone. Raises DataError naming what is not known."""
    named = {"name": values} if isinstance(values, str) else dict(values)
    kind = DEFENCES.get(str(named.pop("name", "")))
    if kind is None:
        raise DataError(f"no defence {values!r}: there are {', '.join(DEFENCES)}.")
    unknown = named.keys() - kind.__dataclass_fields__.keys()
    if unknown:
        raise DataError(f"the defence {kind.name} has no {', '.join(sorted(unknown))}.")
    blocks = named.get("blocks", 0)
    if not isinstance(blocks, int) or blocks < 0:
        raise DataError(f"blocks={blocks!r} of the defence {kind.name}: it must be a whole number from 0.")
    return kind(**named)
