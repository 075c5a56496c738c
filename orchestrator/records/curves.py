"""The held-out curves of several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.errors import ConfigError
from orchestrator.records import metrics, plots
from orchestrator.records.compare import Arm
from orchestrator.records.folder import atomic_path

COLOURS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.SKY, plots.PINK, plots.YELLOW)
STYLES = ("-", "--", ":")


def draw(arms: Sequence[Arm], path: Path, by: str) -> None:
    """The held-out score of every run over steps as a PNG: a colour an arm, thin lines its runs where there are several.

    by: "oracle", "judge" or "reward". Raises ConfigError where the path cannot be a picture's.
    """
    if path.suffix.lower() != ".png" or not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: the picture is written as a .png into a folder that is there.")
    with mpl.rc_context(plots.STYLE):
        figure = Figure(figsize=(10, 6), dpi=100)
        axes = figure.add_subplot()
        for number, arm in enumerate(arms):
            style: dict[str, Any] = {
                "color": COLOURS[number % len(COLOURS)],
                "linestyle": STYLES[number // len(COLOURS) % len(STYLES)],
            }
            curves = [metrics.series(metrics.read(run.metrics_log), f"eval/{by}") for run in arm.runs]
            if len(curves) > 1:
                for steps, values in curves:
                    axes.plot(steps, values, **style, linewidth=1, alpha=0.35)
            shared = sorted(set.intersection(*(set(steps) for steps, _ in curves)))
            means = [fmean(dict(zip(*curve, strict=True))[step] for curve in curves) for step in shared]
            axes.plot(shared, means, **style, marker="o", markersize=5, label=arm.name)
        axes.set_title(f"Held-out {by} score")
        axes.set_xlabel("step")
        axes.set_ylabel("score (0–1)")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        axes.spines["right"].set_visible(False)
        # As many beside each other as fit below the panel.
        columns = max(1, min(len(arms), 90 // max(len(arm.name) + 6 for arm in arms)))
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=columns)
        FigureCanvasAgg(figure)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png")
