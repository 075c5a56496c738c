"""Layers of settings as they are read: YAML, `key=value` words, and the presets that they choose."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from orchestrator.config.keys import Key, suggestion
from orchestrator.config.own_code import shown_path
from orchestrator.config.workloads import WorkloadSource
from orchestrator.errors import ConfigError

COMMAND_LINE = "command line"
CORE_PRESETS = Path(__file__).parent / "presets"
SMALL = "small"
"""The preset of pretrained models on one GPU."""
OF_MACHINES = (
    "cluster", "placement", "rollout.fleet", "judge.fleet", "learner.ranks", "learner.gpus_per_rank", "learner.cpus_per_rank",
    "learner.threads_per_rank", "learner.zero_stage", "learner.offload_optimizer", "learner.offload_parameters",
    "learner.gradient_checkpointing", "learner.tokens_per_microbatch",
)  # fmt: skip
"""Keys and groups that say where and how a model is trained, not which or on what: these alone a machine chooses where the
preset has its own models."""
_NAME_OF_A_FILE = re.compile(r"([\w.]+/)?\w[\w.-]*")


@dataclass(slots=True)
class Layer:
    """Settings of one origin by dotted key; what was wrong while reading them is kept, to be reported together."""

    origin: str
    values: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


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


def layer_of(tree: Mapping[str, Any], keys: Mapping[str, Key], origin: str) -> Layer:
    """Nested settings as a layer."""
    layer = Layer(origin, *flatten(tree, keys, origin))
    if "workload" in layer.values:
        layer.problems.append(f"workload ({origin}): is chosen by the first word after `orchestrate train`.")
    return layer


def read_overrides(overrides: Sequence[str], keys: Mapping[str, Key]) -> Layer:
    """The layer of `key=value` words of the command line."""
    merged = Layer(COMMAND_LINE)
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name:
            merged.problems.append(f"{override!r} ({COMMAND_LINE}): write settings as key=value.")
            continue
        layer = layer_of({name.strip(): _value(text)}, keys, COMMAND_LINE)
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


def presets(source: WorkloadSource, keys: Mapping[str, Key], base: Layer, given: Sequence[Layer]) -> list[Layer]:
    """The layers between the workload's base and what was given: the preset, what data.source and names of groups name in
    presets/, the hardware."""

    def chosen(key: str, layers: Sequence[Layer]) -> Any:
        return next((layer.values[key] for layer in reversed(layers) if key in layer.values), None)

    preset = chosen("preset", [base, *given])
    layers = []
    if preset is None:
        layers = _preset_of_weights(
            source, *(chosen(key, [base, *given]) for key in ("model.name", "data.path", "hardware"))
        )
        preset = chosen("preset", layers) or keys["preset"].default
    layers.append(_preset(source, keys, str(preset)))
    told = dict(layers[-1].values)
    name_of_hardware = chosen("hardware", [base, *layers, *given])
    hardware = [_hardware(keys, str(name_of_hardware), told)] if name_of_hardware is not None else []
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
            if path.is_file():
                layers.append(layer_of(read_yaml(path), keys, shown_path(path)))
                told |= layers[-1].values
    return layers + ([_hardware(keys, str(name_of_hardware), told)] if hardware else [])


def _preset_of_weights(source: WorkloadSource, model: Any, data: Any, hardware: Any) -> list[Layer]:
    """The choice of the preset `small` where a model that was not built for a miniature meets data of one's own."""
    named = isinstance(model, str) and model.startswith(("hf:", "path:"))
    if not named or data is None or hardware is not None or not (source.presets / f"{SMALL}.yaml").is_file():
        return []
    return [Layer(f"model={model}", {"preset": SMALL})]


def _hardware(keys: Mapping[str, Key], name: str, told: Mapping[str, Any]) -> Layer:
    """Settings for a kind of machine, above the presets. told: what these say. Where they name their models only what is the machine's,
    and what they leave open; that alone, where they were made for this machine. Raises ConfigError where there is no such file.
    """
    folder = CORE_PRESETS / "hardware"
    path = folder / f"{name}.yaml"
    if "/" in name or not path.is_file():
        there = ", ".join(sorted(item.stem for item in folder.glob("*.yaml")))
        raise ConfigError(
            f"hardware={name}: there are settings for {there}. For other machines set the keys one by one."
        )
    layer = layer_of(read_yaml(path), keys, f"hardware={name}")
    if layer.values.keys() & {"hardware", "preset"}:
        layer.problems.append(f"{path}: settings for a machine choose neither hardware nor a preset.")
    if "model.name" in told:
        made_for_it = told.get("hardware") == name
        layer.values = {
            key: value
            for key, value in layer.values.items()
            if key not in told or (_of_machine(key) and not made_for_it)
        }
    return layer


def _of_machine(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in OF_MACHINES)


def _preset(source: WorkloadSource, keys: Mapping[str, Key], preset: str) -> Layer:
    path = source.presets / f"{preset}.yaml"
    if "/" in preset or not path.is_file():
        if preset == keys["preset"].default:  # the typed defaults are this preset
            return Layer("default")
        there = sorted(item.stem for item in source.presets.glob("*.yaml"))
        raise ConfigError(f"preset={preset}: {source.name} has no such preset, only: {', '.join(there) or 'mini'}.")
    layer = layer_of(read_yaml(path), keys, shown_path(path))
    if "preset" in layer.values:
        layer.problems.append(f"preset ({layer.origin}): a preset cannot choose another one.")
    return layer


def chooses_preset(key: str, value: Any) -> bool:
    """Whether what a setting is decides which other settings are read (or refers to them)."""
    return (
        key in ("preset", "hardware", "data.source", "data.path")
        or (key.endswith(".name") and _NAME_OF_A_FILE.fullmatch(str(value)) is not None)
        or (isinstance(value, str) and (value.startswith(("hf:", "path:")) or "${" in value))
    )
