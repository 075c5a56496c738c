"""The settings of a config class as a flat table of dotted keys, and the search for the key that was meant."""

from __future__ import annotations

import difflib
import types
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

_NULL = type(None)
WORDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text", _NULL: "null"}


@dataclass(frozen=True, slots=True)
class Key:
    """One setting, or one group of settings (`is_group`; its default is then None). is_indifferent: it changes no result."""

    name: str
    type: Any
    default: Any
    doc: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    is_group: bool = False
    is_file: bool = False
    is_indifferent: bool = False

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that a value may have, None's included: (str, NoneType) for `str | None`."""
        return get_args(self.type) if get_origin(self.type) in (Union, types.UnionType) else (self.type,)

    @property
    def type_in_words(self) -> str:
        """For people: "a whole number", "text or null"."""
        return " or ".join(WORDS.get(kind, str(getattr(kind, "__name__", kind))) for kind in self.kinds)

    @property
    def bounds_in_words(self) -> str:
        """For people: "at least 0 and at most 3", "one of a, b", or nothing."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        parts = [f"at least {self.low:g}"] if self.low is not None else []
        return " and ".join(parts + ([f"at most {self.high:g}"] if self.high is not None else []))


_tables: dict[type, Mapping[str, Key]] = {}
"""What was looked up: planning a sweep asks for the same keys thousands of times."""


def keys_of(config_class: type) -> Mapping[str, Key]:
    """Every key of a config dataclass by its dotted name, groups included, in the order of declaration."""
    if config_class not in _tables:
        _tables[config_class] = types.MappingProxyType({key.name: key for key in _walk(config_class, "")})
    return _tables[config_class]


def _walk(config_class: type, prefix: str, indifferent: bool = False) -> Iterator[Key]:
    hints = get_type_hints(config_class)
    for item in fields(config_class):
        kind, meta, name = hints[item.name], item.metadata, prefix + item.name
        changes_nothing = indifferent or meta.get("indifferent", False)
        if isinstance(kind, type) and is_dataclass(kind):
            yield Key(name, kind, None, meta.get("doc", ""), is_group=True, is_indifferent=changes_nothing)
            yield from _walk(kind, f"{name}.", changes_nothing)
        else:
            bounds = (meta.get("choices", ()), meta.get("low"), meta.get("high"))
            marks = {"is_file": meta.get("file", False), "is_indifferent": changes_nothing}
            yield Key(name, kind, _default(item), meta.get("doc", ""), *bounds, **marks)


def _default(item: Field[Any]) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


def files_named(config: Any) -> dict[str, Path]:
    """The settings of a config that name files, by their dotted keys; without those that are not set, or are of the hub (hf:)."""
    files = {name: value_at(config, name) for name, key in keys_of(type(config)).items() if key.is_file}
    return {name: Path(path) for name, path in files.items() if path is not None and not path.startswith("hf:")}


def value_at(config: object, name: str) -> Any:
    """The value that a config instance holds at a dotted key."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def set_at(config: object, name: str, value: Any) -> None:
    """Set a dotted key of a config instance, unchecked."""
    group, _, last = name.rpartition(".")
    setattr(value_at(config, group) if group else config, last, value)


def values_of(config: Any) -> dict[str, Any]:
    """Every value of a config instance by its dotted key."""
    return {name: value_at(config, name) for name, key in keys_of(type(config)).items() if not key.is_group}


TRUNCATED_SAMPLING = ("top_p", "top_k", "min_p")
"""Settings of other software that training cannot stand behind."""


def suggestion(name: str, keys: Mapping[str, Key]) -> str:
    """A sentence that names the nearest valid keys, or where to see them all; of what is left out on purpose, the reason."""
    if name.rpartition(".")[2] in TRUNCATED_SAMPLING:
        return (
            "Left out on purpose: the engine would renormalise over the tokens that it keeps and the learner would not, which biases "
            "every ratio. Use rollout.temperature."
        )
    nearest = nearest_keys(name, keys)
    if not nearest:
        return "See `orchestrate config explain` for all keys."
    return f"Did you mean {' or '.join(nearest)}?"


def nearest_keys(name: str, keys: Collection[str]) -> list[str]:
    """The keys that end in `name` (`zero_stage`), else the few that begin so, else the one spelled most like it."""
    endings = [key for key in keys if key.endswith(f".{name}")]
    if endings:
        return endings
    beginnings = [key for key in keys if key.startswith(name)]
    if 0 < len(beginnings) <= 4:
        return beginnings
    exact = difflib.get_close_matches(name, keys, n=1, cutoff=0.6)
    if exact:
        return exact
    last = name.rpartition(".")[2]
    by_ending: dict[str, str] = {}
    for key in keys:
        by_ending.setdefault(key.rpartition(".")[2], key)
    return [by_ending[ending] for ending in difflib.get_close_matches(last, by_ending, n=1, cutoff=0.6)]
