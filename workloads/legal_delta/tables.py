"""Tables of information gain in legal reasoning (arXiv 2508.12281), as views of sweeps."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.tables import (
    START,
    Average,
    Claim,
    Column,
    Difference,
    Half,
    Metric,
    Published,
    Row,
    Table,
    component,
    cut_off,
    length,
    truth,
)
from workloads.benchmarks.results import score_of
from workloads.legal_delta import EXACT, REASONING
from workloads.legal_delta.answers import Kind
from workloads.legal_delta.quality import LOGPROB, PERPLEXITY

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
    Row(DPO, "dpo"),
    # As the runs of stage 2 began: one model, asked once by each of them.
    Row(DISTILL, "policy", "full", checkpoint=START),
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
_IN_DOMAIN = {
    "SPP-F F1": score_of("lawbench_3_1"),
    "SPP-F JAC": score_of("lawbench_3_1", component="jaccard"),
    "CCP F1": score_of("lawbench_3_3"),
    "CCP JAC": score_of("lawbench_3_3", component="jaccard"),
    "SLP": score_of("lexeval_3_3"),
    "CAS": score_of("lawbench_3_6"),
    "CAC": score_of("lawbench_3_7"),
}
_OUT_OF_DOMAIN = ("PAE", "NJE", "PFE", "UNGEE", "LBK")
_TABLE_1 = {
    "LexiLaw-6B": (13.15, 13.14, 39.99, 35.63, 8.30, 20.80, 35.80, 23.83, 23.73, 20.11, 31.76, 31.56, 40.36, 29.50),
    "HanFei-7B": (0.26, 2.65, 30.96, 27.38, 17.10, 23.60, 39.40, 20.19, 21.19, 14.53, 31.76, 24.38, 29.09, 24.19),
    "Fuzi-7B": (25.19, 27.51, 55.93, 49.03, 15.60, 0.70, 47.20, 31.59, 26.27, 24.95, 33.53, 28.13, 40.73, 30.72),
    "DiscLaw-13B": (38.75, 48.16, 52.87, 48.03, 41.10, 0.00, 16.80, 35.10, 40.68, 42.09, 57.06, 50.94, 54.91, 49.14),
    "ChatLaw-13B": (33.28, 32.55, 27.90, 24.54, 11.60, 28.80, 41.40, 28.58, 31.36, 27.56, 42.35, 35.62, 41.09, 35.60),
    BASE: (77.10, 75.46, 53.81, 48.43, 48.30, 59.80, 66.80, 61.39, 66.94, 58.84, 90.00, 84.37, 82.90, 76.61),
    "SFT(DiscLaw)": (72.71, 67.72, 41.79, 37.56, 51.60, 38.40, 55.20, 52.14, 47.46, 42.09, 68.23, 55.00, 62.55, 55.07),
    DPO: (77.23, 73.56, 55.28, 50.05, 68.40, 56.60, 64.40, 63.65, 66.10, 60.34, 90.59, 85.94, 84.73, 77.54),
    DISTILL: (80.14, 78.12, 54.73, 49.92, 50.20, 55.60, 69.20, 62.56, 66.10, 62.75, 91.17, 82.81, 84.72, 77.51),
    LEGAL: (83.14, 79.68, 68.53, 62.90, 64.80, 64.80, 75.80, 71.38, 67.80, 64.43, 92.94, 82.19, 85.09, 78.49),
}
"""Of Qwen2.5-7B-Instruct, and of models as they were released."""
_TABLE_2 = {NO_SFT: (84.11, 62.82, 72.10, 62.20, 69.80), NO_GAIN: (84.82, 62.07, 61.40, 60.60, 72.00)}
_IN_MEAN, _OUT_MEAN = "in domain", "out of domain"
_COLUMNS_1 = (*_IN_DOMAIN, _IN_MEAN, *_OUT_OF_DOMAIN, _OUT_MEAN)
_COLUMNS_2 = ("SPP-F F1", "CCP F1", "SLP", "CAS", "CAC")


def _published() -> Iterator[tuple[tuple[str, str], Published]]:
    for columns, values, where in ((_COLUMNS_1, _TABLE_1, "Table 1, 7B"), (_COLUMNS_2, _TABLE_2, "Table 2, 7B")):
        for row, told in values.items():
            for column, value in zip(columns, told, strict=True):
                yield (row, column), Published(round(value / 100, 4), "paper", where)


BENCHMARKS = Table(
    title="LegalΔ: benchmarks of Chinese law",
    sweep="legal_delta_benchmarks",
    rows=(
        Row(BASE, "asked_before"),
        Row(SFT, "asked_sft"),
        Row("SFT(DiscLaw)"),
        Row(DPO, "asked_dpo"),
        Row(DISTILL, "asked_distilled"),
        Row(LEGAL, "asked", "full"),
        Row(NO_SFT, "asked_no_sft"),
        Row(NO_GAIN, "asked", "no_gain"),
        *(Row(name) for name in _TABLE_1 if name.rpartition("-")[2] in ("6B", "7B", "13B")),
    ),
    columns=(
        *(Column(name, metric, split=_TEST) for name, metric in _IN_DOMAIN.items()),
        Average(_IN_MEAN, tuple(_IN_DOMAIN)),
        *(Column(name, score_of(f"disclaw_{name.lower()}"), split=_TEST) for name in _OUT_OF_DOMAIN),
        Average(_OUT_MEAN, _OUT_OF_DOMAIN),
    ),
    paper="paper",
    tolerance=0.03,
    published=dict(_published()),
    note="Each benchmark by its own scorer, the answer cut out first. Published are single runs without intervals: a share of 500 "
    "items has a standard error of 0.022. The paper does not say which files are behind its columns, how it asked, nor what DPO's "
    "pairs were.",
)
QUALITY = Table(
    title="LegalΔ: reasoning by the perplexity of the right answer",
    sweep="legal_delta_quality",
    rows=(
        Row(BASE, "rated_base"),
        Row(DISTILL, "rated_distill"),
        Row(LEGAL, "rated", "full"),
        Row(NO_GAIN, "rated", "no_gain"),
    ),
    columns=(
        Column("perplexity", component(PERPLEXITY)),
        Column("log-probability", component(LOGPROB)),
        Difference("less", "log-probability"),
    ),
    baseline=BASE,
    note="Of the gold answer's tokens behind the question and the policy's reasoning, under another model (figure 5, whose numbers the "
    "paper does not tell); one answer of each held-out case.",
)
TABLES = {"ablation": ABLATION, "lengths": LENGTHS, "benchmarks": BENCHMARKS, "quality": QUALITY}
