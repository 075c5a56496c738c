"""What a table leaves on disk: table.json, the figures with all they are from, and the same as Markdown, CSV, LaTeX and HTML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError
from orchestrator.records import jsonl
from orchestrator.records.folder import atomic_write, read_json
from orchestrator.sweep.spec import Sweep
from orchestrator.tables.compute import Cell, Computed
from orchestrator.tables.declare import Published
from orchestrator.tables.find import Named
from orchestrator.tables.render import rendered

PLACE = "tables"
FIGURES = "table.json"
FORMAT = 3
CLOSE = 1e-9
"""Numbers of the same episodes differ by less, whatever adds them up."""


@dataclass(frozen=True, slots=True)
class Written:
    """What table.json says. cells: by row and column."""

    overrides: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]
    files: Mapping[str, Mapping[str, Any]]
    runs: Mapping[str, Mapping[str, Any]]


def place_of(named: Named, overrides: Sequence[str], storage: Path) -> Path:
    """The folder of a table: of its name and, where name=… gives its sweep another one, that."""
    own = [text.removeprefix("name=") for text in overrides if text.startswith("name=")]
    return storage / PLACE / "-".join([named.name, *own[-1:]])


def write(computed: Computed, folder: Path) -> list[Path]:
    """Write all five files, table.json first. Returns their paths."""
    texts = {FIGURES: figures_of(computed), **rendered(computed)}
    for name, text in texts.items():
        atomic_write(folder / name, text)
    return [folder / name for name in texts]


def figures_of(computed: Computed) -> str:
    """The text of table.json."""
    return jsonl.encode(values_of(computed), indent=2) + "\n"


def values_of(computed: Computed) -> dict[str, Any]:
    """table.json as plain data."""
    return {
        "format": FORMAT,
        "table": computed.named.name,
        "title": computed.table.title,
        "sweep": computed.sweep,
        "overrides": list(computed.overrides),
        "presets": list(computed.presets),
        "paper_scale": computed.at_scale,
        "cells": [asdict(cell) for cell in computed.cells],
        "claims": [asdict(tested) | {"outcome": tested.outcome} for tested in computed.claims],
        "files": {file: dict(what) for file, what in computed.files.items()},
        "runs": {run: dict(what) for run, what in computed.runs.items()},
    }


def read(folder: Path, place: str) -> Written:
    """What was written down last. place: the table, as a command line names it. Raises ConfigError where there is nothing, or
    nothing that can be read."""
    path = folder / FIGURES
    if not path.is_file():
        raise ConfigError(
            f"{path} is not there: nothing was written down that could be verified. Write it: orchestrate table {place}"
        )
    try:
        values = read_json(path)
        is_newer = values["format"] > FORMAT
        cells = [_cell(item) for item in values["cells"]]
        by_name = {(cell.row, cell.column): cell for cell in cells}
        written = Written(tuple(values["overrides"]), by_name, dict(values["files"]), dict(values["runs"]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__}: {error}): it is no table.json. Write it anew: orchestrate table {place}"
        ) from error
    if is_newer:
        raise ConfigError(f"{path}: written by a newer version; update orchestrator.")
    return written


def _cell(item: Mapping[str, Any]) -> Cell:
    values = {name.name: item[name.name] for name in fields(Cell)}
    numbers = {name: float(values[name]) for name in ("low", "high")}
    numbers |= {
        name: int(values[name]) for name in ("runs", "asked", "tasks", "episodes", "unscored", "most", "unpaired")
    }
    mean = None if values["mean"] is None else float(values["mean"])
    published = Published(**values["published"]) if values["published"] else None
    return Cell(**{**values, **numbers, "mean": mean, "files": tuple(values["files"]), "published": published})


def same_figure(first: Cell, second: Cell) -> bool:
    """Whether two cells say the same number, with the same interval, over as many runs."""
    if (first.mean is None) != (second.mean is None) or first.runs != second.runs:
        return False
    return all(close(getattr(first, name), getattr(second, name)) for name in ("mean", "low", "high"))


def close(first: Any, second: Any) -> bool:
    """Equal, numbers but for their last digits."""
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (first, second))
    if not numbers or first == second:
        return bool(first == second)
    both_nan = math.isnan(first) and math.isnan(second)
    return both_nan or math.isclose(first, second, rel_tol=CLOSE, abs_tol=CLOSE)


def with_kept(computed: Computed, written: Written) -> Computed:
    """The table as far as it can be told: figures that were computed from further runs, which are not there now, are taken from
    what was written down, so that the rest of each file can still be compared."""
    kept = tuple(kept_of(cell, written) or cell for cell in computed.cells)
    if kept == computed.cells:
        return computed
    needed = {file for cell in kept for file in cell.files}
    files = {file: what for file, what in written.files.items() if file in needed} | dict(computed.files)
    used = {what.get("run") for what in files.values()}
    runs = {run: what for run, what in (dict(written.runs) | dict(computed.runs)).items() if run in used}
    return replace(computed, cells=kept, files=dict(sorted(files.items())), runs=dict(sorted(runs.items())))


def kept_of(cell: Cell, written: Written) -> Cell | None:
    """What was written down of a cell, where it is from further runs that are told of and not there now. Nothing vouches for it."""
    before = written.cells.get((cell.row, cell.column))
    if before is None or cell.whole or not set(cell.files) < set(before.files):
        return None
    told = all(written.files.get(file, {}).get("run") in written.runs for file in before.files)
    return before if told else None


def sweep_and_overrides(named: Named, given: Sequence[str], written: Written) -> tuple[Sweep, tuple[str, ...]]:
    """The sweep to verify by: with the settings that are given, or else those that the table was written with."""
    overrides = tuple(given) or written.overrides
    return named.read_sweep(overrides), overrides
