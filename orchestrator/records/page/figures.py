"""The panels of `plots` one by one, as SVG that stands inside an HTML page and takes its colours."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from orchestrator.records.folder import RunFolder
from orchestrator.records.plots import GRID, INK, STYLE, Panel, run_panels

_SIZE_INCHES = (5.6, 4.4)


@dataclass(frozen=True, slots=True)
class Drawing:
    """One panel. svg: an element in the colour of the text around it (currentColor)."""

    name: str
    title: str
    svg: str


def drawings(folder: RunFolder) -> list[Drawing]:
    """Every panel that the run folder has data for."""
    with mpl.rc_context(STYLE | {"svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"]}):
        return [_drawing(name, panel) for name, panel in run_panels(folder).items()]


def _drawing(name: str, panel: Panel) -> Drawing:
    figure = Figure(figsize=_SIZE_INCHES)
    axes = figure.add_subplot()
    panel(axes)
    title = axes.get_title(loc="left")
    axes.set_title("", loc="left")  # the page's own heading
    file = io.StringIO()
    # The salt makes ids of clip paths and markers unique on the page, and the text the same every time.
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    whole = file.getvalue()
    svg = re.sub(r"(?s)<metadata>.*?</metadata>", "", whole[whole.index("<svg") :])
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'^<svg[^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1>", svg)
    svg = svg.replace(GRID.lower(), "currentColor; stroke-opacity: 0.12").replace(INK.lower(), "currentColor")
    return Drawing(name, title, svg)
