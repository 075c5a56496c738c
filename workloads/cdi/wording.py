"""How a simulation is put into words for the models that play it, and how what they write is read.

The loop (`simulation`) and the defences know no sentence: all of them are a `Wording`'s. `ToolWording` is the published form, a
JSON call of a tool a turn; a world with a vocabulary of its own brings its own. A stored episode names its wording (`wordings`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.values import Message
from workloads.cdi.memory import Memory
from workloads.cdi.scenario import Scenario
from workloads.cdi.tools import Action, Tool


class Wording(Protocol):
    """Pure functions from what happens to words, and back. Keeps nothing."""

    @property
    def between(self) -> str:
        """What stands between two user messages in a row, which are told as one."""
        ...

    @property
    def privacy(self) -> str:
        """What the defence of prompting appends to the sender's task where nothing else is given."""
        ...

    def background(self, scenario: Scenario, role: str) -> str:
        """An agent's memory before anything happens: who it is, whom it knows and how they are reached, its own data."""
        ...

    def system(self, goal: str, background: str, tools: Sequence[Tool]) -> str:
        """The system prompt of an agent."""
        ...

    def trigger(self, news: Mapping[str, int], first: bool, direction: str) -> str:
        """What begins a cycle. news: what has come in, by application; none: nothing has for a while. direction: a strategy that
        the agent is to follow in this cycle, mostly empty."""
        ...

    def schema(self, tools: Sequence[Tool]) -> Mapping[str, Any] | str:
        """What a call of one of the tools looks like, as `Call.schema`: a JSON schema or a grammar."""
        ...

    def read(self, text: str, tools: Sequence[Tool]) -> Action:
        """The call that a model wrote. Raises InvalidActionError."""
        ...

    def written(self, action: Action) -> str:
        """The call as it stands in the agent's own history."""
        ...

    def result(self, action: Action, result: Mapping[str, Any]) -> str:
        """What the agent is told of its call."""
        ...

    def disclosure(self, scenario: Scenario) -> Action:
        """What a subject that is played by no model sends to the sender: all of its facts."""
        ...

    def request(self, scenario: Scenario, direction: str, cycle: int) -> Action:
        """What a recipient that is played by no model sends to the sender in a cycle, from 0: it asks for all facts."""
        ...

    def instructor(self, memory: Memory) -> tuple[Message, ...]:
        """The prompt of the CDI instructor."""
        ...

    def instruction(self, text: str) -> str:
        """The instruction in what an instructor wrote; empty where there is none."""
        ...

    def instructed(self, instruction: str) -> str:
        """How the sender is told it."""
        ...

    def guard(self, memory: Memory, pending: Action) -> tuple[Message, ...]:
        """The prompt of the guard."""
        ...

    def blocks(self, text: str) -> bool:
        """Whether a guard's answer blocks; what cannot be read does not."""
        ...

    def blocked(self, action: Action) -> dict[str, Any]:
        """The result of a call that was blocked."""
        ...
