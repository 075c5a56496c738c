"""From layers of settings to one checked config: typed defaults, the workload's presets, one's own YAML, `key=value`.

What is wrong is reported at once as a ConfigError that names the key, the nearest valid key and where it was set.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrator.config.checks import check, missing, out_of_bounds
from orchestrator.config.functions import settle
from orchestrator.config.keys import Key, keys_of, values_of
from orchestrator.config.layers import COMMAND_LINE, Layer, layer_of, presets, read_overrides, read_yaml
from orchestrator.config.own_code import own_code, shown_path
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import WorkloadSource, find_workload
from orchestrator.errors import ConfigError

__all__ = [
    "Composed",
    "ConfigError",
    "Difference",
    "compose",
    "differences",
    "from_values",
    "to_values",
    "trace",
    "vary",
]

_NEXT = "\n  - "


@dataclass(frozen=True, slots=True)
class Composed:
    """A checked config with its history. origins: for each dotted key that a layer set, the file or "command line"."""

    config: RunConfig
    origins: Mapping[str, str]
    source: WorkloadSource


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not at its typed default, and what set it."""

    key: str
    value: Any
    default: Any
    origin: str


def compose(target: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The checked config of a run, an instance of the workload's own `Config`.

    target: a workload's name, one's own .py workload, or one's own YAML with a key `workload`. overrides: `key=value`.
    Raises ConfigError.
    """
    return trace(target, overrides).config


def trace(
    target: str, overrides: Sequence[str] = (), layers: Sequence[Layer] = (), elsewhere: bool = False
) -> Composed:
    """As `compose`, with the origin of every value and the workload that was found.

    layers: further settings above the target's own and below the overrides, the later above the earlier.
    elsewhere: the run is for another machine, so data, models and runs that it names need not be on this one.
    """
    own, reference, origin = _read_target(target)
    source = find_workload(reference)
    keys = keys_of(source.config)
    base = layer_of(source.settings, keys, shown_path(Path(source.reference)))
    given = [layer_of(own, keys, origin), *layers, read_overrides(overrides, keys)]
    layers = [base, *presets(source, keys, base, given), *given]
    tree, origins = copy.deepcopy(_typed(source.config)), {}
    problems = [problem for layer in layers for problem in layer.problems]
    for layer in layers:
        for name, value in layer.values.items():
            problems += _assign(tree, keys[name], value, layer.origin)
            origins[name] = layer.origin
    tree.workload, origins["workload"] = source.reference, origin
    config = _instance(tree)
    _check(source, config, origins, problems, elsewhere)
    return Composed(config, origins, source)


def vary(composed: Composed, values: Mapping[str, Any], origin: str) -> RunConfig:
    """The config with other values by dotted key: what composing it anew would give, with the same checks, in a fraction of
    the time.

    values: of keys that choose no preset (`chooses_preset`). origin: what sets them. Raises ConfigError.
    """
    kind = type(composed.config)
    if kind not in _scratch:
        _scratch[kind] = copy.deepcopy(_typed(kind))
    keys, tree = keys_of(kind), _scratch[kind]
    problems, typed = [], {}
    for name, value in values.items():
        problems += _assign(tree, keys[name], value, origin)
        typed[name] = OmegaConf.select(tree, name)
    config = _replaced(copy.deepcopy(composed.config), typed)
    _check(composed.source, config, {**composed.origins, **dict.fromkeys(values, origin)}, problems)
    return config


def workload_of(target: str) -> WorkloadSource:
    """The workload that a target names. Raises ConfigError."""
    return find_workload(_read_target(target)[1])


def differences(composed: Composed) -> list[Difference]:
    """The settings (the workload aside) that differ from the typed defaults, in the order of declaration."""
    values, defaults = values_of(composed.config), values_of(type(composed.config)())
    return [
        Difference(key, value, defaults[key], composed.origins.get(key, "default"))
        for key, value in values.items()
        if value != defaults[key] and key != "workload"
    ]


def to_values(config: RunConfig) -> dict[str, Any]:
    """The config as nested plain data (for YAML, or to hand to another process)."""
    values = OmegaConf.to_container(OmegaConf.structured(config), enum_to_str=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def from_values(values: Mapping[str, Any]) -> RunConfig:
    """The config that `to_values` was given: no presets and no checks of combinations, but strict keys and types.

    Raises ConfigError.
    """
    source = find_workload(str(values.get("workload", "")))
    keys = keys_of(source.config)
    layer = layer_of({key: value for key, value in values.items() if key != "workload"}, keys, "stored settings")
    tree = copy.deepcopy(_typed(source.config))
    for key, value in layer.values.items():
        layer.problems += _assign(tree, keys[key], value, layer.origin)
    _raise(layer.problems)
    tree.workload = source.reference
    return _instance(tree)


def _read_target(target: str) -> tuple[dict[str, Any], str, str]:
    """(own settings, reference of the workload, origin)."""
    if "=" in target:
        raise ConfigError(f"{target!r}: the first word is a workload, a .yaml or a .py file; key=value follows it.")
    if not target.endswith((".yaml", ".yml")):
        return {}, target, COMMAND_LINE
    path = Path(target).expanduser()
    values = read_yaml(path)
    for recorded in ("versions", "files", "format"):  # what a run's own config.yaml holds beside its settings
        values.pop(recorded, None)
    reference = values.pop("workload", None)
    if not isinstance(reference, str) or not reference:
        raise ConfigError(f"{target}: needs a line `workload: NAME` (or the path of a .py file) to say what is run.")
    beside = path.parent / reference
    return values, str(beside) if reference.endswith(".py") and beside.is_file() else reference, target


def _assign(tree: Any, key: Key, value: Any, origin: str) -> list[str]:
    """Set one value in the typed tree; the problems of doing so."""
    complaint = f"{key.name}={value} ({origin}): must be {key.type_in_words}"
    if isinstance(value, bool) and bool not in key.kinds and key.type is not Any:
        quotes = "; words such as yes, no, on and off need quotes to be text" if str in key.kinds else ""
        return [f"{complaint}, not {str(value).lower()}{quotes}."]
    if key.name == "seed" and isinstance(value, str) and re.fullmatch(r"\d+\.\.\d+", value):
        return [
            f"{complaint}: several seeds are several runs. Start them with: orchestrate train TARGET {key.name}={value}"
        ]
    try:
        OmegaConf.update(tree, key.name, value)
    except OmegaConfBaseException:
        return [f"{complaint}."]
    return []


_trees: dict[type, Any] = {}
_scratch: dict[type, Any] = {}
"""Trees in which single values are given their types, and stay until the next ones."""


def _typed(config_class: type[RunConfig]) -> Any:
    """The typed tree of a config class, which takes six times as long to make as to copy."""
    if config_class not in _trees:
        _trees[config_class] = OmegaConf.structured(config_class)
    return _trees[config_class]


def _replaced(config: Any, values: Mapping[str, Any]) -> Any:
    """The config, or a group of it, with other values by dotted key; its own checks of its values are run again."""
    own: dict[str, Any] = {}
    inside: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        part, dot, rest = name.partition(".")
        if dot:
            inside.setdefault(part, {})[rest] = value
        else:
            own[part] = value
    try:
        return replace(
            config, **own, **{part: _replaced(getattr(config, part), inner) for part, inner in inside.items()}
        )
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error


def _instance(tree: Any) -> RunConfig:
    try:
        config = OmegaConf.to_object(tree)
    except (OmegaConfBaseException, ValueError) as error:  # an interpolation, or a workload's own check of its values
        raise ConfigError(" ".join(str(error).split())) from error
    assert isinstance(config, RunConfig)
    return config


def _check(
    source: WorkloadSource,
    config: RunConfig,
    origins: Mapping[str, str],
    problems: Sequence[str],
    elsewhere: bool = False,
) -> None:
    """Write the paths of files as absolute ones. Raises ConfigError with all problems, those that were found before included."""
    _raise([*problems, *out_of_bounds(config, origins)] or check(config) + ([] if elsewhere else missing(config)))
    settle(config)
    _raise(_workloads_own_check(source, config))


def _workloads_own_check(source: WorkloadSource, config: RunConfig) -> list[str]:
    """A workload refuses settings that it cannot work with by a ValueError of its constructor, which reads no data."""
    with own_code(f"{source.name}: its Workload cannot be made", source.workload):
        try:
            source.workload(config)
        except ValueError as error:
            return [f"{source.name}: {error}"]
    return []


def _raise(problems: Sequence[str]) -> None:
    if len(problems) == 1:
        raise ConfigError(problems[0])
    if problems:
        raise ConfigError(f"{len(problems)} settings are wrong:{_NEXT}" + _NEXT.join(problems))


def problems_of(error: ConfigError) -> list[str]:
    """The sentences of an error of this module, one a problem."""
    first, *others = str(error).split(_NEXT)
    return others or [first]
