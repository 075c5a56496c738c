"""A configuration of the simulator: three agents, what may be shared about whom, and where it would leak."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of one kind about the subject."""

    data_type: str
    content: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agent:
    """One of the three agents."""

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
    """A configuration."""

    id: str
    subject: Agent
    sender: Agent
    recipient: Agent
    principle: str
    leak_application: str
    leak_function: str
    original_name: str = ""
    original_tasks: tuple[tuple[str, str], ...] = ()
    available_applications: tuple[str, ...] = ()

    @property
    def sensitive(self) -> tuple[str, ...]:
        """The subject's facts that may not be shared."""
        assert isinstance(self.subject.sensitive, Facts)
        return self.subject.sensitive.content

    @property
    def shareable(self) -> tuple[str, ...]:
        """The subject's facts that may be shared."""
        return self.subject.shareable.content if self.subject.shareable else ()

    @classmethod
    def from_json(cls, values: Mapping[str, Any], id: str) -> Scenario:
        """From the published form."""
        found = values["simulation_config"]
        leak = found["how_to_check_leakage"]
        agents = [_agent(found[f"data_{role}_agent"]) for role in ("subject", "sender", "recipient")]
        tasks = tuple(values["original_tasks"].items())
        return cls(id, *agents, values["principle"], leak["application"], leak["function"], values["original_name"], tasks,
                   tuple(values["available_applications"]))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The published form."""
        agents = {"subject": self.subject, "sender": self.sender, "recipient": self.recipient}
        return {
            "simulation_config": {f"data_{role}_agent": _values(agent) for role, agent in agents.items()}
            | {"how_to_check_leakage": {"application": self.leak_application, "function": self.leak_function}},
            "original_name": self.original_name,
            "original_tasks": dict(self.original_tasks),
            "principle": self.principle,
            "available_applications": list(self.available_applications),
        }


def _values(agent: Agent) -> dict[str, Any]:
    def facts(value: Facts | str | None) -> Any:
        return {"data_type": value.data_type, "content": list(value.content)} if isinstance(value, Facts) else value

    return {
        "concrete_name": agent.name,
        "social_background": agent.background,
        "public_profile": agent.profile,
        "transfer_data_application": agent.application,
        "sensitive_data": facts(agent.sensitive),
        "shareable_data": facts(agent.shareable),
        "task": agent.task,
        "requirement": agent.requirement,
    }


def _agent(values: Mapping[str, Any]) -> Agent:
    sensitive, shareable = (_facts(values.get(name)) for name in ("sensitive_data", "shareable_data"))
    application = values.get("transfer_data_application") or values.get("retrieve_data_application") or ""
    return Agent(
        values["concrete_name"], values["social_background"], values["public_profile"], application, sensitive or "",
        shareable if isinstance(shareable, Facts) else None, values["task"], values.get("requirement", ""),
    )  # fmt: skip


def _facts(values: Any) -> Facts | str | None:
    return Facts(values["data_type"], tuple(values["content"])) if isinstance(values, Mapping) else values


def user_id(name: str) -> str:
    """Of an agent in every app."""
    return name.lower().replace(" ", "_")


def address(name: str) -> str:
    """Of an agent in Gmail."""
    return f"{user_id(name)}@gmail.com"
