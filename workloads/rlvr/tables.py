"""Tables of rubric-judged moral reasoning, as views of sweeps."""

from __future__ import annotations

from orchestrator.tables import START, Column, Difference, Row, Table, component, cut_off, gap, judged, length, truth


def _modes(count: int, name: str) -> tuple[Row, ...]:
    """The rows of one number of modes: differences are from its GRPO."""
    grpo = f"{name}: GRPO"
    return (
        Row(f"{name}: before RL", "policy", f"modes{count}-grpo", checkpoint=START, baseline=grpo),
        Row(grpo, "policy", f"modes{count}-grpo", baseline=grpo),
        Row(f"{name}: FlowRL", "policy", f"modes{count}-flowrl", baseline=grpo),
    )


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
    "modes": Table(
        title="Modes of the reward and objectives on the miniature sums",
        sweep="rlvr_modes",
        rows=(*_modes(1, "1 mode"), *_modes(2, "2 modes"), *_modes(4, "4 modes")),
        columns=(
            Column("correct", truth),
            Difference("correct less GRPO", "correct"),
            Column("strategies a task", component("strategies"), form=".2f"),
            Column("coverage", component("coverage")),
            Difference("coverage less GRPO", "coverage"),
            Column("tokens", length, form=".1f"),
        ),
        note="Strategies a task: different paid ones among the right answers to one sum, of eight. Coverage: that as a share of the "
        "modes. An instrument, not a paper's result.",
    ),
}
