"""What a run came to: the numbers of summary.json, the pictures and the table that ends a run."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError
from orchestrator.records import episodes, ledger, metrics, page, plots
from orchestrator.records.diagnosis import diagnose
from orchestrator.records.folder import FORMAT, RunFolder, read_json
from orchestrator.records.headline import headline
from orchestrator.sweep.statistics import Interval, mean_interval
from orchestrator.values import JUDGE, POLICY

_EVALUATED = ("eval/oracle", "eval/judge", "eval/reward")
_BEST_OF = ("eval/best_of", "eval/best_of_n", "eval/best_of_n_judge", "eval/best_of_n_reward")


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
    if folder.contamination.is_file():
        found = read_json(folder.contamination)
        summary["contamination"] = {
            name: found[name] for name in ("action", "trained", "evaluated", "touched", "inherited")
        }
    others = [role for role in (read_json(folder.models) if folder.models.exists() else {}) if role != JUDGE]
    raters = {role: read_json(folder.exam(role)) for role in others if folder.exam(role).exists()}
    if raters:
        summary["raters"] = raters
    summary |= _totals(rows)
    times = ledger.read(folder.ledger_log)
    if times.num_rows:
        summary |= _times(times)
    if rows:
        summary["diagnosis"] = [finding.to_json() for finding in diagnose(rows)]
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
    """Mean gold of each task over all of its episodes that have one, scored or not: those of eval/oracle."""
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
    """Seconds by phase, CPU- and GPU-seconds held, and the share of them that was busy: of the GPUs where there are any."""
    columns = ("seconds", "gpu_seconds", "cpu_seconds", "busy_gpu_seconds", "busy_cpu_seconds")
    sums = times.group_by("phase").aggregate([(name, "sum") for name in columns]).to_pylist()
    seconds = {row["phase"]: row["seconds_sum"] for row in sums}
    total = {name: sum(row[f"{name}_sum"] or 0.0 for row in sums) for name in columns}
    found: dict[str, Any] = {
        # What ran ahead took no time of its own.
        "seconds": seconds
        | {"total": sum(value for name, value in seconds.items() if not name.endswith(ledger.AHEAD))},
        "gpu_seconds": total["gpu_seconds"],
        "cpu_seconds": total["cpu_seconds"],
    }
    kind = "gpu" if total["gpu_seconds"] else "cpu"
    if total[f"{kind}_seconds"]:
        found["busy_share"] = total[f"busy_{kind}_seconds"] / total[f"{kind}_seconds"]
    return found


def render(folder: RunFolder | Path, console: Console | None = None, unredacted: bool = False) -> None:
    """Draw the plots, write report.html and show what was gained, what is wrong, where everything lies and what to try next.

    unredacted: report.html shows texts too whose source forbids passing them on.
    """
    folder = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
    console = console or Console()
    pictures = plots.draw(folder)
    summary = read_json(folder.summary) if folder.summary.exists() else summarise(folder)
    findings = diagnose(metrics.read(folder.metrics_log))
    page.write(folder, summary, findings, unredacted)
    # Before the first row there is only the title.
    results = _results(summary)
    console.print(results if results.row_count else results.title, highlight=False)
    if "reason" in summary:
        console.print(Text(summary["reason"], style="red"), soft_wrap=True)
    for finding in findings:
        over = "" if finding.lasting else " (over by the end)"
        told = Text.assemble(
            (f"{finding.name}{over}", "yellow"), f", step {finding.step}: {finding.says}. {finding.remedy}"
        )
        console.print(told, soft_wrap=True, highlight=False)
    console.print(_places(folder, pictures))
    console.print("[bold]Next[/bold]")
    for command in _evaluation_next(folder, summary) if _evaluates(folder) else _next(folder):
        console.print(f"  {command}", highlight=False, soft_wrap=True)


def _evaluates(folder: RunFolder) -> bool:
    """Whether the run only evaluates; not told of one whose own workload is gone."""
    try:
        return find_workload(str(folder.settings().get("workload", ""))).config.evaluates
    except ConfigError:
        return False


def _evaluation_next(folder: RunFolder, summary: Mapping[str, Any]) -> list[str]:
    """What to do with an evaluation: the rest of it, or its scores by each view and the same questions to another model."""
    here = f"orchestrate evaluate {folder.settings()['model']['name']} {folder.config}"
    if "evaluation" not in summary:
        return [here]
    views = dict.fromkeys(view for part in summary["evaluation"]["parts"] for view in part["views"])
    return [
        *(f"{here} --by {shlex.quote(view)}" for view in views),
        f"orchestrate evaluate MODEL {folder.config} name=null",
    ]


def _next(folder: RunFolder) -> list[str]:
    """What to do with a run that has ended."""
    again = f"orchestrate train {folder.config} name=null seed=1"
    models = read_json(folder.models) if folder.models.is_file() else {}
    if models and POLICY not in models:
        storage = folder.path.parent.parent
        there = "" if storage == Path("runs") else f" storage={storage}"
        whole = folder.workload.partition(".")[0]
        return [again, *(f"orchestrate train {whole} {role}=run:{folder.name}@{role}{there}" for role in models)]
    # A name alone is looked for in runs/.
    named = folder.name if folder.path == Path("runs", folder.workload, folder.name) else folder.path
    return [
        again,
        f"orchestrate compare {named} ANOTHER",
        f'orchestrate sample {named} "a prompt"',
        f"orchestrate serve {named}",
    ]


def _results(summary: Mapping[str, Any]) -> Table:
    table = Table(title=f"{summary['run']}: {summary['status']}, {summary['steps']} steps", title_justify="left")
    table.add_column("")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("n", justify="right")
    for section in headline(summary):
        for line in section:
            table.add_row(line.label, line.value, line.interval, line.n, style="bold" if line.main else None)
        table.add_section()
    return table


def _places(folder: RunFolder, pictures: Sequence[Path]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    checkpoint = folder.newest_checkpoint()
    places: list[tuple[str, Path | None]] = [
        ("run", folder.path),
        ("report", folder.report),
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
