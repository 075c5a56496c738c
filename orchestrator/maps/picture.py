"""map.png: a panel a question, rows of panels a run, a colour a reward."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from orchestrator.maps.choice import Question
from orchestrator.maps.compare import Measured
from orchestrator.maps.drawing import Map
from orchestrator.records import plots
from orchestrator.records.folder import atomic_path

COLUMNS = 6
COLOURS = ("#5B3F9E", plots.BLUE, plots.GREEN, plots.ORANGE)
"""From low to high; each can be seen on white and on black."""
_LONGEST = 22


def write(drawn: Map, path: Path) -> None:
    """Draw all questions. The colour is on a scale of each run's own: rewards of two runs need not be of one kind."""
    rows = {run: [number for number, one in enumerate(drawn.chosen.questions) if one.run == run] for run in drawn.runs}
    columns = min(COLUMNS, max(map(len, rows.values())))
    heights = [math.ceil(len(numbers) / columns) for numbers in rows.values()]
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(16, (0.4 + 18 / (columns + 1)) * sum(heights)), dpi=100)
        FigureCanvasAgg(figure)
        parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
        for part, (run, numbers), height in zip(parts, rows.items(), heights, strict=True):
            source = drawn.chosen.sources[run]
            told = f"{drawn.chosen.n} answers of each question, {drawn.wanted.told()}"
            title = f"{run}: {told} (step {source.step}, {drawn.wanted.split})"
            part.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left", parse_math=False)
            rewards = [answer.reward for number in numbers for answer in drawn.chosen.questions[number].high]
            scale = Normalize(min(rewards), max(rewards))
            panels = list(part.subplots(height, columns, squeeze=False).flat)
            for axes in panels[len(numbers) :]:
                axes.set_axis_off()
            for axes, number in zip(panels, numbers, strict=False):
                measured = drawn.bases[0].measured[number]
                points = _panel(axes, drawn.chosen.questions[number], drawn.places[number], measured, scale)
            bar = part.colorbar(points, ax=panels, aspect=25, pad=0.01, label="reward")
            bar.solids.set_alpha(1)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")


def _panel(
    axes: Axes, question: Question, places: np.ndarray, measured: Measured, scale: Normalize
) -> mpl.collections.PathCollection:
    colours = LinearSegmentedColormap.from_list("reward", COLOURS)
    rewards = [answer.reward for answer in question.high]
    size = 26 if len(rewards) <= 150 else 12
    points = axes.scatter(
        places[:, 0], places[:, 1], c=rewards, cmap=colours, norm=scale, s=size, alpha=0.6, linewidths=0
    )
    name = question.task if len(question.task) <= _LONGEST else f"{question.task[: _LONGEST - 1]}…"
    axes.set_title(name, parse_math=False)
    found = measured.high
    axes.set_xlabel(
        f"distance {found.distance:.2f}   Vendi {found.vendi:.1f}\n{found.distinct:.0%} of texts distinct", fontsize=11
    )
    axes.set(xticks=[], yticks=[], xlim=(-1.12, 1.12), ylim=(-1.12, 1.12), aspect="equal")
    axes.grid(False)
    axes.spines[:].set_visible(True)
    axes.spines[:].set_color(plots.GRID)
    return points
