"""Functions of one's own, named in settings as `path/to/file.py:function`. Imports no framework."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.own_code import load_module, shown_path
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError

FORM = "path/to/file.py:function"
SETTINGS = ("name", "gold")
"""The settings of the group `reward` that name a function."""


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """A function in a file. path: absolute, so that every process finds it."""

    path: Path
    name: str

    @classmethod
    def parse(cls, text: str) -> FunctionReference:
        """Read a reference as it is written in a setting. Raises ConfigError where it has not the form."""
        path, colon, name = text.rpartition(":")
        if text.endswith(".py"):
            raise ConfigError(f"{text!r} names no function: write {text}:FUNCTION.")
        if not colon or not path.endswith(".py") or not name.isidentifier():
            raise ConfigError(f"{text!r} is not of the form {FORM}.")
        return cls(Path(path).expanduser().resolve(), name)

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"

    @property
    def shown(self) -> str:
        """As a message names it."""
        return f"{self.path.name}:{self.name}"

    def read(self) -> bytes:
        """What the file holds. Raises ConfigError where it cannot be read."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{shown_path(self.path)}: cannot be read ({error.strerror}).") from error

    def load(self, content: bytes | None = None) -> Callable[..., Any]:
        """The function itself. content: of the file, in place of what it holds now.

        Raises ConfigError where file or function are missing, the file fails while it is loaded, or the function cannot be
        called with the episodes alone.
        """
        module = load_module(self.path, self.read() if content is None else content)
        function = getattr(module, self.name, None)
        where = f"{shown_path(self.path)}:{self.name}"
        if function is None:
            there = [name for name, value in vars(module).items() if inspect.isfunction(value)]
            nearest = difflib.get_close_matches(self.name, there, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(there) or 'none'}."
            raise ConfigError(f"{where}: the file has no such function. {hint}")
        if not callable(function):
            raise ConfigError(f"{where}: is a {type(function).__name__}, not a function.")
        if inspect.iscoroutinefunction(function):
            raise ConfigError(f"{where}: is async; write a plain function.")
        try:
            inspect.signature(function).bind(())
        except TypeError as error:
            raise ConfigError(f"{where}: must take the episodes and nothing else ({error}).") from error
        return function


def functions_of(config: RunConfig) -> Iterator[tuple[str, FunctionReference]]:
    """(key, function) of every setting that names one. Raises ConfigError, with the key, where one has not the form."""
    for name in SETTINGS:
        text = getattr(config.reward, name)
        if text is not None:
            try:
                yield f"reward.{name}", FunctionReference.parse(text)
            except ConfigError as error:
                raise ConfigError(f"reward.{name}: {error}") from error


def settle_functions(config: RunConfig) -> None:
    """Write the functions' paths into the config as absolute ones, and load each once. Raises ConfigError with the key."""
    for key, function in list(functions_of(config)):
        try:
            function.load()
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from error
        setattr(config.reward, key.removeprefix("reward."), str(function))


def files_of(config: RunConfig) -> dict[str, str]:
    """Files of one's own that decide a run's numbers, the workload's and the functions': path -> SHA-256 of the content."""
    paths = [Path(config.workload)] if config.workload.endswith(".py") else []
    paths += [function.path for _, function in functions_of(config)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
