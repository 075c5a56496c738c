"""Finding a workload: by its name under `workloads/`, or by the path of one's own Python file."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from orchestrator.config.checks import RUN_NAME
from orchestrator.config.own_code import load_module
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError

SHARED_MODULES = ("base", "benchmarks", "exams", "files", "lessons", "teachers", "writers")
"""Modules of `workloads` that are no workload: what several share."""


@dataclass(frozen=True, slots=True)
class WorkloadSource:
    """A workload that was found. reference: what `RunConfig.workload` holds, good for finding it again on any process.

    settings: what a file of one's own sets below all presets. presets: `workloads/NAME/presets`, or the folder `NAME/presets`
    beside one's own NAME.py. It need not exist.
    """

    name: str
    reference: str
    config: type[RunConfig]
    workload: type
    settings: Mapping[str, Any]
    presets: Path


def workload_names() -> list[str]:
    """The workloads that come with the package. A package inside of a workload is one too, as `rlvr.judge` is."""
    import workloads

    names = []
    for item in pkgutil.iter_modules(workloads.__path__):
        if item.name in SHARED_MODULES:
            continue
        names.append(item.name)
        inside = pkgutil.iter_modules([str(Path(place, item.name)) for place in workloads.__path__])
        names += [f"{item.name}.{part.name}" for part in inside if part.ispkg]
    return sorted(names)


def find_workload(reference: str) -> WorkloadSource:
    """The workload named `reference`: `rlvr`, or `path/to/file.py`.

    It has a class `Workload` and may have `Config`, a dataclass that is a subclass of RunConfig. A file of one's own may also
    have `SETTINGS`, its own defaults by key, and functions `reward` and `gold`, which then are what these settings name.
    Raises ConfigError where there is no such workload, or it has not this form.
    """
    settings: dict[str, Any] = {}
    if reference.endswith(".py"):
        path = Path(reference).expanduser().resolve()
        module, reference, name = _load_file(path), str(path), path.stem
        settings = _settings_of(module, path)
    else:
        module, name = _load_name(reference), reference
    config, workload = getattr(module, "Config", RunConfig), getattr(module, "Workload", None)
    if not (isinstance(config, type) and issubclass(config, RunConfig) and is_dataclass(config)):
        raise ConfigError(f"{reference}: `Config` must be a dataclass that is a subclass of RunConfig.")
    if not isinstance(workload, type):
        raise ConfigError(f"{reference}: a workload needs a class `Workload` (see workloads/base.py).")
    return WorkloadSource(name, reference, config, workload, settings, _presets_beside(module, name))


def tables_module(name: str) -> ModuleType | None:
    """The tables.py of a workload that is a folder; None where it has none. Raises ConfigError where there is no such workload."""
    package = _load_name(name)
    places = [Path(place) for place in getattr(package, "__path__", ())]
    if not any((place / "tables.py").is_file() for place in places):
        return None
    return importlib.import_module(f"{package.__name__}.tables")


def _settings_of(module: ModuleType, path: Path) -> dict[str, Any]:
    """The defaults that a file brings: its functions as reward and gold, and above them its SETTINGS."""
    settings = getattr(module, "SETTINGS", {})
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{path}: SETTINGS is a {type(settings).__name__}; it must map keys to values.")
    functions = {"reward.name": "reward", "reward.gold": "gold"}
    named = {key: f"{path}:{name}" for key, name in functions.items() if callable(getattr(module, name, None))}
    return named | dict(settings)


def _presets_beside(module: ModuleType, name: str) -> Path:
    location = Path(str(module.__file__)).parent
    return (location if hasattr(module, "__path__") else location / name) / "presets"


def _load_name(name: str) -> ModuleType:
    names = workload_names()
    if name not in names:
        nearest = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(names) or 'none'}."
        raise ConfigError(f"No workload is named {name!r}. {hint} One's own is given as a .py or a .yaml file.")
    return importlib.import_module(f"workloads.{name}")


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such workload file.")
    if not RUN_NAME.fullmatch(path.stem):
        raise ConfigError(f"{path}: its runs are kept in a folder of its name; use letters, digits and . _ + = , -.")
    return load_module(path)
