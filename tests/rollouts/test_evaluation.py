"""What held-out answers are worth, and over which of them each number is."""

from __future__ import annotations

import math

import pytest

from orchestrator.rollouts.evaluation import Proxy, best_of_metrics, evaluation_metrics
from orchestrator.values import Episode, Group, Scored, Task, Unscored

HALVED = Proxy("judge", lambda verdict: (verdict.reward + 1) / 2)
"""The proxy of a reward in [-1, 1] on the scale of gold."""


def episode(task: str, sample: int) -> Episode:
    return Episode(Task(task, ()), 3, sample, ())


def test_evaluation_metrics_by_hand() -> None:
    """Proxies 0.2, 0.4 (a), 0.9 (b): mean 0.5. Truth 0.1, 0.3, 0.5 and 0.9: mean 0.45, for
    the truth needs no judge: it is known of the unscored episode too. The gap is over the scored ones: 0.5 - 0.3.
    """
    groups = [
        Group((episode("a", 0), episode("a", 1)), (Scored(-0.6), Scored(-0.2))),
        Group((episode("b", 0), episode("b", 1)), (Scored(0.8), Unscored("gone"))),
    ]
    gold: dict[str, float | None] = {"3/a/0": 0.1, "3/a/1": 0.3, "3/b/0": 0.5, "3/b/1": 0.9}
    measured = evaluation_metrics(groups, gold, HALVED)
    assert measured["eval/judge"] == pytest.approx(0.5)
    assert measured["eval/oracle"] == pytest.approx(0.45)
    assert measured["judge/gold_gap"] == pytest.approx(0.2)
    # gaps 0.1 and 0.1 (a), 0.4 (b): of 10,000 resamples of two tasks a quarter are a twice, a quarter b twice
    assert (measured["judge/gold_gap_low"], measured["judge/gold_gap_high"]) == pytest.approx((0.1, 0.4))
    assert measured["judge/gold_gap_n"] == 2
    assert measured["eval/n"] == measured["eval/oracle_n"] == 2
    # tasks are resampled whole: no mean outside those of a (0.3 and 0.2) and b (0.9 and 0.7)
    assert 0.3 - 1e-9 <= measured["eval/judge_low"] <= 0.5 <= measured["eval/judge_high"] <= 0.9 + 1e-9
    assert 0.2 - 1e-9 <= measured["eval/oracle_low"] <= 0.45 <= measured["eval/oracle_high"] <= 0.7 + 1e-9


def test_the_gap_is_taken_over_the_episodes_whose_truth_is_known() -> None:
    """Proxies 0.2 (truth unknown) and 0.9 (truth 0.5): the gap is 0.4, not the difference of 0.55 and 0.5."""
    groups = [Group((episode("a", 0),), (Scored(-0.6),)), Group((episode("b", 0),), (Scored(0.8),))]
    measured = evaluation_metrics(groups, {"3/a/0": None, "3/b/0": 0.5}, HALVED)
    assert measured["eval/judge"] == pytest.approx(0.55)
    assert measured["judge/gold_gap"] == pytest.approx(0.4)
    assert measured["judge/gold_gap_n"] == 1
    assert (measured["eval/n"], measured["eval/oracle_n"]) == (2, 1)
    assert math.isnan(measured["eval/oracle_low"])
    assert "eval/oracle" not in evaluation_metrics(groups, {"3/a/0": None, "3/b/0": None}, HALVED)
    unscored = [Group((episode("a", 0),), (Unscored("gone"),))]
    assert evaluation_metrics(unscored, {"3/a/0": None}, HALVED) == {}
    alone = evaluation_metrics(unscored, {"3/a/0": 1.0}, HALVED)
    assert {name: alone[name] for name in ("eval/oracle", "eval/oracle_n")} == {"eval/oracle": 1.0, "eval/oracle_n": 1}
    assert not {"eval/judge", "eval/n", "judge/gold_gap"} & alone.keys()


def test_best_of_n_by_hand() -> None:
    """a: the judge likes sample 1 most (reward 0.6, proxy 0.8, truth 0.2). b: samples 0 and 1 tie, the first counts (0.0,
    0.5, truth 0.6); the unscored one is not chosen. c has no scored episode. Means: 0.65 and 0.4.
    """
    groups = [
        Group((episode("a", 0), episode("a", 1)), (Scored(0.2), Scored(0.6))),
        Group((episode("b", 0), episode("b", 1), episode("b", 2)), (Scored(0.0), Scored(0.0), Unscored("gone"))),
        Group((episode("c", 0),), (Unscored("gone"),)),
    ]
    gold: dict[str, float | None] = {"3/a/0": 0.9, "3/a/1": 0.2, "3/b/0": 0.6, "3/b/1": 0.7, "3/b/2": 1.0, "3/c/0": 1.0}
    measured = best_of_metrics(groups, gold, HALVED, 8)
    assert measured == pytest.approx({"eval/best_of": 8, "eval/best_of_n_judge": 0.65, "eval/best_of_n": 0.4})
    assert best_of_metrics(groups[2:], gold, HALVED, 8) == {}
    assert best_of_metrics(groups[:2], dict.fromkeys(gold), HALVED, 8) == pytest.approx(
        {"eval/best_of": 8, "eval/best_of_n_judge": 0.65}
    )
