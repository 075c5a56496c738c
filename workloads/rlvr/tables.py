"""Tables of rubric-judged moral reasoning, as views of sweeps."""

from __future__ import annotations

from statistics import fmean

from orchestrator.tables import (
    Column,
    Difference,
    Measured,
    Metric,
    Published,
    Row,
    Table,
    component,
    cut_off,
    gap,
    judged,
    length,
    truth,
)
from orchestrator.values import Scored

NEUTRAL = ("", "neutral")
"""Theories of dilemmas that name none: MoReBench's Public."""


def agreement(measured: Measured) -> float | None:
    """Of a judge's exam: the share of an answer's labels that the judge says too. What it left open counts as wrong."""
    if not isinstance(measured.verdict, Scored) or not measured.gold_verdicts:
        return None
    said = measured.verdict.judgements
    return fmean(name in said and (said[name] > 0.5) == (met > 0.5) for name, met in measured.gold_verdicts.items())


def of_part(metric: Metric, public: bool) -> Metric:
    """The metric on dilemmas of MoReBench's Public alone, or on those of its Theory."""

    def part(measured: Measured) -> float | None:
        theory = measured.episode.task.reference.get("theory", "")
        return metric(measured) if (theory in NEUTRAL) == public else None

    return part


EXAM = "exam"
_PRIOR = component("prior")

TABLES = {
    "judge": Table(
        title="The trained judge against its teacher, on dilemmas held out whole",
        sweep="rlvr_judge",
        rows=(Row("trained judge", "judge"),),
        columns=(
            Column("agreement", agreement, split=EXAM),
            Column("prior", _PRIOR, split=EXAM),
            Column("Public", of_part(agreement, public=True), split=EXAM, tolerance=0.05),
            Column("prior, Public", of_part(_PRIOR, public=True), split=EXAM),
            Column("Theory", of_part(agreement, public=False), split=EXAM, tolerance=0.05),
            Column("prior, Theory", of_part(_PRIOR, public=False), split=EXAM),
            Column("score less truth", gap, split=EXAM, form="+.3f"),
        ),
        paper="paper",
        published={
            ("trained judge", "Public"): Published(0.8707, "secondary", "agreement with GPT-5"),
            ("trained judge", "Theory"): Published(0.6921, "secondary", "agreement with GPT-5"),
        },
        note="Agreement is over labelled criteria, answers, dilemmas and runs, in this order. The prior is the best guess for a "
        "criterion that ignores the answer, which no such guess could know.",
    ),
    "quick": Table(
        title="The miniature before RL and after a short search",
        sweep="rlvr_quick",
        rows=(Row("warmed-up policy", "teach"), Row("winner of the search", "policy")),
        columns=(
            Column("truth", truth),
            Difference("gain", "truth"),
            Column("judge", judged),
            Column("judge less truth", gap, form="+.3f"),
            Column("tokens", length, form=".1f"),
            Column("cut off", cut_off),
        ),
        baseline="warmed-up policy",
        note="An instrument, not a paper's result: one seed, twelve steps, a world that is generated.",
    ),
}
