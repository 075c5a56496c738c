"""The RL update: what stops it, what it reports, and that it learns. The numbers come from `one_rank`."""

from __future__ import annotations

import math
from typing import Any

import pytest
from one_rank import VOCABULARY

from orchestrator.learning.objectives import OBJECTIVES

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("case", ["gap_one_step", "gap_many_steps"])
def test_a_gap_past_its_bound_stops_before_the_weights_change(learned: dict[str, Any], case: str) -> None:
    result = learned[case]
    assert "sync/logprob_gap_max is 0.01, above limits.logprob_gap_max=0.001" in result["message"]
    assert result["unchanged"]
    assert result["optimizer_steps"] == 0


def test_minibatches_and_epochs_are_optimizer_steps(learned: dict[str, Any]) -> None:
    """3 minibatches in each of 2 epochs: 6 steps, after which some ratios have left the clip."""
    result = learned["several_steps"]
    assert result["optimizer_steps"] == 6
    assert result["steps_done"] == 1
    assert 0 < result["metrics"]["policy/clip_fraction"] <= 1
    assert result["metrics"]["policy/ratio_max"] > 1.2
    assert result["metrics"]["sync/logprob_gap_max"] < 1e-5, "measured before the first step"


def test_a_single_step_has_no_ratio_to_clip(learned: dict[str, Any]) -> None:
    for metrics in learned["divergence"]["metrics"]:
        assert metrics["policy/clip_fraction"] == 0
        assert metrics["policy/ratio_max"] == 1


def test_the_divergence_from_the_reference_starts_at_zero_and_grows(learned: dict[str, Any]) -> None:
    first, second, third = (metrics["policy/kl"] for metrics in learned["divergence"]["metrics"])
    assert first == pytest.approx(0, abs=1e-9)
    assert second > 1e-6
    assert third > second


def test_watching_an_update_changes_nothing(learned: dict[str, Any]) -> None:
    """Six episodes of three tokens, each in one of two minibatches of two epochs: tokens are counted once, means over passes."""
    result = learned["watched"]
    assert result["same"]
    assert [term.tokens for term in result["terms"]] == [3] * 6
    assert sum(abs(term.share) for term in result["terms"]) == pytest.approx(1)
    assert all(term.gap_size < 1e-5 for term in result["terms"]), "measured before the first step"
    assert any(term.ratio != 1 for term in result["terms"]), "the second epoch's weights are others"
    assert all(term.kl is not None for term in result["terms"])


def test_without_a_reference_no_divergence_is_reported(learned: dict[str, Any]) -> None:
    assert "policy/kl" not in learned["divergence"]["without"]


def test_every_metric_of_an_update_is_finite(learned: dict[str, Any]) -> None:
    metrics = learned["divergence"]["metrics"][0]
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["policy/learning_rate"] == 0.01
    # Nearly uniform at the start.
    assert metrics["policy/entropy"] == pytest.approx(math.log(VOCABULARY), abs=0.05)


def test_logit_queries_are_answered_as_a_direct_forward_would(learned: dict[str, Any]) -> None:
    """A turn's own tokens, words that answer a chat, and a turn with another ending; log Z is logit - log-probability."""
    check_answers(learned["logit_queries"])


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize("rank", [0, 1])
def test_two_ranks_answer_logit_queries_alike(trained: dict[str, Any], rank: int, stage: int) -> None:
    check_answers(trained[f"logits-{rank}"][stage])


def check_answers(result: dict[str, Any]) -> None:
    """Six questions: two ask the same, which is scored once, and the last names no token.

    Targets: two of the turn, one of the chat, one of the other ending, two behind a prompt that was cut.
    """
    *answers, nothing = result["answers"]
    for answer, expected in zip(answers, result["expected"], strict=True):
        assert answer.mean_logit == pytest.approx(expected.mean_logit, abs=1e-5)
        assert answer.mean_logprob == pytest.approx(expected.mean_logprob, abs=1e-5)
        assert (answer.tokens, answer.weight_version, answer.cut) == (expected.tokens, 17, expected.cut)
    assert answers[1] == answers[3]
    assert len({answer.mean_logit for answer in answers}) == 4
    for none in (nothing, *result["none"]):
        assert (none.tokens, math.isnan(none.mean_logit), math.isnan(none.mean_logprob)) == (0, True, True)
    assert result["totals"] == [2 + 1 + 1 + 2]


def test_a_rewarded_token_is_learned(learned: dict[str, Any]) -> None:
    """One of 8 tokens is worth 1, the others 0: from about 1/8 to over 0.9 in 30 updates of 64 samples."""
    probabilities = learned["bandit"]["probabilities"]
    assert probabilities[0] == pytest.approx(1 / VOCABULARY, abs=0.03)
    assert probabilities[-1] > 0.9
    assert learned["bandit"]["gap"] < 1e-5


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_a_rewarded_token(learned: dict[str, Any], name: str) -> None:
    """One of 8 tokens is worth 1: 8 updates of 32 samples with the published settings at least double its probability of 1/8."""
    result = learned["bandits"][name]
    assert result["before"] == pytest.approx(1 / VOCABULARY, abs=0.03)
    assert result["after"] > 2 / VOCABULARY
    assert all(math.isfinite(value) for value in result["metrics"].values())


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("behaviour", "the policy's behaviour log-probabilities are no longer finite"),
        ("reference", "the policy's reference log-probabilities are no longer finite"),
        ("policy", "the policy's log-probabilities are no longer finite"),
        ("critic", "the critic's values are no longer finite"),
    ],
)
def test_what_is_no_number_is_named_before_any_step(learned: dict[str, Any], where: str, words: str) -> None:
    assert words in learned["not_numbers"][where]
