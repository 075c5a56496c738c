"""Pictures of a sweep: the best score against what was spent, and the score against what was searched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.records import plots
from orchestrator.records.curves import COLOURS
from orchestrator.records.folder import atomic_path
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.graph import stages
from orchestrator.sweep.journal import FINISHED, Journal, Tried, by_point, mean_score
from orchestrator.sweep.spec import Range, Sweep

SHORT_H = 2
"""Below so many hours a picture counts minutes."""


def draw(sweep: Sweep, folder: SweepFolder, journal: Journal) -> list[Path]:
    """Draw what the sweep has scores for into plots/ and return the paths of the PNGs."""
    drawn = []
    with mpl.rc_context(plots.STYLE):
        if any(one.scores for one in journal.all()):
            drawn.append(_save(_against_budget(sweep, journal), folder.plots / "score_against_budget.png"))
        for node in sweep.nodes:
            searched = [stage for stage in stages(sweep) if stage.node is node and stage.arm is not None]
            tried = [one for stage in searched for one in journal.of(stage.name) if one.scores]
            if tried:
                figure = _search(sweep, node.name, node.search, tried)
                drawn.append(_save(figure, folder.plots / f"search_{node.name}.png"))
    return drawn


def best_so_far(entries: Sequence[tuple[float, float]], mode: str) -> tuple[list[float], list[float]]:
    """(hours, the best score until then) of (hours, score) in any order."""
    ordered = sorted(entry for entry in entries if math.isfinite(entry[1]))
    hours = [hour for hour, _ in ordered]
    return hours, list(accumulate((score for _, score in ordered), max if mode == "max" else min))


def _against_budget(sweep: Sweep, journal: Journal) -> Figure:
    """Every evaluation as a pale point; as a line the best of the runs that ended so far, by the score that a winner is chosen by."""
    figure = Figure(figsize=(10, 6), dpi=100)
    axes = figure.add_subplot()
    unit, scale = ("hours", 1) if _last_hour(journal) >= SHORT_H else ("minutes", 60)
    number = 0
    for stage in stages(sweep):
        for arm in stage.node.arms if stage.arm is None else (stage.arm,):
            mine = [one for one in journal.of(stage.name) if one.arm == arm and one.scores]
            if not mine:
                continue
            colour, number = COLOURS[number % len(COLOURS)], number + 1
            label = stage.name if stage.arm is not None or not arm else f"{stage.name}, {arm}"
            spent, scores = zip(
                *((hours * scale, score) for one in mine for _, score, hours in one.scores), strict=True
            )
            axes.scatter(spent, scores, color=colour, alpha=0.3, s=16, linewidths=0)
            ended = [(one.scores[-1][2] * scale, one.score) for one in mine if one.outcome == FINISHED]
            axes.step(
                *best_so_far(ended, sweep.mode), where="post", label=label, color=colour, marker="o", markersize=6
            )
    axes.set_title(f"{sweep.name}: the best run so far (pale: every evaluation)", parse_math=False)
    axes.set_xlabel(f"{unit} of the sweep")
    axes.set_ylabel(sweep.metric)
    axes.spines["right"].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3)
    return figure


def _last_hour(journal: Journal) -> float:
    return max(hours for one in journal.all() for _, _, hours in one.scores)


def expected_best(scores: Sequence[float], trials: int, mode: str) -> float:
    """Mean of the best of `trials` of these scores, over all choices of so many of them (Dodge et al. 2019, without replacement).

    What a method is worth depends on how long it was tuned; this says it for every shorter search too.
    """
    ordered = sorted(scores, reverse=mode == "min")
    ways = math.comb(len(ordered), trials)
    return sum(score * math.comb(place, trials - 1) / ways for place, score in enumerate(ordered))


def _search(sweep: Sweep, node: str, ranges: Sequence[Range], tried: Sequence[Tried]) -> Figure:
    """A panel a searched setting: the last score of each trial, filled where it ran to its end. Before them the score against the
    budget: the best of so many trials, for each arm."""
    figure = Figure(figsize=(5 * (1 + len(ranges)), 5), dpi=100)
    figure.suptitle(f"{sweep.name}, {node}", fontsize=15, fontweight="bold", x=0.01, ha="left", parse_math=False)
    arms = list(dict.fromkeys(one.arm for one in tried))
    _budget(figure.add_subplot(1, 1 + len(ranges), 1), sweep, tried, arms)
    for number, item in enumerate(ranges, 2):
        axes = figure.add_subplot(1, 1 + len(ranges), number)
        for arm in arms:
            _panel(
                axes,
                item,
                [one for one in tried if one.arm == arm and item.key in one.point],
                COLOURS[arms.index(arm) % len(COLOURS)],
            )
        axes.set_title(item.key)
        axes.set_xlabel("value")
        axes.set_ylabel(sweep.metric)
        axes.spines["right"].set_visible(False)
        if item.kind == "loguniform":
            axes.set_xscale("log")
    return figure


def _budget(axes: Axes, sweep: Sweep, tried: Sequence[Tried], arms: Sequence[str]) -> None:
    for arm in arms:
        scores = [mean_score(mine) for mine in by_point([one for one in tried if one.arm == arm])]
        best = [expected_best(scores, trials, sweep.mode) for trials in range(1, len(scores) + 1)]
        colour = COLOURS[arms.index(arm) % len(COLOURS)]
        axes.plot(range(1, len(scores) + 1), best, "o-", color=colour, label=arm or None)
    axes.set_title("score against budget")
    axes.set_xlabel("points of the search")
    axes.set_ylabel(f"expected best {sweep.metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines["right"].set_visible(False)
    if any(arms):
        axes.legend(loc="lower right")


def _panel(axes: Axes, item: Range, tried: Sequence[Tried], colour: str) -> None:
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in item.values)
    for whole in (True, False):
        mine = [one for one in tried if (one.outcome == FINISHED) == whole]
        places = [one.point[item.key] if numbers else str(one.point[item.key]) for one in mine]
        axes.scatter(places, [one.score for one in mine], color=colour if whole else "none", edgecolors=colour, s=45)


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path
