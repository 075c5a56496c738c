"""Tables of information gain in legal reasoning (arXiv 2508.12281), as views of sweeps."""

from __future__ import annotations

from orchestrator.tables import (
    Average,
    Claim,
    Column,
    Difference,
    Half,
    Metric,
    Row,
    Table,
    component,
    cut_off,
    length,
    truth,
)
from workloads.legal_delta import EXACT, REASONING
from workloads.legal_delta.answers import Kind

_TEST = "test"
BASE, SFT, DISTILL, DPO, LEGAL = "zero-shot", "SFT", "R1-Distill", "DPO", "LegalΔ"
NO_SFT, NO_GAIN = "w/o SFT", "w/o info gain"
TASKS = {
    "articles": Kind.ARTICLE,
    "charges": Kind.CHARGE,
    "sentences": Kind.SENTENCE,
    "cases": Kind.CHOICE,
    "amounts": Kind.AMOUNT,
}
"""Columns of Table 2 and their tasks."""
_CHOSEN_BY, _TOKENS = "validation", "tokens"


def of(kind: Kind, metric: Metric) -> Metric:
    """The metric of one task's cases."""
    return lambda measured: metric(measured) if measured.episode.task.reference["kind"] == kind else None


def known(name: str) -> Metric:
    """A truth about an answer: EXACT, or REASONING in the miniature."""
    return lambda measured: measured.gold_verdicts.get(name)


def _score(kind: Kind) -> Metric:
    """F1 of articles and charges; whether the answer is right, of other tasks."""
    return of(kind, truth if kind in (Kind.ARTICLE, Kind.CHARGE) else known(EXACT))


METHODS = (
    Row(BASE, "base"),
    Row(SFT, "sft"),
    Row(DPO, "policy", "dpo"),
    Row(DISTILL, "distill"),
    Row(LEGAL, "policy", "full"),
    Row(NO_SFT, "no_sft"),
    Row(NO_GAIN, "policy", "no_gain"),
)

ABLATION = Table(
    title="LegalΔ: its stages and its parts",
    sweep="legal_delta_ablation",
    rows=METHODS,
    columns=(
        *(Column(name, _score(kind), split=_TEST) for name, kind in TASKS.items()),
        Average("mean", tuple(TASKS)),
        Column("worth", truth, split=_TEST),
        Difference("gain", "worth"),
        Column("reasoning", known(REASONING), split=_TEST),
        Column("format", component("format"), split=_TEST),
        Column(_TOKENS, length, split=_TEST, form=".1f"),
        Column("cut off", cut_off, split=_TEST, form=".1%"),
        Column(_CHOSEN_BY, truth),
    ),
    baseline=DISTILL,
    claims=(
        Claim("Stage 2 beats stage 1", of=(LEGAL,), than=DISTILL, columns=("worth",), chosen_by=_CHOSEN_BY, margin=0.0),
        Claim(
            "Information gain adds to right answers",
            of=(LEGAL,),
            than=NO_GAIN,
            columns=("worth", "reasoning"),
            chosen_by=_CHOSEN_BY,
            margin=0.0,
            length=_TOKENS,
        ),
    ),
    note="Articles and charges are scored by F1, the others by whether the answer is right; worth is R_legal on a scale of 0 to 1, "
    "reasoning the F1 of its steps against the oracle's (miniature).",
)


def _halves(name: str, metric: Metric, form: str = ".3f") -> tuple[Column, ...]:
    """On the cases that the row without gain answers shortly, and at length."""
    return tuple(
        Column(f"{name}, {half}", metric, split=_TEST, half=Half(NO_GAIN, length, upper=half == "long"), form=form)
        for half in ("short", "long")
    )


LENGTHS = Table(
    title="LegalΔ: length against score",
    sweep="legal_delta_ablation",
    rows=(Row(LEGAL, "policy", "full"), Row(NO_GAIN, "policy", "no_gain")),
    columns=(*_halves("tokens", length, ".1f"), *_halves("worth", truth)),
    note="Halves of the cases by the mean length of the answers without information gain (Table 3).",
)
TABLES = {"ablation": ABLATION, "lengths": LENGTHS}
