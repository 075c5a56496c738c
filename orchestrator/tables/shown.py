"""Tables and what verification says of them, on the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from orchestrator.errors import ConfigError
from orchestrator.records.shown import print_table
from orchestrator.tables.compute import Computed, runs_there
from orchestrator.tables.find import Named
from orchestrator.tables.grid import grid_of
from orchestrator.tables.verify import BAD, Verified

LONGEST = 80
"""Characters of one side of a difference; a whole line of HTML says no more."""


def show_table(computed: Computed, paths: Sequence[Path]) -> None:
    """The table, its notes, and where it was written."""
    grid, console = grid_of(computed), Console(highlight=False)
    console.print(Text(grid.title, "bold"), soft_wrap=True)
    print_table(grid.headers, grid.rows)
    for note in grid.notes:
        console.print(Text(f"- {note}"), soft_wrap=True)
    for path in paths:
        console.print(Text(str(path)), soft_wrap=True)


def show_verified(found: Verified) -> None:
    """A verdict a cell, then what differs in the files, and why."""
    console = Console(highlight=False)
    rows = [(v.row, v.column, v.word, v.now, v.against, v.why) for v in found.verdicts]
    print_table(("row", "column", "", "by the episodes", "published or written", ""), rows)
    for difference in found.differences:
        where = ", ".join(filter(None, (difference.row, difference.column)))
        told = f"{difference.file}{f', {where}' if where else ''}: says {_cut(difference.says)!r}, "
        console.print(Text(f"{told}the episodes say {_cut(difference.should)!r}", "red"), soft_wrap=True)
    for cause in found.causes:
        console.print(Text(cause, "red"), soft_wrap=True)
    counts = Counter(verdict.word for verdict in found.verdicts)
    told = ", ".join(f"{count} {word}" for word, count in counts.items())
    files = f"{len(found.differences)} place(s) differ" if found.differences else "all five files say the same"
    bad = bool(found.differences) or bool(set(counts) & set(BAD))
    console.print(Text(f"{found.folder}: {told}; {files}", "red" if bad else "green"), soft_wrap=True)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def show_list(tables: Sequence[Named], storage: Path) -> None:
    """Every table with its sweep, and how many of its cells have all their runs."""
    rows = []
    for named in tables:
        try:
            there, asked = runs_there(named, named.read_sweep(()), storage)
            runs = f"{there} of {asked}"
        except ConfigError as error:  # one table's sweep must not hide the others
            runs = str(error).splitlines()[0]
        rows.append((named.name, named.table.title, named.sweep, runs))
    print_table(("table", "title", "sweep", "cells with runs"), rows)
