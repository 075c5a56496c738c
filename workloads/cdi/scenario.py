"""A scenario: three people, what one of them has told another, and what a third one wants to hear of it.

The data's subject sends all to the sender; the recipient asks the sender for it. Some facts may be passed on to the recipient and
some may not. Read from and written to the published JSON, key order included (SALT-NLP/contextual_privacy_defense at 02d3931,
`configs/`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import DataError

SUBJECT, SENDER, RECIPIENT = ROLES = ("subject", "sender", "recipient")

_COMMON = {"concrete_name": "name", "social_background": "background", "public_profile": "profile"}
_KEYS: dict[str, dict[str, str]] = {
    SUBJECT: {
        **_COMMON,
        "transfer_data_application": "application",
        "sensitive_data": "sensitive",
        "shareable_data": "shareable",
        "task": "task",
    },
    SENDER: {
        **_COMMON,
        "retrieve_data_application": "application",
        "task": "task",
        "requirement": "requirement",
        "sensitive_data": "sensitive",
    },
    RECIPIENT: {**_COMMON, "task": "task", "requirement": "requirement", "sensitive_data": "sensitive"},
}
"""Published keys of an agent in their order, and the fields of `Agent` that hold them."""
_AGENT = {role: f"data_{role}_agent" for role in ROLES}
_TOP = ("simulation_config", "original_name", "original_tasks", "principle", "available_applications")
_INNER = (*_AGENT.values(), "how_to_check_leakage")


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to tell of one kind, a sentence a fact."""

    data_type: str
    content: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Agent:
    """One of the three. background: in the second person, for itself; profile: in the third, for the others.

    application: where the subject sends, or the sender finds, the facts; none of the recipient. sensitive: the subject's facts that
    must not go on; of the others a sentence on what they have. requirement: none of the subject.
    """

    name: str
    background: str
    profile: str
    task: str
    application: str | None = None
    sensitive: Facts | str = ""
    shareable: Facts | None = None
    requirement: str = ""

    @property
    def user(self) -> str:
        """Its id in every application."""
        return user_id(self.name)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One published configuration. Ids are those of the files (`example_16`).

    principle: the norm in words. original_name: of the PrivacyLens item. original_tasks: of the agents, by key, before attacks were
    searched. leak_application, leak_function: the action of the sender's by which facts reach the recipient ("how_to_check_leakage").
    """

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
        """The subject's facts that must not be passed on."""
        return _content(self.subject.sensitive)

    @property
    def shareable(self) -> tuple[str, ...]:
        """The subject's facts that may be."""
        return _content(self.subject.shareable)

    def agent(self, role: str) -> Agent:
        """By its role."""
        return {SUBJECT: self.subject, SENDER: self.sender, RECIPIENT: self.recipient}[role]

    def attacked(self, task: str) -> Scenario:
        """The same with another task of the recipient's."""
        return replace(self, recipient=replace(self.recipient, task=task))

    @classmethod
    def from_json(cls, values: Any, id: str) -> Scenario:
        """The inverse of `to_json`. Raises DataError naming the key that is missing, of another kind, or not known."""
        top = _object(values, _TOP, id)
        inner = _object(top["simulation_config"], _INNER, f"{id}.simulation_config")
        leak = _object(inner["how_to_check_leakage"], ("application", "function"), f"{id}.how_to_check_leakage")
        agents = {role: _agent(inner[key], role, f"{id}.{key}") for role, key in _AGENT.items()}
        tasks = top["original_tasks"]
        if not isinstance(tasks, dict):
            raise DataError(f"{id}.original_tasks is a {type(tasks).__name__}: it must be an object of texts.")
        return cls(
            id=id,
            **agents,
            principle=_text(top["principle"], f"{id}.principle"),
            original_name=_text(top["original_name"], f"{id}.original_name"),
            original_tasks={key: _text(task, f"{id}.original_tasks.{key}") for key, task in tasks.items()},
            available_applications=_texts(top["available_applications"], f"{id}.available_applications"),
            leak_application=_text(leak["application"], f"{id}.how_to_check_leakage.application"),
            leak_function=_text(leak["function"], f"{id}.how_to_check_leakage.function"),
        )

    def to_json(self) -> dict[str, Any]:
        """The published form, in the published order of keys."""
        agents: dict[str, Any] = {key: _written(self.agent(role), role) for role, key in _AGENT.items()}
        leak = {"application": self.leak_application, "function": self.leak_function}
        return {
            "simulation_config": {**agents, "how_to_check_leakage": leak},
            "original_name": self.original_name,
            "original_tasks": dict(self.original_tasks),
            "principle": self.principle,
            "available_applications": list(self.available_applications),
        }


def user_id(name: str) -> str:
    """Id of a person in every application: "Jane Thompson" -> "jane_thompson"."""
    return name.lower().replace(" ", "_")


def address(name: str) -> str:
    """A person's address in Gmail."""
    return f"{user_id(name)}@gmail.com"


def read_scenarios(folder: Path) -> tuple[Scenario, ...]:
    """The scenarios to be played of a folder of JSON files, by the number in their names. Raises DataError where there is none, one is
    broken, or one has no facts of a kind (the predecessor's have no shareable ones): nothing could be measured by them."""
    paths = sorted(folder.glob("*.json"), key=lambda path: (len(path.stem), path.stem))
    if not paths:
        raise DataError(f"no scenarios (*.json) in {folder}: name the folder of the published configurations.")
    scenarios = tuple(map(read_scenario, paths))
    for path, scenario in zip(paths, scenarios, strict=True):
        for kind in ("shareable", "sensitive"):
            if not getattr(scenario, kind):
                raise DataError(
                    f"{path}: its subject has no {kind} facts, by which a simulation is measured: leave it out."
                )
    return scenarios


def read_scenario(path: Path) -> Scenario:
    """One file. Raises DataError that names it."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON file that can be read ({error}).") from None
    try:
        return Scenario.from_json(values, path.stem)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def as_file(scenario: Scenario) -> str:
    """The text of the published file, byte for byte."""
    return json.dumps(scenario.to_json(), indent=4)


def _agent(values: Any, role: str, where: str) -> Agent:
    keys = _KEYS[role]
    # The predecessor's configurations have no shareable facts.
    optional = ("shareable_data",) if role == SUBJECT else ()
    found = _object(values, tuple(keys), where, optional)
    read: dict[str, Any] = {
        keys[key]: _facts(value, f"{where}.{key}") if isinstance(value, dict) else _text(value, f"{where}.{key}")
        for key, value in found.items()
    }
    if role == SUBJECT and not all(isinstance(read.get(name), Facts | None) for name in ("sensitive", "shareable")):
        raise DataError(f"{where}: sensitive_data and shareable_data must have a data_type and a content.")
    return Agent(**read)


def _written(agent: Agent, role: str) -> dict[str, Any]:
    values = ((key, getattr(agent, name)) for key, name in _KEYS[role].items())
    return {
        key: {"data_type": value.data_type, "content": list(value.content)} if isinstance(value, Facts) else value
        for key, value in values
        if value is not None
    }


def _facts(values: Any, where: str) -> Facts:
    found = _object(values, ("data_type", "content"), where)
    return Facts(_text(found["data_type"], f"{where}.data_type"), _texts(found["content"], f"{where}.content"))


def _content(facts: Facts | str | None) -> tuple[str, ...]:
    return facts.content if isinstance(facts, Facts) else ()


def _object(values: Any, keys: tuple[str, ...], where: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise DataError(f"{where} is a {type(values).__name__}: it must be an object with {', '.join(keys)}.")
    wrong = [*_told("lacks", [key for key in keys if key not in values and key not in optional])]
    wrong += _told("has, and nothing is known of,", [key for key in values if key not in keys])
    if wrong:
        raise DataError(f"{where} {' and '.join(wrong)}: mend the file, or leave it out.")
    return values


def _told(what: str, keys: list[str]) -> Iterator[str]:
    if keys:
        yield f"{what} {', '.join(map(repr, keys))}"


def _texts(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list):
        raise DataError(f"{where} is a {type(values).__name__}: it must be a list of texts.")
    return tuple(_text(value, f"{where}[{number}]") for number, value in enumerate(values))


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where} is {value!r:.60}: it must be a text.")
    return value
