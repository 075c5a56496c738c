"""The folder of one service: what it serves, how it stands, and what it is asked to do.

runs/services/<name>/
    state.json     how it stands, written by the process that owns it and read by everyone
    wanted.json    a release that the owner is to put in the place of the one that is served
    stop           asks the owner to end
    adapters/      LoRA adapters that are served, as peft's folders
    log.txt        what it said, of all its starts
    output.txt     what a detached owner wrote on its terminal
"""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.config.checks import RUN_NAME
from orchestrator.errors import ConfigError
from orchestrator.records.folder import FORMAT, is_taken, read_json, write_json

PLACE = "services"
STARTING, READY, UNHEALTHY, ROLLING, FAILED, ENDED = "starting", "ready", "unhealthy", "upgrading", "failed", "ended"


@dataclass(frozen=True, slots=True)
class State:
    """status: one of the six above. url: where it answers. serves: the reference of what is served, "" before anything is, and kind its
    kind; parity: how it compares with its trainer, in words. reason: of the last failure. answered: the last request that was dealt
    with. pid: of the owner."""

    status: str
    url: str
    pid: int
    serves: str = ""
    kind: str = ""
    parity: str = ""
    reason: str = ""
    answered: str = ""
    since: float = 0.0
    models: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class ServiceFolder:
    """Paths inside a service's folder. Making one touches no disk."""

    path: Path

    @classmethod
    def of(cls, storage: Path, name: str) -> ServiceFolder:
        """The folder of a service, there or not. Raises ConfigError for a name that is not one path component."""
        if not RUN_NAME.fullmatch(name):
            raise ConfigError(f"{name!r} names no service: use letters, digits and . _ + = , -")
        return cls((storage / PLACE / name).resolve())

    @property
    def name(self) -> str:
        return self.path.name

    def is_owned(self) -> bool:
        """Whether a process keeps the service up."""
        return is_taken(self.path)

    def read(self) -> State | None:
        """How it stands; None where it was never started. An owner that is gone did not say so."""
        if not self.state.is_file():
            return None
        values = read_json(self.state)
        if values.pop("format") > FORMAT:
            raise ConfigError(f"{self.state}: written by a newer version; update orchestrator.")
        return State(**values | {"models": tuple(values["models"])})

    def in_words(self) -> tuple[str, ...] | None:
        """(name, status, url, what it serves, parity, last failure); None where it was never started."""
        state = self.read()
        if state is None:
            return None
        gone = state.status not in (FAILED, ENDED) and not self.is_owned()
        return self.name, "broken off" if gone else state.status, state.url, state.serves, state.parity, state.reason

    def write(self, state: State) -> None:
        """Replace the state, whole."""
        write_json(self.state, asdict(state) | {"format": FORMAT})

    def ask(self, release: dict[str, Any]) -> str:
        """Have the owner serve another release. Returns the name of the request, which the state will have as answered."""
        request = uuid.uuid4().hex
        write_json(self.wanted, {"request": request, "release": release})
        return request

    def asked(self) -> tuple[str, dict[str, Any]] | None:
        """The request that waits for the owner: its name and the release."""
        if not self.wanted.is_file():
            return None
        values = read_json(self.wanted)
        return values["request"], values["release"]

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def wanted(self) -> Path:
        return self.path / "wanted.json"

    @property
    def stop(self) -> Path:
        return self.path / "stop"

    @property
    def adapters(self) -> Path:
        return self.path / "adapters"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def output(self) -> Path:
        return self.path / "output.txt"


def services_in(storage: Path) -> list[ServiceFolder]:
    """The services of a storage, by name."""
    return [ServiceFolder(path.parent.resolve()) for path in sorted((storage / PLACE).glob("*/state.json"))]
