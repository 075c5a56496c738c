"""What settings name of one's own: functions, as `path/to/file.py:function`, and files. Imports no framework."""

from __future__ import annotations

import ast
import difflib
import hashlib
import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.job import lasting
from orchestrator.config.keys import files_named, set_at
from orchestrator.config.own_code import described, load_module, shown_path
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError

FORM = "path/to/file.py:function"
SETTINGS = ("name", "gold")
"""The settings of the group `reward` that name a function."""
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


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

    def look(self) -> None:
        """Read what the file defines without running it: it may take long to load, or never end.

        Raises ConfigError where the file cannot be read, is not Python, or defines and imports nothing of this name.
        """
        content = self.read()
        try:
            tree = ast.parse(content, str(self.path))
        except (SyntaxError, ValueError) as error:  # ValueError: a null byte
            told = described(error, self.path.parent)
            raise ConfigError(f"{shown_path(self.path)} cannot be loaded: {told}.") from error
        defined = dict(_defined(tree.body))
        if "*" in defined:  # from MODULE import *
            return
        if self.name not in defined:
            raise self._missing([name for name, node in defined.items() if isinstance(node, _FUNCTIONS)])
        node, where = defined[self.name], f"{shown_path(self.path)}:{self.name}"
        if isinstance(node, ast.Constant):
            raise ConfigError(f"{where}: is a {type(node.value).__name__}, not a function.")
        if isinstance(node, _FUNCTIONS) and not node.decorator_list:
            self._look_at(node, where)

    def _look_at(self, node: ast.FunctionDef | ast.AsyncFunctionDef, where: str) -> None:
        if isinstance(node, ast.AsyncFunctionDef):
            raise ConfigError(f"{where}: is async; write a plain function.")
        taken = node.args
        positional = len(taken.posonlyargs) + len(taken.args)
        needed = [item.arg for item in (*taken.posonlyargs, *taken.args)][1 : positional - len(taken.defaults)]
        needed += [item.arg for item, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if not default]
        if needed or not (positional or taken.vararg):
            told = f"it also wants {', '.join(needed)}" if needed else "it takes nothing"
            raise ConfigError(f"{where}: must take the episodes and nothing else ({told}).")

    def _missing(self, there: Sequence[str]) -> ConfigError:
        nearest = difflib.get_close_matches(self.name, there, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(there) or 'none'}."
        return ConfigError(f"{shown_path(self.path)}:{self.name}: the file has no such function. {hint}")

    def load(self, content: bytes | None = None) -> Callable[..., Any]:
        """The function itself. content: of the file, in place of what it holds now.

        Raises ConfigError where file or function are missing, the file fails while it is loaded, or the function cannot be
        called with the episodes alone.
        """
        module = load_module(self.path, self.read() if content is None else content)
        function = getattr(module, self.name, None)
        where = f"{shown_path(self.path)}:{self.name}"
        if function is None:
            raise self._missing([name for name, value in vars(module).items() if inspect.isfunction(value)])
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


def settle(config: RunConfig) -> None:
    """Write the paths of functions and files into the config as absolute ones, and look at each function's file, which is run in a
    process of its own alone. In a Ray job the storage becomes one that outlives it. Raises ConfigError with the key.
    """
    for key, function in list(functions_of(config)):
        try:
            function.look()
        except ConfigError as error:
            raise ConfigError(f"{key}: {error}") from error
        setattr(config.reward, key.removeprefix("reward."), str(function))
    for key, path in files_named(config).items():
        # Links stay: what they point to may have a name without the extension by which a table is read.
        set_at(config, key, os.path.abspath(path.expanduser()))
    if against := config.contamination.against:
        config.contamination.against = ",".join(_target(word.strip()) for word in against.split(","))
    config.storage = str(lasting(Path(config.storage)))


def _target(word: str) -> str:
    """A workload's name as it is, a file absolute."""
    return os.path.abspath(os.path.expanduser(word)) if word.endswith((".py", ".yaml", ".yml")) else word


def files_of(config: RunConfig) -> dict[str, str]:
    """Files of one's own that decide a run's numbers, of the workload, the functions and the settings: path -> SHA-256 of the
    content. Folders are left out."""
    paths = [Path(config.workload)] if config.workload.endswith(".py") else []
    paths += [function.path for _, function in functions_of(config)]
    paths += [path for path in files_named(config).values() if path.is_file()]
    return {str(path): _digest(path) for path in paths}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _defined(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """(name, what it stands for) of all that a module's statements bind, also under if, try, with and loops."""
    for statement in body:
        if isinstance(statement, (*_FUNCTIONS, ast.ClassDef)):
            yield statement.name, statement
            continue
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            yield from ((item.asname or item.name.partition(".")[0], statement) for item in statement.names)
            continue
        for part in ast.iter_child_nodes(statement):
            if isinstance(part, ast.stmt):
                yield from _defined([part])
            elif isinstance(part, (ast.ExceptHandler, ast.match_case)):
                yield from _defined(part.body)
            else:
                names = (node for node in ast.walk(part) if isinstance(node, ast.Name))
                value = getattr(statement, "value", None) or statement
                yield from ((node.id, value) for node in names if isinstance(node.ctx, ast.Store))
