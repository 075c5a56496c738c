"""Rows of a user's table: JSONL, CSV or Parquet by extension, or a data set of the Hugging Face hub."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import DataError

HUB = "hf:"
PARQUET_BRANCH = "refs/convert/parquet"
"""Branch on which the hub keeps every public data set as Parquet: a folder a configuration, in it one a split."""
FLAGS = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("false", "no", "0", "0.0"), False)
"""Words and numbers that say yes or no, in any case."""

_HALF_PAIR = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row. where: for people, the file, the row from 0 and, in text files, its line from 1. values: by field, without those
    that are null (an empty cell of a CSV)."""

    where: str
    values: Mapping[str, Any]

    def error(self, problem: str) -> DataError:
        """An error in this row. problem: begins with "field 'NAME'" and says what to do."""
        return DataError(f"{self.where}: {problem}")

    def flag(self, field: str) -> bool:
        """A field that says yes or no, as a word or a number. Raises DataError."""
        value = self.values.get(field)
        said = FLAGS.get(str(value).strip().lower())
        if said is None:
            raise self.error(f"field {field!r} is {value!r}: it must be one of {', '.join(FLAGS)}.")
        return said


def read_rows(path: Path) -> list[Row]:
    """The rows of a .jsonl, .csv or .parquet file, in order. Raises DataError, which names the row and its line."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise DataError(
            f"{path}: is read by its extension, which must be one of {', '.join(READERS)}: convert or rename it."
        )
    if not path.is_file():
        problem = (
            "is a folder: name one file in it." if path.is_dir() else f"there is no such file (from {Path.cwd()})."
        )
        raise DataError(f"{path}: {problem}")
    rows = list(read(path))
    if not rows:
        raise DataError(f"{path}: holds no rows.")
    return rows


def read_text(path: Path) -> str:
    """A text file as UTF-8, with or without a byte-order mark. Raises DataError."""
    try:
        # Without translation of line ends, which may stand in a quoted cell.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8.") from error


def _read_jsonl(path: Path) -> Iterator[Row]:
    number = 0
    # Not `splitlines`, which also breaks at signs that JSON lets stand in a text.
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        where = f"{path} row {number} (line {line})"
        try:
            values = json.loads(text)
        except ValueError as error:
            raise DataError(f"{where}: is not JSON ({error}): each line holds one object.") from error
        if not isinstance(values, dict):
            raise DataError(f"{where}: is {type(values).__name__}, not an object with fields.")
        if _HALF_PAIR.search(json.dumps(values, ensure_ascii=False)):
            raise DataError(f"{where}: holds half of a surrogate pair (\\ud800 to \\udfff), which is no text: mend it.")
        yield Row(where, _there(values))
        number += 1


def read_csv(path: Path) -> Iterator[Row]:
    """The rows of a CSV file, whatever its extension. Raises DataError, which names the row and its line."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a cell may have 128 kB by default, and texts are longer
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] = []
    number, line = 0, 1
    try:
        for cells in reader:
            where, line = f"{path} row {number} (line {line})", reader.line_num + 1
            if not any(cells):
                continue
            if not header:
                header = _header(cells, path)
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{where}: has {len(cells)} cells and the header {len(header)}: quote cells that hold commas or line ends."
                )
            yield Row(where, {name: cell for name, cell in zip(header, cells, strict=True) if cell})
            number += 1
    except csv.Error as error:
        raise DataError(f"{path} (line {reader.line_num}): cannot be read as CSV ({error}).") from error


def _header(cells: list[str], path: Path) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for name in names if names.count(name) > 1 or not name), None)
    if twice is not None:
        raise DataError(
            f"{path}: the header names the column {twice!r} twice or not at all: each needs a name of its own."
        )
    return names


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as Parquet ({error}).") from error
    for number, values in enumerate(table.to_pylist()):
        yield Row(f"{path} row {number}", _there(values))


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".csv": read_csv,
    ".parquet": _read_parquet,
}


def _there(values: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in values.items() if value is not None}


def hub_rows(name: str, config: str, split: str) -> list[Row]:
    """The rows of one split of a hub data set ("ORG/NAME"), from the Parquet files that the hub makes of it.

    They are kept in the hub's cache, which is used without a connection. Raises DataError.
    """
    from huggingface_hub import snapshot_download

    wanted = f"{config}/{split}"
    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=PARQUET_BRANCH, allow_patterns=[f"{wanted}/*.parquet"]
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"{HUB}{name}: cannot be fetched and is not in the cache ({' '.join(str(error).split())}). Check the id, the connection "
            "and HF_TOKEN; the hub converts public data sets only. A download of your own is given as data.path=FILE."
        ) from error
    rows = [row for path in sorted((Path(folder) / wanted).glob("*.parquet")) for row in _read_parquet(path)]
    if not rows:
        raise DataError(
            f"{HUB}{name}: has no rows of the configuration {config!r} and the split {split!r}. Set data.hub_config and "
            f"data.hub_split to what https://huggingface.co/datasets/{name}/tree/{PARQUET_BRANCH.replace('/', '%2F')} has as folders."
        )
    return [Row(f"{HUB}{name} {wanted} row {number}", row.values) for number, row in enumerate(rows)]
