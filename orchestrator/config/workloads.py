"""Finding a workload: by its name under `workloads/`, or by the path of one's own Python file."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from types import ModuleType

from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError

SHARED_MODULES = ("base", "lessons")
"""Modules of `workloads` that are no workload: what several share."""


@dataclass(frozen=True, slots=True)
class WorkloadSource:
    """A workload that was found. reference: what `RunConfig.workload` holds, good for finding it again on any process.

    presets: `workloads/NAME/presets`, or the folder `NAME/presets` beside one's own NAME.py. It need not exist.
    """

    name: str
    reference: str
    config: type[RunConfig]
    workload: type
    presets: Path


def workload_names() -> list[str]:
    """The workloads that come with the package."""
    import workloads

    return sorted(item.name for item in pkgutil.iter_modules(workloads.__path__) if item.name not in SHARED_MODULES)


def find_workload(reference: str) -> WorkloadSource:
    """The workload named `reference`: `rlvr`, or `path/to/file.py`.

    Raises ConfigError where there is none, or it lacks `Config` (a dataclass, subclass of RunConfig) or `Workload`.
    """
    if reference.endswith(".py"):
        path = Path(reference).expanduser().resolve()
        module, reference, name = _load_file(path), str(path), path.stem
    else:
        module, name = _load_name(reference), reference
    config, workload = getattr(module, "Config", None), getattr(module, "Workload", None)
    if not (isinstance(config, type) and issubclass(config, RunConfig) and is_dataclass(config)):
        raise ConfigError(f"{reference}: a workload needs `Config`, a dataclass that is a subclass of RunConfig.")
    if not isinstance(workload, type):
        raise ConfigError(f"{reference}: a workload needs a class `Workload` (see workloads/base.py).")
    return WorkloadSource(name, reference, config, workload, _presets_beside(module, name))


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
    # Named by content: one file is loaded once, dataclasses find their module, and an edited file is loaded anew.
    digest = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:12]
    module_name = f"workload_file_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: this file cannot be loaded as Python.")
    module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module
