"""Table 1 of the study (arXiv 2603.10588), the claim that it is to decide, and what beside the method might decide it."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.rollouts.rubrics import paper_reward, rubric_of
from orchestrator.tables import (
    START,
    Claim,
    Column,
    Difference,
    Measured,
    Metric,
    Published,
    Row,
    Table,
    cut_off,
    gap,
    judged,
    length,
    reward,
    truth,
)
from workloads.rlvr import part_of

METHODS = {"PPO": "ppo", "GRPO": "grpo", "REINFORCE++": "reinforce_pp", "DAPO": "dapo", "FlowRL": "flowrl"}
"""Rows of Table 1 and their arms."""
MATCHER = "FlowRL"
"""The one that matches a distribution; the others maximise the reward."""
MARGIN = 0.03
"""How much worse than FlowRL a maximiser may be and still count as no worse, on the scale of the score (0 to 1)."""
PARTS = {"Public": "public", "Theory": "theory"}
CELLS = tuple(f"{part} {score}" for part in PARTS for score in ("Score@1", "Avg@8"))


def only(part: str, metric: Metric) -> Metric:
    """The metric of the dilemmas of one part of MoReBench."""

    def of_part(measured: Measured) -> float | None:
        return metric(measured) if part_of(measured.episode.task) == part else None

    return of_part


def paper_truth(measured: Measured) -> float | None:
    """The paper's reward by the true verdicts, in [-1, 1]; without the penalty of an answer that was cut off."""
    met = measured.gold_verdicts
    return paper_reward(rubric_of(measured.episode), met) if met else None


def _columns() -> tuple[Column | Difference, ...]:
    """Score@1, Avg@8 and gain of both parts, on test dilemmas; and beside them what they are to be read with."""
    columns: list[Column | Difference] = []
    for part, key in PARTS.items():
        score = only(key, truth)
        columns += [
            Column(f"{part} Score@1", score, split="test", samples=1),
            Column(f"{part} Avg@8", score, split="test", samples=8),
            Difference(f"{part} gain", f"{part} Avg@8", relative=True, form="+.1%", tolerance=0.1),
        ]
    return (
        *columns,
        Column("validation", truth),
        Column("judge", judged, split="test"),
        Column("judge less truth", gap, split="test", form="+.3f"),
        Column("tokens", length, split="test", form=".1f"),
    )


CLAIM = Claim(
    "The best reward-maximiser is as good as distribution matching",
    of=tuple(name for name in METHODS if name != MATCHER),
    than=MATCHER,
    columns=CELLS,
    chosen_by="validation",
    margin=MARGIN,
    length="tokens",
)
_SECONDARY = {
    ("DAPO", "Public Score@1"): 0.67, ("DAPO", "Public Avg@8"): 0.67, ("DAPO", "Public gain"): 0.8108,
    ("DAPO", "Theory Score@1"): 0.76, ("DAPO", "Theory Avg@8"): 0.72, ("DAPO", "Theory gain"): 0.6744,
    ("REINFORCE++", "Public Score@1"): 0.65, ("REINFORCE++", "Public Avg@8"): 0.65, ("REINFORCE++", "Public gain"): 0.7568,
    ("FlowRL", "Public Score@1"): 0.60, ("FlowRL", "Public Avg@8"): 0.61, ("FlowRL", "Public gain"): 0.6486,
    ("FlowRL", "Theory Score@1"): 0.65, ("FlowRL", "Theory Avg@8"): 0.65, ("FlowRL", "Theory gain"): 0.5116,
}  # fmt: skip
"""Of Qwen2.5-7B-Base, as readers of the paper quote Table 1."""
_SECONDARY_LLAMA = {
    ("DAPO", "Public Score@1"): 0.69, ("DAPO", "Public Avg@8"): 0.72, ("DAPO", "Public gain"): 0.60,
    ("DAPO", "Theory Score@1"): 0.74, ("DAPO", "Theory Avg@8"): 0.76, ("DAPO", "Theory gain"): 0.4902,
    ("REINFORCE++", "Public gain"): 0.3333,
    ("FlowRL", "Public Score@1"): 0.61, ("FlowRL", "Public Avg@8"): 0.60, ("FlowRL", "Public gain"): 0.3333,
    ("FlowRL", "Theory Score@1"): 0.72, ("FlowRL", "Theory Avg@8"): 0.70, ("FlowRL", "Theory gain"): 0.3725,
}  # fmt: skip
"""Of Llama-3.1-8B-Instruct."""
_COMPUTED = {("Base", "Public Avg@8"): 0.37, ("Base", "Theory Avg@8"): 0.43}
"""Avg@8 / (1 + gain) of the quoted cells."""
_COMPUTED_LLAMA = {
    ("Base", "Public Avg@8"): 0.45, ("Base", "Theory Avg@8"): 0.51, ("REINFORCE++", "Public Avg@8"): 0.60
}  # fmt: skip


def _published(
    secondary: dict[tuple[str, str], float], computed: dict[tuple[str, str], float]
) -> dict[tuple[str, str], Published]:
    quoted = {cell: Published(value, "secondary", "Table 1") for cell, value in secondary.items()}
    return quoted | {cell: Published(value, "computed", "from Table 1") for cell, value in computed.items()}


TABLE1 = Table(
    title="RLVR on moral reasoning: reward-maximisers and FlowRL",
    sweep="rlvr_table1",
    rows=(
        Row("Base", "policy", "grpo", checkpoint=START),
        Row("best of 8", "policy", "grpo", checkpoint=START, best_of=8),
        *(Row(name, "policy", arm) for name, arm in METHODS.items()),
    ),
    columns=_columns(),
    baseline="Base",
    paper="paper",
    tolerance=MARGIN,
    published=_published(_SECONDARY, _COMPUTED),
    claims=(CLAIM,),
    note="Score@1: one answer to a dilemma; Avg@8: the mean of eight; gain: of Avg@8 over Base. Scores are MoReBench's, 0 to 1, by the "
    "truth.",
)

TABLE1_LLAMA = replace(
    TABLE1,
    title="RLVR on moral reasoning: Llama-3.1-8B-Instruct",
    settings=("name=rlvr_table1_llama", "preset=paper", "model=hf:meta-llama/Llama-3.1-8B-Instruct"),
    published=_published(_SECONDARY_LLAMA, _COMPUTED_LLAMA),
)
"""The paper's second policy, at its size alone."""
SHORT = replace(
    TABLE1,
    title="RLVR on moral reasoning in short: ten steps, two seeds",
    sweep="rlvr_short",
    paper=None,
    tolerance=None,
    published={},
)

ROBUSTNESS = Table(
    title="Other formulas and other judges",
    sweep="rlvr_table1",
    rows=tuple(
        Row(f"{name}, {words}", node, METHODS[name])
        for node, words in (
            ("policy", "as in Table 1"),
            ("official", "official formula"),
            ("other_judges", "other judges"),
        )
        for name in ("DAPO", "FlowRL")
    ),
    columns=(
        Column("official score", truth, split="test"),
        Column("paper's reward", paper_truth, split="test"),
        Column("judge's official score", judged, split="test"),
        Column("reward", reward, split="test"),
        Column("tokens", length, split="test", form=".1f"),
        Column("cut off", cut_off, split="test", form=".1%"),
    ),
    note="As in Table 1: the learning rate that the search chose; the others have the preset's.",
)
"""Trained on one formula or the other, by one judge or another, and read by both formulas."""
