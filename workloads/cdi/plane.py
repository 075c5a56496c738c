"""The privacy–helpfulness plane: a defence is a point, to the right more private, upwards more helpful, with its intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orchestrator.records import plots
from orchestrator.records.curves import COLOURS
from orchestrator.records.folder import atomic_path
from orchestrator.sweep.statistics import Interval
from workloads.cdi.measures import Measures, ad_of

MARKERS = ("o", "s", "^", "D", "v", "P")
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Lines of equal AD."""


@dataclass(frozen=True, slots=True)
class Point:
    """A defence under a condition (before optimisation, an attack): a colour a defence, a marker a condition, a line from one
    condition to the next."""

    defence: str
    condition: str
    measures: Measures


def draw_plane(points: Sequence[Point], path: Path, title: str) -> Path:
    """Write the plane as a PNG and return its path. The lines of equal AD are those of as many sensitive as shareable facts."""
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(9, 8), dpi=100)
        axes = figure.add_subplot()
        _levels(axes)
        defences, conditions = (
            list(dict.fromkeys(names)) for names in ([one.defence for one in points], [one.condition for one in points])
        )
        for number, defence in enumerate(defences):
            mine = [one for one in points if one.defence == defence]
            _defence(axes, mine, conditions, COLOURS[number % len(COLOURS)])
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        axes.set_xlabel("privacy preservation, PP")
        axes.set_ylabel("helpfulness, HS")
        axes.set_title(title, parse_math=False)
        _legend(axes, defences, conditions)
        FigureCanvasAgg(figure)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")
    return path


def _levels(axes: Axes) -> None:
    pp, hs = np.meshgrid(np.linspace(0, 1, 101), np.linspace(0, 1, 101))
    lines = axes.contour(pp, hs, ad_of(pp, hs), levels=LEVELS, colors=plots.GREY, linewidths=0.8, linestyles=":")
    axes.clabel(lines, fmt=lambda level: f"AD {level:.1f}", fontsize=9)


def _defence(axes: Axes, points: Sequence[Point], conditions: Sequence[str], colour: str) -> None:
    """A defence's points with their intervals; none of those where there is but one unit."""
    places = [(one.measures.pp, one.measures.hs) for one in points]
    axes.plot([pp.mean for pp, _ in places], [hs.mean for _, hs in places], color=colour, linewidth=1, alpha=0.5)
    for one, (pp, hs) in zip(points, places, strict=True):
        marker = MARKERS[conditions.index(one.condition) % len(MARKERS)]
        axes.errorbar(
            pp.mean, hs.mean, xerr=_arms(pp), yerr=_arms(hs), color=colour, marker=marker, markersize=9, elinewidth=1.5
        )


def _arms(interval: Interval) -> list[list[float]] | None:
    """What an interval has below and above, within what a share can be."""
    if math.isnan(interval.low):
        return None
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return [[max(interval.mean - low, 0.0)], [max(high - interval.mean, 0.0)]]


def _legend(axes: Axes, defences: Sequence[str], conditions: Sequence[str]) -> None:
    for number, defence in enumerate(defences):
        axes.plot([], [], color=COLOURS[number % len(COLOURS)], linewidth=4, label=defence)
    for number, condition in enumerate(conditions):
        axes.plot([], [], MARKERS[number % len(MARKERS)], color=plots.INK, label=condition)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=4)
