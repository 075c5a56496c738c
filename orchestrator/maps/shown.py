"""A map on the terminal: what was chosen, the statistics, and where it was written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from orchestrator.maps.drawing import Map
from orchestrator.maps.grid import cells_of, headers_of, title_of
from orchestrator.records.shown import print_table


def show_map(drawn: Map, paths: Sequence[Path]) -> None:
    """Notes, a table a basis, the files."""
    console = Console(highlight=False)
    for note in drawn.notes:
        console.print(Text(f"- {note}"), soft_wrap=True)
    for basis in drawn.bases:
        console.print(Text(title_of(basis), "bold"), soft_wrap=True)
        print_table(headers_of(drawn.runs), map(cells_of, basis.lines))
    for path in paths:
        console.print(Text(str(path)), soft_wrap=True)
