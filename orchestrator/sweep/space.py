"""What a search may set: ranges as they are written, all combinations of them, and one drawn at random."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from orchestrator.config.keys import Key, suggestion
from orchestrator.config.layers import flatten
from orchestrator.errors import ConfigError
from orchestrator.sweep.spec import Kind, Range

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

KINDS: tuple[Kind, ...] = get_args(Kind)
LISTED = ("grid", "choice")
"""Kinds whose values are written one by one; of the others the lowest and the highest are."""


def read_ranges(search: Mapping[str, Any], keys: Mapping[str, Key], place: str) -> tuple[list[Range], list[str]]:
    """(ranges, each after those that its condition depends on; problems, each with its place)."""
    ranges, problems = [], []
    for name, written in search.items():
        full = f"{name}.name" if name in keys and keys[name].is_group else name
        where = f"{place}, search.{name}"
        if full not in keys:
            problems.append(f"{where}: there is no such key. {suggestion(name, keys)}")
            continue
        try:
            ranges.append(_range(full, written, keys, where))
        except ConfigError as error:
            problems.append(str(error))
    ordered: list[Range] = []
    while ready := next((item for item in ranges if not item.when.keys() & {other.key for other in ranges}), None):
        ordered.append(ready)
        ranges.remove(ready)
    if ranges:
        problems.append(
            f"{place}, search: the conditions of {' and '.join(r.key for r in ranges)} wait for each other."
        )
    return ordered, problems


def _range(key: str, written: Any, keys: Mapping[str, Key], where: str) -> Range:
    if not isinstance(written, Mapping):
        raise ConfigError(
            f"{where}: write what is tried, as in {{choice: [1, 2]}} or {{loguniform: [1.0e-5, 1.0e-3]}}."
        )
    kinds, others = [kind for kind in KINDS if kind in written], written.keys() - {*KINDS, "when"}
    if len(kinds) != 1 or others:
        raise ConfigError(
            f"{where}: {', '.join(map(str, others)) or 'it'} is none of one kind ({', '.join(KINDS)}) and `when`."
        )
    kind, values, condition = kinds[0], written[kinds[0]], written.get("when", {})
    if not isinstance(condition, Mapping):
        raise ConfigError(f"{where}: `when` is a mapping, as in {{algorithm: flowrl}}.")
    when, problems = flatten(condition, keys, f"{where}.when")
    if key in when:
        problems.append(f"{where}: its condition is about itself.")
    if problems:
        raise ConfigError(problems[0])
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{where}: {kind} takes a list of {'values' if kind in LISTED else 'two numbers'}.")
    if kind in LISTED:
        return Range(key, kind, tuple(values), when=when)
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if kind == "times":
        if len(numbers) != len(values) or not all(0 < number < math.inf for number in numbers):
            raise ConfigError(f"{where}: times takes factors above 0, as in [0.3, 1, 3].")
        return Range(key, kind, tuple(values), when=when)
    if len(values) != 2 or len(numbers) != 2 or not numbers[0] < numbers[1] < math.inf:
        raise ConfigError(f"{where}: {kind} takes the lowest and the highest number, [low, high].")
    if kind == "loguniform" and numbers[0] <= 0:
        raise ConfigError(f"{where}: loguniform needs numbers above 0.")
    if kind == "int" and any(number != int(number) for number in numbers):
        raise ConfigError(f"{where}: int takes whole numbers.")
    return Range(key, kind, low=numbers[0], high=numbers[1], when=when)


def active(item: Range, values: Mapping[str, Any]) -> bool:
    """Whether a range is searched under these settings."""
    return all(name in values and values[name] == value for name, value in item.when.items())


def reachable(item: Range, ranges: Sequence[Range], settings: Mapping[str, Any]) -> bool:
    """Whether a range can be searched at all under these settings, by some point of the other ranges."""
    searched = {other.key for other in ranges}
    return active(item, {**settings, **{name: value for name, value in item.when.items() if name in searched}})


def grid(ranges: Sequence[Range], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All combinations in the order in which they are written, each once, without the ranges whose condition does not hold.

    settings: of node and arm, by dotted key. Raises ConfigError for a range of real numbers, which has no end of them.
    """
    points = {tuple(point.items()): point for point in _combinations(ranges, settings)}
    return list(points.values())


def _combinations(ranges: Sequence[Range], settings: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if not ranges:
        yield {}
        return
    first, *others = ranges
    if not active(first, settings):
        yield from _combinations(others, settings)
        return
    for value in listed(first):
        for rest in _combinations(others, {**settings, first.key: value}):
            yield {first.key: value, **rest}


def listed(item: Range) -> Sequence[Any]:
    """Every value of a range. Raises ConfigError where they cannot be listed."""
    if item.kind == "int":
        return range(int(item.low), int(item.high) + 1)
    if item.kind not in LISTED:
        raise ConfigError(
            f"search.{item.key}: a grid tries every value, and {item.kind} has no end of them. Write {{grid: […]}}, or "
            "tuning.searcher: random."
        )
    return item.values


def draw(ranges: Sequence[Range], settings: Mapping[str, Any], trial: BaseTrial) -> dict[str, Any]:
    """A point for one trial, range by range, so that conditions see what was drawn before them.

    settings: of node and arm, by dotted key. trial: of Optuna, which may suggest by what it has learned.
    """
    drawn: dict[str, Any] = {}
    for item in ranges:
        if active(item, {**settings, **drawn}):
            drawn[item.key] = _suggested(item, trial)
    return drawn


def _suggested(item: Range, trial: BaseTrial) -> Any:
    if item.kind in LISTED:
        return trial.suggest_categorical(item.key, item.values)
    if item.kind == "int":
        return trial.suggest_int(item.key, int(item.low), int(item.high))
    return trial.suggest_float(item.key, item.low, item.high, log=item.kind == "loguniform")


def in_words(item: Range) -> str:
    """A range for people: `learner.learning_rate 0.0001…0.002 (log)`."""
    if item.kind in LISTED:
        text = f"{item.key} {', '.join(map(str, item.values))}"
    else:
        text = f"{item.key} {item.low:g}…{item.high:g}{' (log)' if item.kind == 'loguniform' else ''}"
    condition = ", ".join(f"{name}={value}" for name, value in item.when.items())
    return f"{text} where {condition}" if condition else text
