"""Tables of rubric-judged moral reasoning, as views of sweeps."""

from __future__ import annotations

from orchestrator.tables import Column, Difference, Row, Table, cut_off, gap, judged, length, truth

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
    )
}
