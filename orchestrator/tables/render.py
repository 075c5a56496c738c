"""A table as Markdown, CSV, LaTeX (booktabs) and HTML. The same figures give the same text, byte by byte."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from orchestrator.tables.compute import Cell, Computed
from orchestrator.tables.grid import Grid, grid_of

COLUMNS_OF_CSV = (
    "row", "column", "mean", "low", "high", "runs", "asked", "tasks", "episodes", "unscored", "published", "provenance", "where",
    "note",
)  # fmt: skip
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"
"""Nothing may be fetched, and there is nothing to run."""


def rendered(computed: Computed) -> dict[str, str]:
    """The text of every file but table.json, by its name."""
    grid = grid_of(computed)
    return {
        "table.md": markdown(grid),
        "table.csv": comma_separated(computed),
        "table.tex": latex(grid),
        "table.html": page(grid, computed),
    }


def markdown(grid: Grid) -> str:
    """A table and its notes."""

    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(map(_in_markdown, cells)) + " |"

    ruler = "|---" + "|---:" * (len(grid.headers) - 1) + "|"
    lines = [f"**{_in_markdown(grid.title)}**", "", line(grid.headers), ruler, *map(line, grid.rows), ""]
    return "\n".join([*lines, *(f"- {_in_markdown(note)}" for note in grid.notes)]) + "\n"


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<\[])", r"\\\1", " ".join(text.split()))


def comma_separated(computed: Computed) -> str:
    """One line a cell, with all digits; for programs."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS_OF_CSV)
    for cell in computed.cells:
        if not cell.blank or cell.published:
            writer.writerow(_in_csv(cell))
    return file.getvalue()


def _in_csv(cell: Cell) -> list[object]:
    figures = ("", "", "") if cell.mean is None else (repr(cell.mean), repr(cell.low), repr(cell.high))
    known = cell.published
    told = (repr(known.value), known.provenance, known.where) if known else ("", "", "")
    counts = (cell.runs, cell.asked, cell.tasks, cell.episodes, cell.unscored)
    return [cell.row, cell.column, *figures, *counts, *told, cell.reason]


def latex(grid: Grid) -> str:
    r"""A `table` for a paper that has \usepackage{booktabs}; its notes are comments."""

    def line(cells: tuple[str, ...]) -> str:
        return " & ".join(map(_in_latex, cells)) + r" \\"

    return "\n".join(
        [
            *(f"% {' '.join(note.split())}" for note in grid.notes),
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_in_latex(grid.title)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(grid.headers) - 1)}}}",
            r"\toprule",
            line(grid.headers),
            r"\midrule",
            *map(line, grid.rows),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _in_latex(text: str) -> str:
    escaped = "".join(_LATEX.get(char, char) for char in " ".join(text.split()))
    return re.sub(r"(?<![\w.)}])-(?=[\d.])", "$-$", escaped)  # a minus is longer than a hyphen


def page(grid: Grid, computed: Computed) -> str:
    """One page that needs nothing else, in the look of a run's."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    style = resources.files("orchestrator.records").joinpath("page", "page.css").read_text(encoding="utf-8")
    context: Mapping[str, object] = {"grid": grid, "computed": computed, "style": Markup(style), "policy": POLICY}
    template = resources.files(__package__).joinpath("table.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(**context) + "\n"
