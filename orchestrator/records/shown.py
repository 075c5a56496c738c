"""What the verbs that look into runs found, on the terminal. What a model wrote is shown as text and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from orchestrator.records.compare import Answer, Comparison, Test
    from orchestrator.rejudge import Rejudged
    from orchestrator.replay import Metric, Replayed
    from orchestrator.sample import Sampled
    from orchestrator.sweep.statistics import Interval

WIDTH = 160
"""Columns where the output is not a terminal and text must be wrapped."""
LONGEST = 1_500
"""Characters of one text beside another."""
CRITERIA = 15
"""Most rows of an agreement by criterion; the file holds all."""


def printable(text: str) -> str:
    """Text without what a terminal would obey: control characters become a replacement character."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], console: Console | None = None) -> None:
    """A table without lines; as wide as it needs to be where the output is not a terminal."""
    table = Table(*headers, box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(Text, row))
    console = console or Console()
    if not console.is_terminal:
        console.width = 1000
    console.print(table)


def _console() -> Console:
    """For running text and columns."""
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH
    return console


def _interval(interval: Interval, form: str = "+.3f") -> str:
    if math.isnan(interval.low):
        return f"{interval.mean:{form}} (no interval: one task)"
    return f"{interval.mean:{form}} (95 % {interval.low:{form}} to {interval.high:{form}})"


# --- compare ---


def show_comparison(comparison: Comparison) -> None:
    """Settings, numbers, tests, samples and notes of a comparison."""
    names, console = [arm.name for arm in comparison.arms], _console()
    if comparison.settings:
        console.print("What was set differently")
        print_table(("key", *names), comparison.settings)
    else:
        console.print("No setting differs.")
    console.print("How they ended (means over the runs of an arm)")
    print_table(("", *names), comparison.numbers)
    console.print(f"Held-out {comparison.by} score minus that of {names[0]}, on the same tasks")
    print_table(("", "difference", "95 % interval", "n", ""), [_test_cells(test) for test in comparison.tests])
    for note in comparison.notes:
        console.print(f"Note: {note}")
    for sample in comparison.samples:
        console.print(f"\nTask {sample.task}, difference of its mean scores {sample.difference:+.3f}")
        console.print(Text(_cut(sample.prompt)))
        table = Table(box=box.SIMPLE_HEAD, expand=True)
        for name in names[:2]:
            table.add_column(Text(name), ratio=1)
        table.add_row(*(Text(_answer(answer)) for answer in sample.answers))
        console.print(table)


def _test_cells(test: Test) -> tuple[str, ...]:
    found, (first, second) = test.interval, test.runs
    n = f"{first} and {second} runs, {test.tasks} tasks" if max(test.runs) > 1 else f"{test.tasks} tasks"
    word = ("better" if found.mean > 0 else "worse") if test.told_apart else "not told apart"
    interval = "" if math.isnan(found.low) else f"{found.low:+.3f} … {found.high:+.3f}"
    return (test.arm, f"{found.mean:+.3f}", interval, n, word)


def _answer(answer: Answer) -> str:
    score = "not scored" if answer.score is None else f"score {answer.score:.3f}"
    return f"{_cut(answer.text)}\n[{score}]"


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} … ({len(text):,} characters)"


# --- rejudge ---


def show_rejudged(found: Rejudged) -> None:
    """Agreement of two judges, criterion by criterion; rewards; either against the truth."""
    console, (old, new) = _console(), found.judges
    console.print(f"{found.episodes} {found.split} episodes of step {found.step}: {old} (stored) and {new}")
    if found.criteria:
        rows = [
            (
                row.criterion,
                str(row.n),
                f"{row.accuracy:.3f}",
                f"{row.kappa:.3f}",
                f"{row.met:.3f}",
                f"{row.new_met:.3f}",
            )
            for row in found.criteria[: CRITERIA + 1]
        ]
        print_table(("criterion", "verdicts", "the same", "Cohen's kappa", "met, stored", "met, new"), rows)
        left = len(found.criteria) - len(rows)
        if left > 0:
            console.print(f"  and {left} criteria with fewer verdicts")
    if found.accuracy:
        console.print(f"verdicts the same: {_interval(found.accuracy, '.3f')} over {found.accuracy.n} tasks")
    n = found.difference.n
    console.print(f"mean reward, stored: {_interval(found.reward, '.3f')}; new: {_interval(found.new_reward, '.3f')}")
    console.print(f"new less stored, paired: {_interval(found.difference)} over {n} tasks")
    console.print(f"rank correlation of the rewards (Spearman): {found.rank:.3f}")
    if found.gold:
        print_table(
            ("against the truth", "score less truth", "mean distance", "rank correlation"),
            [(row.judge, f"{row.bias:+.3f}", f"{row.distance:.3f}", f"{row.rank:.3f}") for row in found.gold],
        )
    if found.nearer:
        console.print(
            f"distance of the new judge minus that of the stored: {_interval(found.nearer)} (negative: nearer)"
        )
    reason = f" (the first: {printable(found.reason)})" if found.reason else ""
    console.print(f"unscored: {found.unscored[0]} stored, {found.unscored[1]} new{reason}")
    console.print(f"written: {found.written}", soft_wrap=True)


# --- sample ---


def show_samples(weights: Path, samples: Sequence[Sampled]) -> None:
    """Prompts and their answers, and the weights that gave them."""
    console = _console()
    console.print(f"answered by {weights}", soft_wrap=True)
    for item in samples:
        for message in item.task.messages:
            console.print(Text(f"{message['role']}: {printable(message['content'])}"), soft_wrap=True)
        for number, (turn, gold) in enumerate(zip(item.answers, item.gold, strict=True)):
            truth = "" if gold is None else f", gold {gold:.3f}"
            told = f"  [{number}] {len(turn.completion_ids)} tokens, {turn.finish_reason}{truth}"
            console.print(Text(f"{told}\n  {printable(turn.text)}"), soft_wrap=True)


# --- replay ---


def show_replayed(found: Replayed, everything: bool, most: int = 10) -> None:
    """The episodes with the largest share of the loss, and the update's metrics beside the recorded ones."""
    console = _console()
    console.print(f"{found.run}, step {found.step}, with the weights of {found.start}", soft_wrap=True)
    terms = found.terms if everything else found.terms[:most]
    has_kl = any(term.kl is not None for term in terms)
    headers = ("episode", "tokens", "reward", "advantage", "gap", "|gap|", "ratio", "clipped", "entropy")
    rows = [
        (
            term.id, str(term.tokens), f"{term.reward:.3f}", f"{term.advantage:+.3f}", f"{term.gap:+.1e}", f"{term.gap_size:.1e}",
            f"{term.ratio:.4f}", f"{term.clipped:.3f}", f"{term.entropy:.3f}",
            *([f"{term.kl:.4f}" if term.kl is not None else ""] if has_kl else []),
            f"{term.loss:+.5f}", f"{term.share:+.1%}",
        )
        for term in terms
    ]  # fmt: skip
    print_table((*headers, *(["KL"] if has_kl else []), "loss", "share of |loss|"), rows)
    shown = (
        f"all {len(found.terms)}" if len(terms) == len(found.terms) else f"the first {len(terms)} of {len(found.terms)}"
    )
    left = found.played - len(found.terms)
    console.print(
        f"{shown} episodes that count in the update; loss {sum(term.loss for term in found.terms):+.6f} in all. Of the "
        f"{found.played} that were played {left} took no part ({found.unscored} unscored)."
    )
    print_table(("metric", "recorded", "replayed", ""), [_metric_cells(metric) for metric in found.metrics])
    differing = [metric.name for metric in found.metrics if metric.recorded is not None and not metric.same]
    if differing:
        console.print(
            f"Not the same: {', '.join(differing)}. Either the weights or the settings are not those of the run, or the objective "
            "draws at random (algorithm.flow_dropout)."
        )


def _metric_cells(metric: Metric) -> tuple[str, ...]:
    recorded = "not recorded" if metric.recorded is None else f"{metric.recorded:.7g}"
    word = "" if metric.recorded is None else "the same" if metric.same else "differs"
    return (metric.name, recorded, f"{metric.replayed:.7g}", word)
