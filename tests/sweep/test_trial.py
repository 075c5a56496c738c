"""What a trial looks at while its run goes on."""

from __future__ import annotations

import pytest

from orchestrator.errors import RunError
from orchestrator.sweep.trial import check_metric

ROWS = [{"step": 1, "reward/mean": 0.5}, {"step": 2, "eval/judge": 0.5, "eval/oracle": 0.25}]


def test_a_misspelt_metric_is_told_at_the_first_evaluation() -> None:
    check_metric(ROWS[:1], "eval/orcale")
    check_metric(ROWS, "eval/oracle")
    # A metric of training is in other rows.
    check_metric(ROWS, "reward/mean")
    with pytest.raises(RunError, match=r"of step 2 has no eval/orcale, only eval/judge, eval/oracle\."):
        check_metric(ROWS, "eval/orcale")
