"""The published files of benchmarks as rows: JSON, JSON lines, CSV, Parquet, a folder of them, or a data set of the hub."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.data.tables import HUB, READERS, Row, hub_rows, read_rows, read_text
from orchestrator.errors import DataError

ENDINGS = (".json", *READERS)
"""Of files that are read."""


@dataclass(frozen=True, slots=True)
class Table:
    """The rows of one file, or of one configuration of a hub data set. name: of the file without its ending."""

    name: str
    rows: Sequence[Row]


def tables_of(path: str, hub: Sequence[tuple[str, str]], names: str = "*") -> list[Table]:
    """The tables of FILE, of all files of FOLDER, or of hf:ORG/NAME.

    hub: (configuration, split) of each table there. names: pattern of the names of a folder's files. Raises DataError.
    """
    if path.startswith(HUB):
        name = path.removeprefix(HUB)
        return [Table(config, hub_rows(name, config, split)) for config, split in hub]
    place = Path(path).expanduser()
    if not place.is_dir():
        return [Table(place.stem, _rows(place))]
    files = [file for file in sorted(place.rglob(names)) if file.suffix.lower() in ENDINGS]
    if not files:
        raise DataError(f"{path}: holds no file {names} that ends in {', '.join(ENDINGS)}.")
    # Hub folders name the file by its split, and the folder by what it is.
    return [Table(file.stem if file.stem != "test" else file.parent.name, _rows(file)) for file in files]


def _rows(path: Path) -> list[Row]:
    if path.suffix.lower() != ".json":
        return [_present(row) for row in read_rows(path)]
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # an object a line, as several benchmarks name .json
            return [_present(row) for row in READERS[".jsonl"](path)]
        raise DataError(f"{path}: is not JSON ({error}).") from error
    records = content.get("data") if isinstance(content, dict) else content
    if not isinstance(records, list) or not records:
        raise DataError(f"{path}: must hold a list of records, or an object with one as `data`.")
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise DataError(f"{path} row {number}: is {type(record).__name__}, not an object with fields.")
    return [_present(Row(f"{path} row {number}", record)) for number, record in enumerate(records)]


def _present(row: Row) -> Row:
    """Without fields that are null, or NaN, which some files have for what is missing."""
    return Row(
        row.where,
        {
            name: value
            for name, value in row.values.items()
            if value is not None and not (isinstance(value, float) and math.isnan(value))
        },
    )


def text(row: Row, *names: str) -> str:
    """The field of the first of these names that is there. Raises DataError where none is, or it is no text."""
    for name in names:
        if name in row.values:
            value = row.values[name]
            if not isinstance(value, str) or not value.strip():
                raise row.error(f"field {name!r} is {value!r:.60}: it must be a text that is not empty.")
            return value.strip()
    raise row.error(f"field {names[0]!r} is missing (there: {', '.join(map(repr, row.values)) or 'none'}).")


def texts(row: Row, *names: str) -> tuple[str, ...]:
    """As `text`, of a list of two texts or more; in a CSV it is written as JSON."""
    for name in names:
        if name in row.values:
            return as_texts(row, name, row.values[name])
    raise row.error(f"field {names[0]!r} is missing (there: {', '.join(map(repr, row.values)) or 'none'}).")


def as_texts(row: Row, name: str, value: Any) -> tuple[str, ...]:
    """A value as a list of two texts or more. Raises DataError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise row.error(f"field {name!r} is a text that is not JSON ({error}).") from error
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, str) and one.strip() for one in value):
        raise row.error(f"field {name!r} is {value!r:.60}: it must be a list of two texts or more.")
    return tuple(one.strip() for one in value)


def letter(row: Row, name: str, value: str, options: Sequence[str]) -> int:
    """The position of an answer that is given as its letter, as "B", "B." or "B. " too. Raises DataError."""
    stripped = value.strip().strip(".():").upper()
    position = ord(stripped) - ord("A") if len(stripped) == 1 else -1
    if not 0 <= position < len(options):
        raise row.error(f"field {name!r} is {value!r:.60}: it must be the letter of one of the {len(options)} options.")
    return position


def index(row: Row, name: str, value: str, options: Sequence[str]) -> int:
    """The position of an answer that is given as the option's own words. Raises DataError."""
    if value not in options:
        raise row.error(f"field {name!r} is {value!r:.60}: it is none of the {len(options)} options.")
    return options.index(value)


def fields_like(row: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """The fields PREFIX-A, PREFIX-B and so on that are there, up to the first that is not."""
    for sign in "ABCDEFGHIJ":
        if f"{prefix}{sign}" not in row:
            return
        yield f"{prefix}{sign}"
