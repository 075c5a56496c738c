"""Pictures of a run: run.png (how it went) and judge.png (how well the judge was taught).

Colours: Okabe & Ito's palette, which colour-blind readers can tell apart. Panels without data are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from orchestrator.records import metrics
from orchestrator.records.display import duration
from orchestrator.records.folder import RunFolder, atomic_path, read_json
from orchestrator.records.ledger import OTHER, PHASES

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
SKY, RED, YELLOW = "#56B4E9", "#D55E00", "#F0E442"
GREY, INK, GRID = "#888888", "#1A1B1E", "#E5E5E5"
_PHASE_COLOURS = dict(
    zip((*PHASES, OTHER), ("#333333", YELLOW, BLUE, ORANGE, "#666666", GREEN, PINK, SKY, RED, "#CCCCCC"), strict=True)
)
STYLE = {
    "font.size": 12,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.grid": True,
    "grid.color": GRID,
    **{f"{what}.color": INK for what in ("text", "xtick", "ytick")},
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.linewidth": 2,
    "figure.constrained_layout.use": True,
}
_DPI = 100
_MANY_STEPS = 500
"""Beyond so many, filled areas are pixels in an SVG too."""
_LONG_LABEL = 30
_IN_PICTURE = ("reward", "evaluation", "policy", "gap", "length", "time")
"""The panels of run.png; the others are for the page."""

Rows = Sequence[Mapping[str, float]]
Panel = Callable[[Axes], None]


def draw(folder: RunFolder) -> list[Path]:
    """Draw what the run folder has data for into plots/ and return the paths of the PNGs."""
    drawn = []
    rows = metrics.read(folder.metrics_log)
    settings = folder.settings()
    with mpl.rc_context(STYLE):
        found = _run_panels(rows, settings)
        panels = [found[name] for name in _IN_PICTURE if name in found]
        if panels:
            drawn.append(_save(_figure(panels, f"{folder.workload}/{folder.name}"), folder.plots / "run.png"))
        judged = read_json(folder.judge) if folder.judge.exists() else {}
        panels = list(_judge_panels(judged, settings).values())
        if panels:
            over = f" ({judged['dilemmas']} groups)" if "dilemmas" in judged else ""
            title = f"Judge of {folder.workload}/{folder.name}, on held-out data{over}"
            drawn.append(_save(_figure(panels, title, columns=2), folder.plots / "judge.png"))
    return drawn


def run_panels(folder: RunFolder) -> dict[str, Panel]:
    """Every panel that the run folder has data for, by name; to be drawn under `STYLE`."""
    rows, settings = metrics.read(folder.metrics_log), folder.settings()
    judged = read_json(folder.judge) if folder.judge.exists() else {}
    return _run_panels(rows, settings) | _judge_panels(judged, settings)


def _figure(panels: Sequence[Panel], title: str, columns: int = 3) -> Figure:
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(16, 0.6 + 4.6 * rows), dpi=_DPI)
    figure.suptitle(title, fontsize=15, fontweight="bold", x=0.01, ha="left", parse_math=False)
    for number, panel in enumerate(panels, 1):
        panel(figure.add_subplot(rows, columns, number))
    return figure


def _save(figure: Figure, path: Path) -> Path:
    FigureCanvasAgg(figure)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
    return path


def _run_panels(rows: Rows, settings: Mapping[str, Any]) -> dict[str, Panel]:
    """The panels that the rows have data for, by name."""
    bound = (settings.get("limits") or {}).get("logprob_gap_max")
    candidates: dict[str, tuple[str, Panel]] = {
        "reward": ("reward/mean", lambda axes: _reward(axes, rows)),
        "evaluation": ("eval/", lambda axes: _evaluation(axes, rows)),
        "gold": ("eval/oracle", lambda axes: _gold(axes, rows)),
        "policy": ("policy/", lambda axes: _policy(axes, rows)),
        "gap": ("sync/logprob_gap_", lambda axes: _gap(axes, rows, bound)),
        "length": ("episodes/length", lambda axes: _length(axes, rows)),
        "time": ("time/", lambda axes: _time(axes, rows)),
        "faults": ("faults/", lambda axes: _faults(axes, rows)),
    }
    training = [row for row in rows if row["step"] > 0]
    found = {
        name: panel
        for name, (prefix, panel) in candidates.items()
        if any(key.startswith(prefix) for row in (rows if prefix.startswith("eval/") else training) for key in row)
    }
    if not any(value for row in training for name, value in row.items() if name.startswith("faults/")):
        found.pop("faults", None)
    return found


def _line(axes: Axes, rows: Rows, name: str, **style: Any) -> bool:
    steps, values = metrics.series(rows, name)
    if steps:
        # A line of one point is invisible without a marker.
        axes.plot(steps, values, **({"marker": "o"} if len(steps) == 1 else {}) | style)
    return bool(steps)


def _finish(axes: Axes, title: str, label: str, twin: Axes | None = None) -> None:
    axes.set_title(title)
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    handles, labels = axes.get_legend_handles_labels()
    if twin is not None:
        twin.grid(False)
        twin.spines["right"].set_visible(True)
        more_handles, more_labels = twin.get_legend_handles_labels()
        handles, labels = handles + more_handles, labels + more_labels
    else:
        axes.spines["right"].set_visible(False)
    _legend(axes, handles, labels)


def _legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Below the panel, where it hides no line."""
    if handles:
        columns = len(handles) if len(handles) < 4 else 4 if len(handles) > 6 else math.ceil(len(handles) / 2)
        if max(map(len, labels)) > _LONG_LABEL:
            columns = 1
        spacing = {"columnspacing": 1.4, "handlelength": 1.6}
        legend = axes.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=columns, **spacing)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a component's name may hold a $


def _reward(axes: Axes, rows: Rows) -> None:
    spread = ("std", "min", "max")
    names = sorted({name for row in rows for name in row if name.startswith("reward/")} - {"reward/mean"})
    components = [name for name in names if name.removeprefix("reward/") not in spread]
    for name, colour in zip(components, (ORANGE, GREEN, PINK, SKY, RED, YELLOW), strict=False):
        _line(axes, rows, name, color=colour, linewidth=1.2, label=name.removeprefix("reward/").replace("_", " "))
    _line(axes, rows, "reward/mean", color=BLUE, linewidth=2.6, label="reward")
    _finish(axes, "Training reward", "mean reward")


def _band(axes: Axes, rows: Rows, name: str, colour: str) -> None:
    low = dict(zip(*metrics.series(rows, f"{name}_low"), strict=True))
    high = dict(zip(*metrics.series(rows, f"{name}_high"), strict=True))
    steps = sorted(low.keys() & high.keys())
    bounds = [low[step] for step in steps], [high[step] for step in steps]
    axes.fill_between(steps, *bounds, color=colour, alpha=0.18, linewidth=0)


def _evaluation(axes: Axes, rows: Rows) -> None:
    for name, colour, label in (
        ("eval/judge", ORANGE, "judge"),
        ("eval/reward", ORANGE, "reward"),
        ("eval/oracle", BLUE, "oracle"),
    ):
        _band(axes, rows, name, colour)
        _line(axes, rows, name, color=colour, marker="o", markersize=5, label=label)
    start = next(
        (found for name in ("oracle", "judge", "reward") if (found := metrics.series(rows, f"eval/{name}")[1])), []
    )
    for name, by in (
        ("eval/best_of_n", ""),
        ("eval/best_of_n_judge", " (judge)"),
        ("eval/best_of_n_reward", " (reward)"),
    ):
        best, n = (metrics.series(rows, key)[1] for key in (name, "eval/best_of"))
        if best and n:
            label = f"best of {n[0]:.0f} at the start{by}"
            axes.axhline(best[0], color=GREEN, linestyle="--", linewidth=1.6, label=label)
            break
    if start:
        axes.axhline(start[0], color=GREY, linestyle=":", linewidth=1.6, label="mean at the start")
    _finish(axes, "Held-out score, 95 % interval", "score (0–1)")


def _gold(axes: Axes, rows: Rows) -> None:
    by = "judge" if metrics.series(rows, "eval/judge")[0] else "reward"
    judged = dict(zip(*metrics.series(rows, f"eval/{by}"), strict=True))
    truths = dict(zip(*metrics.series(rows, "eval/oracle"), strict=True))
    steps = sorted(judged.keys() & truths.keys())
    points = [judged[step] for step in steps], [truths[step] for step in steps]
    axes.plot(*points, color=BLUE, marker="o", markersize=5, label="an evaluation")
    for place, step in ((place, steps[place]) for place in {0, len(steps) - 1} if steps):
        spot = points[0][place], points[1][place]
        axes.annotate(f"step {step}", spot, (9, -4), textcoords="offset points", fontsize=10.5)
    axes.axline((0.5, 0.5), slope=1, color=GREY, linestyle=":", linewidth=1.6, label=f"the {by} is right")
    _finish(axes, "Gold against proxy", "oracle (0–1)")
    axes.set_xlabel(f"{by} (0–1)")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))


def _faults(axes: Axes, rows: Rows) -> None:
    for name, colour in (("retried", ORANGE), ("unscored", RED), ("lost", PINK)):
        _line(axes, rows, f"faults/{name}", color=colour, label=name)
    axes.set_ylim(bottom=0)
    _finish(axes, "Faults", "a step")


def _policy(axes: Axes, rows: Rows) -> None:
    _line(axes, rows, "policy/entropy", color=BLUE, label="entropy (left)")
    twin = axes.twinx()
    _line(twin, rows, "policy/kl", color=RED, label="KL (right)")
    _line(twin, rows, "policy/clip_fraction", color=GREEN, linestyle="--", label="clipped (right)")
    axes.set_ylim(bottom=0)
    twin.set_ylim(bottom=0)
    twin.set_ylabel("nats a token; share of tokens")
    _finish(axes, "Policy", "nats a token", twin)


def _gap(axes: Axes, rows: Rows, bound: float | None) -> None:
    for statistic, colour in (("max", RED), ("p99", ORANGE), ("mean", BLUE)):
        name = f"sync/logprob_gap_{statistic}"
        # A log scale has no 0.
        positive = [row for row in rows if row.get(name, 0) > 0]
        _line(axes, positive, name, color=colour, label=statistic)
    if bound:
        axes.axhline(bound, color=INK, linestyle="--", linewidth=1.4, label="bound: the run stops")
    axes.set_yscale("log")
    _finish(axes, "Trainer–engine log-probability gap", "nats (log scale)")


def _length(axes: Axes, rows: Rows) -> None:
    _line(axes, rows, "episodes/length", color=BLUE, label="length (left)")
    twin = axes.twinx()
    _line(twin, rows, "episodes/truncated_share", color=RED, linestyle="--", label="truncated (right)")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.1)
    twin.set_ylim(0, 1)
    twin.set_ylabel("share of episodes")
    _finish(axes, "Episode length", "tokens", twin)


def _time(axes: Axes, rows: Rows) -> None:
    training = [row for row in rows if row["step"] > 0 and any(name.startswith("time/") for name in row)]
    steps = [int(row["step"]) for row in training]
    names = [name for name in (*PHASES, OTHER) if any(row.get(f"time/{name}_s", 0) > 0 for row in training)]
    seconds = [[row.get(f"time/{name}_s", 0.0) for row in training] for name in names]
    if names:
        colours = [_PHASE_COLOURS[name] for name in names]
        # Half a step more on both sides, so that the first and the last step are as wide as the others.
        wide = [steps[0] - 0.5, *steps, steps[-1] + 0.5]
        stacks = [[values[0], *values, values[-1]] for values in seconds]
        axes.stackplot(
            wide, *stacks, labels=names, colors=colours, step="mid", linewidth=0, rasterized=len(steps) > _MANY_STEPS
        )
        axes.set_xlim(min(steps) - 0.5, max(steps) + 0.5)
    # Teaching takes minutes and would dwarf the steps.
    before = {
        name: sum(row.get(f"time/{name}_s", 0) for row in rows if row["step"] == 0)
        for name in ("start", "teach", "eval")
    }
    told = ", ".join(f"{name} {duration(value)}" for name, value in before.items() if value > 0)
    _finish(axes, "Time a step" + (f" (before: {told})" if told else ""), "seconds")


def _judge_panels(report: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Panel]:
    """From the judge's lesson report, whose shares have `_n`, `_low` and `_high` beside them."""
    kinds = sorted(name for name in report if name.startswith("accuracy_") and f"{name}_n" in report)
    accuracies = [name for name in ("accuracy", *kinds) if name in report]
    others = [name for name in _SHARE_NAMES if name != "accuracy" and name in report]
    errors = {name: report[name] for name in sorted(report) if name.startswith("reward_error_") and _is_part(name)}
    judge = settings.get("judge") or {}
    bounds = {
        name: judge[f"gate_{name}"]
        for name in ("accuracy", "pair_order", "rank_correlation")
        if judge.get(f"gate_{name}")
    }
    if judge.get("gate_injection_flips", 1) < 1:
        bounds["injection_flips"] = judge["gate_injection_flips"]
    panels: dict[str, Panel] = {}
    if accuracies:
        title = "Accuracy by kind of criterion"
        panels["accuracy"] = lambda axes: _shares(axes, report, accuracies, bounds, title)
    if report.get("calibration"):
        panels["calibration"] = lambda axes: _calibration(axes, report)
    if others:
        panels["judge"] = lambda axes: _shares(axes, report, others, bounds, "What a reward needs of a judge")
    if errors:
        panels["reward_error"] = lambda axes: _reward_error(axes, report, errors)
    return panels


def _is_part(name: str) -> bool:
    return not name.endswith(("_n", "_low", "_high"))


def _calibration(axes: Axes, report: Mapping[str, Any]) -> None:
    """What P(yes) said against what was so; a point a bin, its area by the judgements in it."""
    bins, most = report["calibration"], max(found["n"] for found in report["calibration"])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1.6, label="says what is so")
    said, met = [found["said"] for found in bins], [found["met"] for found in bins]
    areas = [40 + 500 * found["n"] / most for found in bins]
    axes.scatter(
        said, met, s=areas, color=BLUE, alpha=0.75, linewidth=0, label="a tenth of the scale (area: judgements)"
    )
    for found in bins:
        below = found["met"] > 0.5
        place: dict[str, Any] = {
            "xytext": (0, -22 if below else 16),
            "textcoords": "offset points",
            "ha": "center",
            "fontsize": 10,
        }
        axes.annotate(f"{found['n']:,}", (found["said"], found["met"]), **place)
    axes.set_xlim(-0.06, 1.06)
    axes.set_ylim(-0.12, 1.12)
    axes.set_title(f"Reliability of P(yes): calibration error {report['ece']:.3f}")
    axes.set_xlabel("mean P(yes) of the judge")
    axes.set_ylabel("share of labels that are yes")
    axes.spines["right"].set_visible(False)
    _legend(axes, *axes.get_legend_handles_labels())


def _reward_error(axes: Axes, report: Mapping[str, Any], parts: Mapping[str, float]) -> None:
    names = sorted(parts, key=lambda name: parts[name])
    labels = [name.removeprefix("reward_error_").replace("_", " ") for name in names]
    axes.barh(range(len(names)), [parts[name] for name in names], color=ORANGE, height=0.6)
    axes.set_yticks(range(len(names)), labels, parse_math=False)
    axes.set_title(f"Where the reward's error is from (mean {report['reward_error']:.3f} an answer)")
    axes.set_xlabel("share of the wrongly judged weight")
    axes.spines["right"].set_visible(False)


_JUDGE, _PRIOR, _BOUND = "judge, 95 % interval", "best guess that ignores the answer", "bound asked for"
_SHARE_NAMES = {
    "accuracy": "all criteria",
    "pair_order": "pairs of answers\nin the right order",
    "rank_correlation": "rank correlation\nwithin a prompt",
    "negative_recall": "recall on\nnegative criteria",
    "macro_f1": "macro F1",
    "kappa": "Cohen's kappa",
    "injection_flips": "verdicts turned by\na planted verdict",
}


def _shares(
    axes: Axes, report: Mapping[str, Any], names: Sequence[str], bounds: Mapping[str, float], title: str
) -> None:
    """One line a share: the value, its interval, the prior's value and the bound asked for, where there are."""
    marks: dict[str, tuple[list[float], list[int]]] = {}
    for place, name in enumerate(names):
        found = {_JUDGE: report[name], _PRIOR: report.get(f"prior_{name}"), _BOUND: bounds.get(name)}
        for label, value in found.items():
            if value is not None:
                places = marks.setdefault(label, ([], []))
                places[0].append(float(value))
                places[1].append(place)
        if f"{name}_low" in report:
            axes.plot([report[f"{name}_low"], report[f"{name}_high"]], [place] * 2, color=BLUE, linewidth=6, alpha=0.3)
    styles: dict[str, dict[str, Any]] = {
        _JUDGE: {"marker": "o", "color": BLUE, "markersize": 9},
        _PRIOR: {"marker": "D", "color": ORANGE, "markersize": 8, "fillstyle": "none"},
        _BOUND: {"marker": "|", "color": INK, "markersize": 22, "markeredgewidth": 2},
    }
    for label, style in styles.items():
        if label in marks:
            axes.plot(*marks[label], linestyle="", label=label, **style)
    axes.set_yticks(range(len(names)), [_share_name(report, name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(title)
    axes.set_xlabel("share")
    axes.set_xlim(right=1.01)
    axes.spines["right"].set_visible(False)
    _legend(axes, *axes.get_legend_handles_labels())


def _share_name(report: Mapping[str, Any], name: str) -> str:
    words = _SHARE_NAMES.get(name, name.removeprefix("accuracy_").replace("_", " "))
    return f"{words}  (n = {report[f'{name}_n']:,})" if f"{name}_n" in report else words
