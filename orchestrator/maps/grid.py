"""The statistics of a map as rows of text."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.maps.compare import RATIO, Line, told
from orchestrator.maps.drawing import EQUAL_N, Basis


def title_of(basis: Basis) -> str:
    """What the answers of a basis have in common."""
    if basis.name == EQUAL_N:
        return f"At equal n: {basis.n} answers of each question"
    return f"At equal n and matched length: {basis.n} answers of each question, as many of each class of length"


def headers_of(runs: Sequence[str]) -> list[str]:
    """Of the table of a basis."""
    return ["", "answers of", *runs, *(f"{run} less {runs[0]}" for run in runs[1:])]


def cells_of(line: Line) -> list[str]:
    """A row of it."""
    form = ".2f" if line.of == RATIO else line.statistic.form
    means = [told(found, form) for found in line.means]
    return [line.statistic.label, line.of, *means, *(told(found, f"+{form}") for found in line.differences)]
