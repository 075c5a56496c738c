"""Claims as a picture: each difference with its interval, beside nothing and beside the margin."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orchestrator.records import plots
from orchestrator.records.folder import atomic_path
from orchestrator.tables.claims import Assessed
from orchestrator.tables.compute import Computed

COLOURS = {"holds": plots.BLUE, "fails": plots.RED, "open": plots.GREY}
PICTURE = "claims.png"


def draw_claims(computed: Computed, folder: Path) -> Path | None:
    """Write claims.png into the table's folder; where no claim could be tested there is none, not even of before."""
    tested = [claim for claim in computed.claims if claim.cells]
    if not tested:
        (folder / PICTURE).unlink(missing_ok=True)
        return None
    with mpl.rc_context(plots.STYLE):
        figure = _forest(tested)
        FigureCanvasAgg(figure)
        with atomic_path(folder / PICTURE) as temporary:
            figure.savefig(temporary, format="png")
    return folder / PICTURE


def _forest(tested: list[Assessed]) -> Figure:
    """A row a cell, claim after claim."""
    rows = [(claim, cell) for claim in tested for cell in claim.cells]
    figure = Figure(figsize=(10, 1.6 + 0.5 * len(rows)), dpi=100)
    axes = figure.add_subplot()
    for place, (claim, cell) in enumerate(rows):
        colour = COLOURS[cell.outcome]
        axes.plot((cell.low, cell.high), (place, place), color=colour, linewidth=3, solid_capstyle="butt")
        axes.plot(cell.difference, place, "o", color=colour, markersize=9)
        axes.plot((-claim.margin, -claim.margin), (place - 0.4, place + 0.4), color=plots.RED, linewidth=2)
    axes.axvline(0, color=plots.INK, linewidth=1)
    names = [f"{cell.column}\n{claim.chosen} less {claim.than}" for claim, cell in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=10, parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("difference with its 95 % interval; red: minus the margin")
    axes.set_title(tested[0].claim if len(tested) == 1 else "Claims", parse_math=False)
    for outcome in dict.fromkeys(cell.outcome for _, cell in rows):
        axes.plot([], [], "o-", color=COLOURS[outcome], linewidth=3, label=outcome)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.6 / (1 + 0.5 * len(rows)) - 0.08), ncols=3)
    return figure
