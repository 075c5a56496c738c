"""Tables of rubric-judged moral reasoning, as views of sweeps."""

from __future__ import annotations

from statistics import fmean

from orchestrator.tables import (
    START,
    Claim,
    Column,
    Difference,
    Measured,
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
from workloads.rlvr.table1 import MARGIN, ROBUSTNESS, SHORT, TABLE1, TABLE1_LLAMA, only

EXAM = "exam"
"""The split of a judge's exam."""
_PRIOR = component("prior")
MODES = (1, 2, 4)


def _in_words(modes: int) -> str:
    return f"{modes} mode{'' if modes == 1 else 's'}"


def _rows_of_modes(modes: int) -> tuple[Row, ...]:
    """Differences are from the GRPO of as many modes."""
    grpo = f"{_in_words(modes)}: GRPO"
    return (
        Row(f"{_in_words(modes)}: before RL", "policy", f"modes{modes}-grpo", checkpoint=START, baseline=grpo),
        Row(grpo, "policy", f"modes{modes}-grpo", baseline=grpo),
        Row(f"{_in_words(modes)}: FlowRL", "policy", f"modes{modes}-flowrl", baseline=grpo),
    )


def _claim_of_modes(modes: int) -> Claim:
    """The same claim in a world that is made for the matcher, the more the more modes it pays."""
    grpo, flowrl = (f"{_in_words(modes)}: {name}" for name in ("GRPO", "FlowRL"))
    return Claim(
        f"With {_in_words(modes)} GRPO is as good as FlowRL",
        (grpo,),
        flowrl,
        ("correct", "coverage"),
        "validation",
        MARGIN,
    )


def agreement(measured: Measured) -> float | None:
    """Of a judge's exam: the share of an answer's labels that the judge says too. What it left open counts as wrong."""
    if not isinstance(measured.verdict, Scored) or not measured.gold_verdicts:
        return None
    said = measured.verdict.judgements
    return fmean(name in said and (said[name] > 0.5) == (met > 0.5) for name, met in measured.gold_verdicts.items())


TABLES = {
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
    "judge": Table(
        title="The trained judge against its teacher, on dilemmas held out whole",
        sweep="rlvr_judge",
        rows=(Row("trained judge", "judge"),),
        columns=(
            Column("agreement", agreement, split=EXAM),
            Column("prior", _PRIOR, split=EXAM),
            Column("Public", only("public", agreement), split=EXAM, tolerance=0.05),
            Column("prior, Public", only("public", _PRIOR), split=EXAM),
            Column("Theory", only("theory", agreement), split=EXAM, tolerance=0.05),
            Column("prior, Theory", only("theory", _PRIOR), split=EXAM),
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
    "table1": TABLE1,
    "table1_llama": TABLE1_LLAMA,
    "short": SHORT,
    "robustness": ROBUSTNESS,
    "modes": Table(
        title="Modes of the reward and objectives on the miniature sums",
        sweep="rlvr_modes",
        rows=tuple(row for modes in MODES for row in _rows_of_modes(modes)),
        columns=(
            Column("correct", truth, split="test"),
            Difference("correct less GRPO", "correct"),
            Column("strategies a task", component("strategies"), split="test", form=".2f"),
            Column("coverage", component("coverage"), split="test"),
            Difference("coverage less GRPO", "coverage"),
            Column("tokens", length, split="test", form=".1f"),
            Column("validation", truth),
        ),
        claims=tuple(_claim_of_modes(modes) for modes in MODES),
        note="Strategies a task: different paid ones among the right answers to one sum, of eight. Coverage: that as a share of the "
        "modes. An instrument, not a paper's result.",
    ),
}
