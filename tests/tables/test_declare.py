"""What a table may say, and what is refused with a reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.tables import LAST, START, Average, Claim, Column, Difference, Published, Row, truth
from tests.tables.made_up import table

CLAIM = Claim("as good", ("GRPO",), "FlowRL", ("tested",), "chosen", 0.03)
COLUMNS = (Column("chosen", truth), Column("tested", truth, split="test"))


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"checkpoint": "best"}, "The best by the training judge is the one that exploits it best"),
        ({"checkpoint": -1}, "checkpoint=-1"),
        ({"rows": (Row("Base", "base", checkpoint="best"),)}, "checkpoint='best' of 'Base'"),  # type: ignore[arg-type]
        ({"rows": (Row("A", "base"), Row("A", "policy", "grpo"))}, "no name twice"),
        ({"columns": ()}, "its columns need names"),
        ({"columns": (Average("mean", ("truth", "other")),)}, "is of 'other', which is no other column"),
        ({"columns": (Column("truth", truth, split="train"),)}, "is of training episodes"),
        ({"baseline": None}, "name the row that it is from"),
        ({"baseline": "Start"}, "baseline='Start' is no row"),
        ({"tolerance": None}, "say how near counts as reproduced"),
        ({"paper": None}, "say at which preset they hold"),
        ({"published": {("PPO", "truth"): Published(1.0, "paper")}}, "for 'PPO', 'truth', which is no cell"),
        ({"columns": (Average("x", ("y",)), Average("y", ("x",)))}, "'x' is computed of itself"),
        (
            {
                "columns": (
                    Column("truth", truth),
                    Difference("gain", "truth"),
                    Average("mean", ("gain", "truth")),
                    Difference("twice", "mean"),
                )
            },
            "'twice' is a difference of a difference",
        ),
        ({"rows": (Row("Base", "base", best_of=0),)}, "best_of=0 is no number of answers"),
        ({"columns": (Column("truth", truth, samples=-1),)}, "samples=-1 is no number of answers"),
        ({"claims": (CLAIM,)}, "'tested', which is no column of a metric"),
        (
            {"columns": COLUMNS, "claims": (replace(CLAIM, of=("GRPO", "PPO")),)},
            "is of 'PPO', which is no row with runs",
        ),
        ({"columns": COLUMNS, "claims": (replace(CLAIM, than="GRPO"),)}, "compares 'GRPO' with itself"),
        ({"columns": COLUMNS, "claims": (replace(CLAIM, columns=("chosen",)),)}, "on the very tasks"),
        ({"columns": COLUMNS, "claims": (replace(CLAIM, margin=-0.01),)}, "has the margin -0.01"),
        (
            {"rows": (Row("Base", "base", checkpoint=START),), "columns": (Column("truth", truth, checkpoint=LAST),)},
            "only one of the two may",
        ),
    ],
)
def test_what_cannot_be_is_refused(parts: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        table(**{"published": {}, **parts} if "tolerance" not in parts and "paper" not in parts else parts)


def test_a_provenance_is_one_of_three() -> None:
    with pytest.raises(ConfigError, match="paper, secondary, computed"):
        Published(0.5, "memory")  # type: ignore[arg-type]


def test_the_column_or_the_row_says_the_checkpoint_before_the_table() -> None:
    start, last = Column("before", truth, checkpoint=START), Column("after", truth)
    made = table(columns=(start, last, Difference("gain", "after")), published={}, checkpoint=7)
    row = made.rows[0]
    assert (made.checkpoint_of(row, start), made.checkpoint_of(row, last)) == (0, 7)
    assert made.checkpoint_of(Row("x", "base", checkpoint=LAST), last) == LAST


def test_a_table_as_the_papers_have_it_can_be_said() -> None:
    """Two models by methods, two benchmarks played by nodes of their own, their average, relative gains, and a model of others."""
    made = table(
        rows=(
            Row("Qwen, Base", "policy", "grpo", checkpoint=START),
            Row("Qwen, GRPO", "policy", "grpo", baseline="Qwen, Base"),
            Row("o3"),
        ),
        columns=(
            Column("Public", truth, node="public"),
            Column("Theory", truth, node="theory"),
            Average("Avg", ("Public", "Theory")),
            Difference("gain", "Avg", relative=True, form="+.1%", tolerance=0.1),
        ),
        baseline="Qwen, Base",
        published={("Qwen, GRPO", "gain"): Published(0.81, "secondary"), ("o3", "Avg"): Published(0.7447, "secondary")},
    )
    assert made.baseline_of(made.row("Qwen, GRPO")) == "Qwen, Base"
    assert made.tolerance_of(made.column("gain")) == 0.1
    assert made.tolerance_of(made.column("Avg")) == 0.05
