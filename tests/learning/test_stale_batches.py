"""Updates from what older weights sampled: what is corrected, what is reported, and what is left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from invented import preset
from one_rank import OFF_POLICY

from orchestrator.learning.objectives import OBJECTIVES

pytestmark = pytest.mark.stack


@pytest.mark.parametrize(
    ("form", "ratio", "weight", "bounded"),
    [
        # Six episodes of three tokens, each 1.5 or 4 times as likely as when it was sampled; the bound is 2.
        ("token_truncate", 1.5, 1.5, 0),
        ("token_truncate", 4, 2, 1),
        ("token_mask", 1.5, 1, 0),
        ("token_mask", 4, 0, 1),
        ("none", 1.5, 1, 0),
        ("none", 4, 1, 1),
    ],
)
def test_older_answers_are_corrected_and_reported(
    learned: dict[str, Any], form: str, ratio: float, weight: float, bounded: float
) -> None:
    """Every token has the same weight, so the gradient is that of fresh tokens times it. 0 leaves nothing to learn from, and no
    number that is not finite."""
    metrics = learned[f"stale-{form}-{ratio:g}"]["metrics"]
    told = {name.removeprefix("off_policy/"): value for name, value in metrics.items() if "off_policy/" in name}
    logarithm = math.log(ratio)
    assert told == pytest.approx(
        {
            "weight_mean": weight,
            "weight_min": weight,
            "bounded_share": bounded,
            "log_ratio_mean": logarithm,
            "log_ratio_max": logarithm,
        },
        abs=1e-5,
    )
    fresh = learned["fresh-none"]["metrics"]
    assert metrics["policy/grad_norm"] == pytest.approx(weight * fresh["policy/grad_norm"], rel=1e-5)
    assert metrics["policy/entropy"] == pytest.approx(fresh["policy/entropy"], rel=1e-6)
    # The ratio that is clipped is to the weights before the update, not to those that sampled.
    assert metrics["policy/ratio_max"] == 1
    assert all(math.isfinite(value) for value in metrics.values())
    # Nothing was sampled by the weights of now: no gap to measure, and none that stops the run.
    assert not [name for name in metrics if name.startswith("sync/")]
    assert learned[f"stale-{form}-{ratio:g}"]["message"] == ""


def test_fresh_answers_are_not_corrected_in_any_form(learned: dict[str, Any]) -> None:
    """To the bit. Nor is anything changed by the pass that older answers need: with weights of 1 the update is the same."""
    weights = {form: learned[f"fresh-{form}"]["weights"] for form in OFF_POLICY}
    for form in OFF_POLICY:
        assert torch.equal(weights[form], weights["none"])
        metrics = learned[f"fresh-{form}"]["metrics"]
        assert metrics == learned["fresh-none"]["metrics"]
        assert not [name for name in metrics if name.startswith("off_policy/")]
        assert metrics["sync/logprob_gap_max"] < 1e-5
    assert torch.equal(learned["stale-none-1"]["weights"], weights["none"])
    assert not learned["fresh-none"]["unchanged"]


def test_the_gap_is_that_of_the_fresh_tokens(learned: dict[str, Any]) -> None:
    """Two of six episodes are fresh; the others are 1.5 times as likely, log 1.5 = 0.405 off, where 0.001 is allowed. The mean
    weight is (6 * 1 + 12 * 1.5) / 18 = 4 / 3."""
    metrics = learned["mixed"]["metrics"]
    assert metrics["sync/logprob_gap_max"] < 1e-5
    assert metrics["off_policy/weight_mean"] == pytest.approx(4 / 3, abs=1e-5)
    assert metrics["off_policy/weight_min"] == pytest.approx(1, abs=1e-5)
    assert metrics["off_policy/log_ratio_mean"] == pytest.approx(math.log(1.5) * 2 / 3, abs=1e-5)
    assert not learned["mixed"]["unchanged"]


def test_fresh_tokens_that_are_off_stop_a_mixed_batch(learned: dict[str, Any]) -> None:
    result = learned["mixed_and_off"]
    assert "sync/logprob_gap_max is 0.01, above limits.logprob_gap_max=0.001" in result["message"]
    assert result["unchanged"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_from_older_answers(learned: dict[str, Any], name: str) -> None:
    """1.5 times as likely as when they were sampled, below the bound of 2. DPO and RFT are off-policy by nature: no correction."""
    metrics = learned["all_stale"][name]
    weight = 1 if preset(name).off_policy == "none" else 1.5
    assert (weight == 1) == (name in ("dpo", "rft"))
    assert metrics["off_policy/weight_mean"] == pytest.approx(weight, abs=1e-4)
    assert metrics["policy/grad_norm"] > 0
    assert all(math.isfinite(value) for value in metrics.values())
