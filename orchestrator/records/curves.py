"""Curves of several runs in one picture."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.errors import ConfigError
from orchestrator.records import metrics, plots
from orchestrator.records.compare import Arm
from orchestrator.records.folder import atomic_path

COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.SKY, plots.PINK, plots.YELLOW)
STYLES = ("-", "--", ":")
MARKED = 30
"""Most points of a curve that are marked."""


def draw(arms: Sequence[Arm], path: Path, names: Sequence[str]) -> None:
    """Metrics of every run over steps as a PNG: a panel a metric, a colour an arm, thin lines its runs where there are several.

    Raises ConfigError where the path cannot be a picture's, or no run has one of the metrics.
    """
    if path.suffix.lower() != ".png" or not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: the picture is written as a .png into a folder that is there.")
    rows = {run.path: metrics.read(run.metrics_log) for arm in arms for run in arm.runs}
    there = {name for of_run in rows.values() for row in of_run for name in row}
    for name in names:
        if name not in there:
            nearest = difflib.get_close_matches(name, there, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else "metrics.parquet of a run's folder has their names."
            raise ConfigError(f"--metric {name}: none of these runs has it. {hint}")
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(10 if len(names) == 1 else 6.5 * len(names), 6), dpi=100)
        panels = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(panels, names, strict=True):
            for number, arm in enumerate(arms):
                _curves(axes, arm.name, [metrics.series(rows[run.path], name) for run in arm.runs], number)
            axes.set_title(name, parse_math=False)
            axes.set_xlabel("step")
            axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
            axes.spines["right"].set_visible(False)
        # As many beside each other as fit below the panels.
        columns = max(1, min(len(arms), 90 // max(len(arm.name) + 6 for arm in arms)))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        FigureCanvasAgg(figure)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")


def _curves(axes: Axes, name: str, curves: Sequence[tuple[list[int], list[float]]], number: int) -> None:
    """One arm's runs, and their mean at the steps that all of them have."""
    style: dict[str, Any] = {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": STYLES[number // len(COLOURS) % len(STYLES)],
    }
    if len(curves) > 1:
        for steps, values in curves:
            axes.plot(steps, values, **style, linewidth=1, alpha=0.35)
    shared = sorted(set.intersection(*(set(steps) for steps, _ in curves)))
    means = [fmean(dict(zip(*curve, strict=True))[step] for curve in curves) for step in shared]
    axes.plot(shared, means, **style, marker="o" if len(shared) <= MARKED else None, markersize=5, label=name)
