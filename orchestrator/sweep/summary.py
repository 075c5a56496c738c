"""What a sweep came to: a table an arm of each stage, what failed, and the same as summary.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.text import Text

from orchestrator.errors import ConfigError
from orchestrator.records import jsonl
from orchestrator.records.compare import Arm, compare
from orchestrator.records.display import duration
from orchestrator.records.folder import FORMAT, RunFolder, write_json
from orchestrator.records.shown import print_table
from orchestrator.sweep import pictures
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.graph import stages
from orchestrator.sweep.journal import EARLY, FINISHED, LASTING, SPENT, Journal, Tried, best_point, in_words, mean_score
from orchestrator.sweep.spec import Stage, Sweep
from orchestrator.sweep.statistics import mean_interval
from orchestrator.sweep.trial import evaluations, spent

POINT = 0.01
"""A point of score, by which its cost is told."""


def conclude(sweep: Sweep, folder: SweepFolder, journal: Journal, skipped: Mapping[str, str]) -> None:
    """Write summary.json and the pictures, and show the table that ends a sweep."""
    summary = summarise(sweep, folder, journal, skipped)
    write_json(folder.summary, summary)
    drawn = pictures.draw(sweep, folder, journal)
    console = Console()
    _print_tables(summary)
    for arm in summary["arms"]:
        if "winner" in arm:
            console.print(
                Text(f"{arm['stage']}: the best is {arm['winner']['run']}, {in_words(arm['winner']['point'])}"),
                soft_wrap=True,
            )
    for failed in summary["failed"]:
        console.print(
            Text(f"{failed['stage']}, trial {failed['trial']} ({failed['run']}): {failed['reason']}", "red"),
            soft_wrap=True,
        )
    for name, reason in skipped.items():
        console.print(Text(f"{name}: skipped, because {reason}", "red"), soft_wrap=True)
    for path in (folder.summary, *drawn):
        console.print(Text(str(path)), soft_wrap=True)


def summarise(sweep: Sweep, folder: SweepFolder, journal: Journal, skipped: Mapping[str, str]) -> dict[str, Any]:
    """The numbers of a sweep, from its journal and its runs. skipped: why stages were skipped, by name."""
    found, tests = [], []
    for stage in stages(sweep):
        tried = journal.of(stage.name)
        arms = {name: [one for one in tried if one.arm == name] for name in stage.node.arms}
        found += [_arm(sweep, folder, stage, name, mine) for name, mine in arms.items() if mine]
        tests += _differences(folder, stage, arms)
    failed = [
        {
            "stage": one.stage,
            "trial": one.number,
            "run": one.run,
            "reason": one.reason or one.outcome or "was broken off",
        }
        for one in journal.all()
        if one.outcome not in LASTING
    ]
    return {
        "format": FORMAT, "sweep": sweep.name, "about": sweep.about, "metric": sweep.metric, "mode": sweep.mode,
        "hours": sum(journal.spent_h(stage.name) for stage in stages(sweep)),
        "shared_raters": [
            {"stage": stage.name, **spent} for stage in stages(sweep) if (spent := journal.pool_of(stage.name))
        ],
        "arms": found, "differences": tests, "failed": failed, "skipped": dict(skipped),
    }  # fmt: skip


def _arm(sweep: Sweep, folder: SweepFolder, stage: Stage, name: str, tried: Sequence[Tried]) -> dict[str, Any]:
    """One arm of a stage. score: of its runs at their last step, or of its search's winner."""
    finished = [one for one in tried if one.outcome == FINISHED]
    best = best_point(tried, sweep.mode) if stage.arm is not None else []
    counted = finished if stage.arm is None else best
    took = spent_on(folder, tried)
    counted = [one for one in counted if one.scores]  # runs without a policy may have none
    rows = [evaluations(RunFolder(folder.storage / one.run), sweep.metric) for one in counted]
    values: dict[str, Any] = {
        "stage": stage.name, "arm": name, "runs": len(tried), "finished": len(finished),
        "stopped_early": sum(one.outcome == EARLY for one in tried),
        **took,
    }  # fmt: skip
    busy = _busy_share(folder, tried)
    if busy is not None:
        values["busy_share"] = busy
    if rows:
        values["score"] = score_of(rows, sweep.metric)
        # From the first score of all, not of the last run: a population's winner was forked from one that had learned already.
        gain = fmean(one.score - one.scores[0][1] for one in counted)
        values["gain"] = gain if sweep.mode == "max" else -gain
        device = "gpu_seconds" if took["gpu_seconds"] else "cpu_seconds"
        # Of a run, on the mean over the seeds; of a search all that it took to find the winner.
        paid = took[device] if stage.arm is not None else spent_on(folder, counted)[device] / len(counted)
        if values["gain"] > 0 and paid:
            values["cost_of_a_point"] = paid / (values["gain"] / POINT)
    if best:
        values["winner"] = {"run": best[0].run, "score": mean_score(best), "point": dict(best[0].point)}
    return values


def spent_on(folder: SweepFolder, tried: Sequence[Tried]) -> dict[str, float]:
    """What the runs of trials took, by the names of `SPENT`, to their end. A run that several trials share counts once."""
    found = [spent(RunFolder(folder.storage / run)) for run in _runs(tried)]
    return {name: sum(one[name] for one in found) for name in SPENT}


def _runs(tried: Sequence[Tried]) -> list[str]:
    return list(dict.fromkeys(run for one in tried for run in one.runs))


def score_of(rows: Sequence[Sequence[Mapping[str, float]]], metric: str) -> dict[str, float]:
    """Mean of the last scores with a 95 % interval, from the evaluations of each run. Runs are the unit; of a single run its own
    interval over tasks is all that can be said. n: runs, or tasks of that one."""
    last = [row[-1] for row in rows]
    if len(last) > 1:
        found = mean_interval([row[metric] for row in last])
        return {"mean": found.mean, "low": found.low, "high": found.high, "n": found.n}
    only = last[0]
    return {
        "mean": only[metric],
        "low": only.get(f"{metric}_low", math.nan),
        "high": only.get(f"{metric}_high", math.nan),
        "n": int(only.get(f"{metric}_n", 1)),
    }


def _busy_share(folder: SweepFolder, tried: Sequence[Tried]) -> float | None:
    """The share of what the runs held that was at work: of GPUs where they have any, else of CPUs. None where it was not counted."""
    rows = [row for run in _runs(tried) for row in jsonl.read(RunFolder(folder.storage / run).ledger_log)]
    kind = "gpu" if any(row["gpu_seconds"] for row in rows) else "cpu"
    held = sum(row.get(f"{kind}_seconds", 0.0) for row in rows)
    return sum(row.get(f"busy_{kind}_seconds", 0.0) for row in rows) / held if held else None


def _differences(folder: SweepFolder, stage: Stage, arms: Mapping[str, Sequence[Tried]]) -> list[dict[str, Any]]:
    """Each arm against the first one, over runs and the held-out tasks that they share."""
    finished = {
        name: tuple(RunFolder(folder.storage / one.run) for one in tried if one.outcome == FINISHED)
        for name, tried in arms.items()
    }
    there = [Arm(name, runs) for name, runs in finished.items() if runs]
    if stage.arm is not None or len(there) < 2:
        return []
    try:
        found = compare(there)
    except ConfigError as error:  # without stored episodes or common tasks there is no paired test
        return [{"stage": stage.name, "note": str(error)}]
    return [
        {
            "stage": stage.name, "arm": test.arm, "against": there[0].name, "by": found.by, "mean": test.interval.mean,
            "low": test.interval.low, "high": test.interval.high, "n": test.interval.n,
        }
        for test in found.tests
    ]  # fmt: skip


def _print_tables(summary: Mapping[str, Any]) -> None:
    """The arms, and their differences where there are any."""
    rows = []
    for arm in summary["arms"]:
        score, device = arm.get("score"), "gpu_seconds" if arm["gpu_seconds"] else "cpu_seconds"
        kind = device[:3].upper()
        early = f", {arm['stopped_early']} stopped early" if arm["stopped_early"] else ""
        rows.append(
            (
                arm["stage"],
                arm["arm"],
                f"{arm['finished']} of {arm['runs']}{early}",
                f"{score['mean']:.3f}" if score else "",
                _interval(score) if score else "",
                str(score["n"]) if score else "",
                duration(arm["seconds"]),
                f"{arm[device] / 3600:.2f} {kind}-hours",
                f"{arm['busy_share']:.0%}" if "busy_share" in arm else "",
                f"{arm['cost_of_a_point']:.0f} {kind}-s" if "cost_of_a_point" in arm else "",
            )
        )
    headers = ("stage", "arm", "runs", summary["metric"], "95 % interval", "n", "time", "held", "busy", "0.01 costs")
    print_table(headers, rows)
    for shared in summary["shared_raters"]:
        kind = "gpu" if shared["gpu_seconds"] else "cpu"
        Console().print(
            f"{shared['stage']}: beside its runs, the raters that they share held {shared[f'{kind}_seconds'] / 3600:.2f} "
            f"{kind.upper()}-hours in {duration(shared['seconds'])}",
            soft_wrap=True,
        )
    tests = [test for test in summary["differences"] if "arm" in test]
    if tests:
        headers_of_tests = ("stage", "arm", "against", "by", "difference", "95 % interval", "n")
        print_table(
            headers_of_tests,
            [
                (test["stage"], test["arm"], test["against"], test["by"], f"{test['mean']:+.3f}", _interval(test), str(test["n"]))
                for test in tests
            ],
        )  # fmt: skip


def _interval(values: Mapping[str, float]) -> str:
    return "" if math.isnan(values["low"]) else f"{values['low']:.3f} to {values['high']:.3f}"
