"""From layers of settings to one checked config: typed defaults, the workload's presets, one's own YAML, `key=value`.

What is wrong is reported at once as a ConfigError that names the key, the nearest valid key and where it was set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrator.config.checks import check, missing, out_of_bounds
from orchestrator.config.functions import settle
from orchestrator.config.keys import Key, keys_of, suggestion, values_of
from orchestrator.config.own_code import own_code, shown_path
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import WorkloadSource, find_workload
from orchestrator.errors import ConfigError

__all__ = ["Composed", "ConfigError", "Difference", "compose", "differences", "from_values", "to_values", "trace"]

COMMAND_LINE = "command line"
CORE_PRESETS = Path(__file__).parent / "presets"
SMALL = "small"
"""The preset of pretrained models on one GPU."""
_NAME_OF_A_FILE = re.compile(r"([\w.]+/)?\w[\w.-]*")


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


@dataclass(slots=True)
class _Layer:
    """Settings of one origin by dotted key; what was wrong while reading them is kept, to be reported together."""

    origin: str
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def compose(target: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The checked config of a run, an instance of the workload's own `Config`.

    target: a workload's name, one's own .py workload, or one's own YAML with a key `workload`. overrides: `key=value`.
    Raises ConfigError.
    """
    return trace(target, overrides).config


def trace(target: str, overrides: Sequence[str] = (), elsewhere: bool = False) -> Composed:
    """As `compose`, with the origin of every value and the workload that was found.

    elsewhere: the run is for another machine, so data, models and runs that it names need not be on this one.
    """
    own, reference, origin = _read_target(target)
    source = find_workload(reference)
    keys = keys_of(source.config)
    base = _layer(source.settings, keys, shown_path(Path(source.reference)))
    layers = [_layer(own, keys, origin), _read_overrides(overrides, keys)]
    layers = [base, *_presets(source, keys, base, layers), *layers]
    tree, origins = OmegaConf.structured(source.config), {}
    problems = [problem for layer in layers for problem in layer.problems]
    for layer in layers:
        for name, value in layer.values.items():
            problems += _assign(tree, keys[name], value, layer.origin)
            origins[name] = layer.origin
    tree.workload, origins["workload"] = source.reference, origin
    config = _instance(tree)
    problems += out_of_bounds(config, origins)
    _raise(problems or check(config) + ([] if elsewhere else missing(config)))
    settle(config)
    _raise(_workloads_own_check(source, config))
    return Composed(config, origins, source)


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
    layer = _layer({key: value for key, value in values.items() if key != "workload"}, keys, "stored settings")
    tree = OmegaConf.structured(source.config)
    for key, value in layer.values.items():
        layer.problems += _assign(tree, keys[key], value, layer.origin)
    _raise(layer.problems)
    tree.workload = source.reference
    return _instance(tree)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping as plain data, by OmegaConf's rules (1e-6 is a number, a repeated key an error).

    Raises ConfigError.
    """
    try:
        values = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: is not valid YAML. {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold `key: value` lines.")
    return {str(key): value for key, value in values.items()}


def flatten(tree: Mapping[str, Any], keys: Mapping[str, Key], origin: str) -> tuple[dict[str, Any], list[str]]:
    """(value by dotted key, problems) of nested settings. A group with a `name` may be given as its name alone."""
    values: dict[str, Any] = {}
    problems: list[str] = []

    def walk(branch: Mapping[str, Any], prefix: str) -> None:
        for part, value in branch.items():
            name = f"{prefix}{part}"
            key = keys.get(name)
            if key is None:
                problems.append(f"{name} ({origin}): there is no such key. {suggestion(name, keys)}")
            elif not key.is_group:
                values[name] = value
            elif isinstance(value, Mapping):
                walk(value, f"{name}.")
            elif f"{name}.name" in keys:
                values[f"{name}.name"] = value
            else:
                inner = ", ".join(other for other in keys if other.startswith(f"{name}."))
                problems.append(f"{name} ({origin}): is a group of settings; set one of {inner}.")

    walk(tree, "")
    return values, problems


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


def _layer(tree: Mapping[str, Any], keys: Mapping[str, Key], origin: str) -> _Layer:
    layer = _Layer(origin, *flatten(tree, keys, origin))
    if "workload" in layer.values:
        layer.problems.append(f"workload ({origin}): is chosen by the first word after `orchestrate train`.")
    return layer


def _read_overrides(overrides: Sequence[str], keys: Mapping[str, Key]) -> _Layer:
    merged = _Layer(COMMAND_LINE)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name:
            merged.problems.append(f"{override!r} ({COMMAND_LINE}): write settings as key=value.")
            continue
        layer = _layer({name.strip(): _value(text)}, keys, COMMAND_LINE)
        for key, value in layer.values.items():
            is_text = str in keys[key].kinds and value is not None and not isinstance(value, str)
            merged.values[key] = text if is_text else value  # a run named 007 stays 007
        merged.problems += layer.problems
    return merged


def _value(text: str) -> Any:
    """The value of `key=text`, read as YAML; text that is not YAML is taken as it stands."""
    try:
        parsed = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    except (yaml.YAMLError, OmegaConfBaseException):
        return text
    return parsed["value"] if isinstance(parsed, dict) else text


def _presets(source: WorkloadSource, keys: Mapping[str, Key], base: _Layer, given: Sequence[_Layer]) -> list[_Layer]:
    """The layers between the workload's base and what was given: the preset, what data.source and names of groups name in
    presets/, the hardware."""

    def chosen(key: str, layers: Sequence[_Layer]) -> Any:
        return next((layer.values[key] for layer in reversed(layers) if key in layer.values), None)

    preset = chosen("preset", [base, *given])
    layers = []
    if preset is None:
        layers = _preset_of_weights(
            source, *(chosen(key, [base, *given]) for key in ("model.name", "data.path", "hardware"))
        )
        preset = chosen("preset", layers) or keys["preset"].default
    layers.append(_preset(source, keys, str(preset)))
    name_of_hardware = chosen("hardware", [base, *layers, *given])
    hardware = [_hardware(keys, str(name_of_hardware))] if name_of_hardware is not None else []
    choosing = [base, *layers, *hardware, *given]
    data_source = chosen("data.source", choosing)
    names = [str(data_source)] if data_source not in (None, keys["data.source"].default, preset) else []
    for key in keys:
        group, _, last = key.rpartition(".")
        name = chosen(key, choosing) if group and last == "name" else None
        names += [f"{group}/{name}"] if name is not None else []
    for name in filter(_NAME_OF_A_FILE.fullmatch, names):  # not for URLs, paths and references
        for folder in (CORE_PRESETS, source.presets):
            path = folder / f"{name}.yaml"
            layers += [_layer(read_yaml(path), keys, shown_path(path))] if path.is_file() else []
    return layers + hardware


def _preset_of_weights(source: WorkloadSource, model: Any, data: Any, hardware: Any) -> list[_Layer]:
    """The choice of the preset `small` where a model that was not built for a miniature meets data of one's own."""
    named = isinstance(model, str) and model.startswith(("hf:", "path:"))
    if not named or data is None or hardware is not None or not (source.presets / f"{SMALL}.yaml").is_file():
        return []
    return [_Layer(f"model={model}", {"preset": SMALL})]


def _hardware(keys: Mapping[str, Key], name: str) -> _Layer:
    """Settings for a kind of machine. Raises ConfigError where there is no such file."""
    folder = CORE_PRESETS / "hardware"
    path = folder / f"{name}.yaml"
    if "/" in name or not path.is_file():
        there = ", ".join(sorted(item.stem for item in folder.glob("*.yaml")))
        raise ConfigError(
            f"hardware={name}: there are settings for {there}. For other machines set the keys one by one."
        )
    layer = _layer(read_yaml(path), keys, f"hardware={name}")
    if layer.values.keys() & {"hardware", "preset"}:
        layer.problems.append(f"{path}: settings for a machine choose neither hardware nor a preset.")
    return layer


def _preset(source: WorkloadSource, keys: Mapping[str, Key], preset: str) -> _Layer:
    path = source.presets / f"{preset}.yaml"
    if "/" in preset or not path.is_file():
        if preset == keys["preset"].default:  # the typed defaults are this preset
            return _Layer("default")
        there = sorted(item.stem for item in source.presets.glob("*.yaml"))
        raise ConfigError(f"preset={preset}: {source.name} has no such preset, only: {', '.join(there) or 'mini'}.")
    layer = _layer(read_yaml(path), keys, shown_path(path))
    if "preset" in layer.values:
        layer.problems.append(f"preset ({layer.origin}): a preset cannot choose another one.")
    return layer


def _assign(tree: Any, key: Key, value: Any, origin: str) -> list[str]:
    """Set one value in the typed tree; the problems of doing so."""
    complaint = f"{key.name}={value} ({origin}): must be {key.type_in_words}"
    if isinstance(value, bool) and bool not in key.kinds and key.type is not Any:
        quotes = "; words such as yes, no, on and off need quotes to be text" if str in key.kinds else ""
        return [f"{complaint}, not {str(value).lower()}{quotes}."]
    if key.name == "seed" and isinstance(value, str) and re.fullmatch(r"\d+\.\.\d+", value):
        return [f"{complaint}: `train` runs one seed. Start it once a seed, for example seed=0."]
    try:
        OmegaConf.update(tree, key.name, value)
    except OmegaConfBaseException:
        return [f"{complaint}."]
    return []


def _instance(tree: Any) -> RunConfig:
    try:
        config = OmegaConf.to_object(tree)
    except (OmegaConfBaseException, ValueError) as error:  # an interpolation, or a workload's own check of its values
        raise ConfigError(" ".join(str(error).split())) from error
    assert isinstance(config, RunConfig)
    return config


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
        raise ConfigError(f"{len(problems)} settings are wrong:\n" + "\n".join(f"  - {text}" for text in problems))
