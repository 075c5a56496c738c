"""Settings in words: what a key means and may be, and a whole config as YAML that says where its values come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from orchestrator.config.compose import Composed, ConfigError, differences, to_values
from orchestrator.config.keys import Key, keys_of, suggestion
from orchestrator.config.layers import flatten, read_yaml
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import WorkloadSource, find_workload, workload_names

Presets = Mapping[str, Mapping[str, Any]]
"""Values by dotted key of each preset, by the preset's name."""


def presets_of(source: WorkloadSource) -> dict[str, dict[str, Any]]:
    """What each preset of a workload sets. Raises ConfigError where one is not valid YAML."""
    keys = keys_of(source.config)
    paths = sorted(source.presets.glob("*.yaml"))
    return {path.stem: flatten(read_yaml(path), keys, str(path))[0] for path in paths}


def explain(config_class: type[RunConfig], key: str | None = None, presets: Presets | None = None) -> str:
    """One key: its doc, type, default, bounds and the value in each preset. A group, or None: its keys, a line each.

    Raises ConfigError with the nearest key where there is no such key.
    """
    keys = keys_of(config_class)
    if key is None:
        return "\n".join(_listing(keys, ""))
    if key not in keys:
        there = [name for name in workload_names() if key in keys_of(find_workload(name).config)]
        hint = f"It is a setting of {there[0]}: add --workload {there[0]}." if there else suggestion(key, keys)
        raise ConfigError(f"{key}: there is no such key. {hint}")
    if keys[key].is_group:
        short = [f"{key}=NAME sets {key}.name."] if f"{key}.name" in keys else []
        return "\n".join([f"{key}: {keys[key].doc}", *short, "", *_listing(keys, f"{key}.")])
    return "\n".join(_details(keys[key], presets or {}))


def _listing(keys: Mapping[str, Key], prefix: str) -> Iterator[str]:
    inside = [key for name, key in keys.items() if name.startswith(prefix) and "." not in name.removeprefix(prefix)]
    width = max(len(key.name) for key in inside)
    for key in inside:
        default = f"{key.doc} (group)" if key.is_group else f"{key.doc} [{on_one_line(key.default)}]"
        yield f"{key.name:<{width}}  {default}"


def _details(key: Key, presets: Presets) -> Iterator[str]:
    yield f"{key.name}: {key.doc}"
    yield f"  type     {key.type_in_words}"
    yield f"  default  {on_one_line(key.default)}"
    if key.bounds_in_words:
        yield f"  bounds   {key.bounds_in_words}"
    for preset, values in presets.items():
        if key.name in values:
            yield f"  preset   {preset}: {on_one_line(values[key.name])}"


def to_yaml(composed: Composed) -> str:
    """The resolved config as YAML, each value that is not a default followed by its origin. It can be run as it is."""
    origins = {row.key: row.origin for row in differences(composed)}

    def lines(tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
        indent = "  " * prefix.count(".")
        for part, value in tree.items():
            name = f"{prefix}{part}"
            if isinstance(value, Mapping) and value:
                yield f"{indent}{part}:"
                yield from lines(value, f"{name}.")
            else:
                comment = f"  # {origins[name]}" if name in origins else ""
                yield f"{indent}{part}: {on_one_line(value)}{comment}"

    return "\n".join(lines(to_values(composed.config), "")) + "\n"


def on_one_line(value: Any) -> str:
    """A value as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=float("inf")).removesuffix("...\n").strip()
