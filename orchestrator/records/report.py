"""What a run came to: the numbers of summary.json, the pictures and the table that ends a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.records import episodes, ledger, metrics, plots
from orchestrator.records.display import duration
from orchestrator.records.folder import FORMAT, RunFolder, read_json
from orchestrator.sweep.statistics import Interval, mean_interval

_EVALUATED = ("eval/oracle", "eval/judge", "eval/reward")
_BEST_OF = ("eval/best_of", "eval/best_of_n", "eval/best_of_n_judge", "eval/best_of_n_reward")
_JUDGE_SHARES = {
    "accuracy": "judge: held-out accuracy",
    "prior_accuracy": "judge: best guess that ignores the answer",
    "pair_order": "judge: pairs in the right order",
    "negative_recall": "judge: recall on negative criteria",
    "injection_flips": "judge: turned by a planted verdict",
}


def summarise(
    folder: RunFolder, status: str | None = None, reason: str | None = None, peak_memory_bytes: int | None = None
) -> dict[str, Any]:
    """The numbers of a run, from its metrics, episodes and ledger; what was not measured is left out.

    status: "finished", "stopped" or "failed"; by default "finished" or "unfinished" by the number of steps. reason: why it
    failed, in words.
    best: the evaluation with the highest oracle score (or judge score where there is no oracle). It was picked because
    it is high, so it flatters; `last` is the number to quote.
    oracle_gain: last minus first evaluation, with a 95 % bootstrap interval over held-out tasks.
    """
    rows = metrics.read(folder.metrics_log)
    settings = folder.settings()
    steps = int(rows[-1]["step"]) if rows else 0
    summary: dict[str, Any] = {
        "format": FORMAT,
        "run": f"{folder.workload}/{folder.name}",
        "status": status or ("finished" if steps >= settings.get("steps", math.inf) else "unfinished"),
        "steps": steps,
    }
    if reason is not None:
        summary["reason"] = reason
    summary |= _evaluations(rows)
    gain = _oracle_gain(folder, rows)
    if gain:
        summary["oracle_gain"] = {"mean": gain.mean, "low": gain.low, "high": gain.high, "n": gain.n}
    if rows:
        summary |= {name.removeprefix("eval/"): rows[0][name] for name in _BEST_OF if name in rows[0]}
    if folder.judge.exists():
        summary["judge"] = read_json(folder.judge)
    summary |= _totals(rows)
    times = ledger.read(folder.ledger_log)
    if times.num_rows:
        summary |= _times(times)
    if peak_memory_bytes is not None:
        summary["peak_memory_bytes"] = peak_memory_bytes
    return summary


def _evaluations(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    evaluated = [row for row in rows if any(name in row for name in _EVALUATED)]
    if not evaluated:
        return {}
    by = next(name for name in _EVALUATED if name in evaluated[0])
    best = max(evaluated, key=lambda row: row[by] if math.isfinite(row.get(by, math.nan)) else -math.inf)
    shown = {"first": evaluated[0], "last": evaluated[-1], "best": best}
    return {name: _evaluation(row) for name, row in shown.items()} | {"best_by": by}


def _evaluation(row: Mapping[str, float]) -> dict[str, float]:
    """All eval metrics of a row without their prefix."""
    values = {name.removeprefix("eval/"): value for name, value in row.items() if name.startswith("eval/")}
    if "judge/gold_gap" in row:
        values["gold_gap"] = row["judge/gold_gap"]
    return {"step": int(row["step"]), **values}


def _oracle_gain(folder: RunFolder, rows: Sequence[Mapping[str, float]]) -> Interval | None:
    """Gain of the mean oracle score from the first to the last evaluation, paired by task, from stored episodes."""
    steps, _ = metrics.series(rows, "eval/oracle")
    if len(steps) < 2:
        return None
    first, last = (_gold_by_task(folder, step) for step in (steps[0], steps[-1]))
    shared = sorted(first.keys() & last.keys())
    return mean_interval([last[task] - first[task] for task in shared]) if shared else None


def _gold_by_task(folder: RunFolder, step: int) -> dict[str, float]:
    table = episodes.read(folder, "eval", [step], ["task_id", "gold"])
    means = table.filter(pc.is_valid(table["gold"])).group_by("task_id").aggregate([("gold", "mean")])
    return dict(zip(means["task_id"].to_pylist(), means["gold_mean"].to_pylist(), strict=True))


def _totals(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    gaps = metrics.series(rows, "sync/logprob_gap_max")[1]
    if gaps:
        totals["logprob_gap_max"] = max(gaps)
    tokens = metrics.series(rows, "tokens/generated")[1]
    if tokens:
        totals["tokens_generated"] = int(sum(tokens))
    faults = {name: metrics.series(rows, f"faults/{name}")[1] for name in ("retried", "unscored", "lost")}
    if any(faults.values()):
        totals["faults"] = {name: int(sum(values)) for name, values in faults.items()}
    return totals


def _times(times: pa.Table) -> dict[str, Any]:
    sums = times.group_by("phase").aggregate([("seconds", "sum"), ("gpu_seconds", "sum")]).to_pylist()
    seconds = {row["phase"]: row["seconds_sum"] for row in sums}
    return {
        "seconds": seconds | {"total": sum(seconds.values())},
        "gpu_seconds": sum(row["gpu_seconds_sum"] for row in sums),
    }


def render(folder: RunFolder | Path, console: Console | None = None) -> None:
    """Draw the plots and show what was gained, where everything lies and what to try next."""
    folder = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    console = console or Console()
    pictures = plots.draw(folder)
    summary = read_json(folder.summary) if folder.summary.exists() else summarise(folder)
    console.print(_results(summary))
    if "reason" in summary:
        console.print(Text(summary["reason"], style="red"), soft_wrap=True)
    console.print(_places(folder, pictures))
    console.print("[bold]Next[/bold]")
    # A name alone is looked for in runs/.
    named = folder.name if folder.path == Path("runs", folder.workload, folder.name) else folder.path
    for command in (
        f"orchestrate report {named}",
        "orchestrate config explain learner.learning_rate",
        f"orchestrate train {folder.settings().get('workload', folder.workload)} seed=1",
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _results(summary: Mapping[str, Any]) -> Table:
    table = Table(title=f"{summary['run']}: {summary['status']}, {summary['steps']} steps", title_justify="left")
    table.add_column("")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    for label, key in (("held-out oracle", "oracle"), ("held-out judge", "judge"), ("held-out reward", "reward")):
        for when in ("first", "last", "best"):
            values = summary.get(when, {})
            if key in values:
                interval = _interval(values.get(f"{key}_low"), values.get(f"{key}_high"))
                name = f"{label}, {when} (step {values['step']})"
                table.add_row(name, f"{values[key]:.3f}", interval, f"{values['n']:.0f}" if "n" in values else "")
    if "oracle_gain" in summary:
        gain = summary["oracle_gain"]
        shown = f"[bold]{gain['mean']:+.3f}"
        table.add_row("[bold]gain of the oracle score", shown, _interval(gain["low"], gain["high"]), f"{gain['n']}")
    for key, by in (("best_of_n", ""), ("best_of_n_judge", ", by the judge"), ("best_of_n_reward", ", by the reward")):
        if key in summary:
            table.add_row(f"best of {summary['best_of']:.0f} of the starting policy{by}", f"{summary[key]:.3f}", "", "")
    table.add_section()
    judge = summary.get("judge", {})
    for key, label in _JUDGE_SHARES.items():
        if isinstance(judge.get(key), float | int):
            interval = _interval(judge.get(f"{key}_low"), judge.get(f"{key}_high"))
            table.add_row(label, f"{judge[key]:.3f}", interval, f"{judge.get(f'{key}_n', '')}")
    if "dilemmas" in judge:
        table.add_row("judge: dilemmas, which its intervals are over", "", "", f"{judge['dilemmas']}")
    table.add_section()
    for label, value in _details(summary):
        table.add_row(label, value, "", "")
    return table


def _interval(low: float | None, high: float | None) -> str:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"{low:.3f} … {high:.3f}"


def _details(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of everything that has no interval."""
    details = []
    if "gold_gap" in summary.get("last", {}):
        details.append(("judge minus oracle at the end", f"{summary['last']['gold_gap']:+.3f}"))
    if "logprob_gap_max" in summary:
        details.append(("largest trainer-engine gap", f"{summary['logprob_gap_max']:.1e} nats"))
    if "tokens_generated" in summary:
        details.append(("tokens generated", f"{summary['tokens_generated']:,}"))
    if "seconds" in summary:
        seconds = summary["seconds"]
        details.append(("time in steps and evaluations", duration(seconds["total"])))
        largest = sorted(((value, name) for name, value in seconds.items() if name != "total"), reverse=True)[:4]
        details += [(f"  {name}", duration(value)) for value, name in largest]
    if summary.get("gpu_seconds"):
        details.append(("GPU time", duration(summary["gpu_seconds"])))
    if "peak_memory_bytes" in summary:
        details.append(("peak memory, all processes", f"{summary['peak_memory_bytes'] / 1e9:.1f} GB"))
    if any(summary.get("faults", {}).values()):
        faults = "  ".join(f"{name} {count}" for name, count in summary["faults"].items() if count)
        details.append(("faults", faults))
    return details


def _places(folder: RunFolder, pictures: Sequence[Path]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    checkpoint = folder.newest_checkpoint()
    places: list[tuple[str, Path | None]] = [
        ("run", folder.path),
        ("settings", folder.config),
        ("numbers", folder.metrics_parquet if folder.metrics_parquet.exists() else folder.metrics_log),
        ("episodes", folder.episodes if episodes.parts(folder) else None),
        ("checkpoint", checkpoint),
        *(("picture", picture) for picture in pictures),
        ("W&B", folder.wandb if folder.wandb.exists() else None),
    ]
    for label, path in places:
        if path is not None:
            table.add_row(label, str(path))
    return table
