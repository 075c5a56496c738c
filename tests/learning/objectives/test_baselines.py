"""Rejection-sampling fine-tuning and DPO: which answers are learned, their loss and slopes, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from invented import CAP, invented_batch, invented_columns, preset

from orchestrator.config.compose import ConfigError, compose
from orchestrator.config.explain import explain
from orchestrator.config.schema import AlgorithmConfig, RunConfig
from orchestrator.learning.batch import Batch, make_batch, select
from orchestrator.learning.model import TokenScores
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.objectives.advantages import best_against_worst, best_of_group
from orchestrator.learning.parts import columns_of, loss_terms, metrics_of, split, together
from orchestrator.learning.rows import pack
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored, Verdict


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def group(name: str, *answers: tuple[int, float | None]) -> Group:
    """(tokens, reward or None) of each answer; tokens are numbered 10 * sample and on, so that rows can be told apart."""
    episodes, verdicts = [], []
    for sample, (tokens, reward) in enumerate(answers):
        ids = tuple(10 * sample + offset for offset in range(1, tokens + 1))
        turn = Turn("policy", (100, 101), ids, (-1.0,) * tokens, "", "stop", 1.0, 0, 0)
        episodes.append(Episode(Task(name, ()), 1, sample, (turn,)))
        verdict: Verdict = Unscored("no answer") if reward is None else Scored(reward)
        verdicts.append(verdict)
    return Group(tuple(episodes), tuple(verdicts))


def batch_of(algorithm: AlgorithmConfig, *groups: Group) -> Batch | None:
    return make_batch(select(groups, algorithm, CAP), algorithm, CAP)


def test_who_is_best_and_worst() -> None:
    """Interleaved groups. Group 4: 1, 3, 3, 0: the first 3 is best, 0 is worst. Group 7: 2, 2: the first is best, nobody worst."""
    rewards, groups = vector(1, 2, 3, 3, 2, 0), torch.tensor([4, 7, 4, 4, 7, 4])
    assert best_of_group(rewards, groups).tolist() == [0, 1, 1, 0, 0, 0]
    assert best_against_worst(rewards, groups).tolist() == [0, 0, 1, 0, 0, -1]


def test_rft_learns_the_best_answer_of_every_group() -> None:
    """Group a: rewards 0.2, 0.9, 0.9: the second. b: all 0.5: the first (RAFT has no filter). c: one scored answer: dropped.
    d: the best has no token, which cannot be imitated: the next."""
    batch = batch_of(
        preset("rft"),
        group("a", (2, 0.2), (3, 0.9), (1, 0.9)),
        group("b", (2, 0.5), (1, 0.5)),
        group("c", (2, 0.5), (2, None)),
        group("d", (0, 0.9), (1, 0.4), (2, 0.1)),
    )
    assert batch is not None
    assert [row.branches[0] for row in batch.rows] == [(11, 12, 13), (1, 2), (11,)]
    assert batch.lengths_E.tolist() == [3, 2, 1]
    assert batch.rewards_E.tolist() == [0.9, 0.5, 0.4]
    assert batch.group_E.tolist() == [0, 1, 3]


def test_rft_is_the_mean_of_cross_entropies() -> None:
    """Chosen answers of 2 tokens and of 1: loss (0.5 + 1 + 3) / 3 = 1.5, every slope -1/3."""
    algorithm, objective = preset("rft"), OBJECTIVES["rft"]
    batch = batch_of(algorithm, group("a", (2, 0.2), (2, 0.9)), group("b", (1, 0.7), (1, 0.5)))
    assert batch is not None
    (part,) = split(batch, columns_of(batch, objective, algorithm, None, None, None), objective, 1)
    now_T = vector(-0.5, -1, -3).requires_grad_()
    (microbatch,) = pack(part.rows, 0, 1, 10**6, 0)
    scores = TokenScores(*[now_T[microbatch.flat]] * 3)
    loss = loss_terms(objective, algorithm, part.columns, scores, microbatch).sum()
    assert loss.item() == pytest.approx(1.5, abs=1e-14)
    torch.testing.assert_close(torch.autograd.grad(loss, now_T)[0], vector(-1, -1, -1) / 3, rtol=0, atol=1e-14)
    assert metrics_of(objective, algorithm, part, TokenScores(*[now_T.detach()] * 3)) == {
        "rft/loss": pytest.approx(1.5)
    }


def pairs(algorithm: AlgorithmConfig) -> Batch:
    """Two pairs: 2 tokens against 1 (rewards 0.9, 0.2; a third answer lies between), and 1 against 1, the worse one first."""
    batch = batch_of(
        algorithm,
        group("a", (2, 0.9), (4, 0.5), (1, 0.2)),
        group("b", (1, 0.1), (1, 0.7)),
        group("c", (2, 0.5), (2, 0.5)),
    )
    assert batch is not None
    return batch


def test_dpo_learns_from_the_best_and_the_worst() -> None:
    """Group c has no difference and is left out, so are the answers between."""
    batch = pairs(preset("dpo"))
    assert [row.branches[0] for row in batch.rows] == [(1, 2), (21,), (1,), (11,)]
    assert batch.group_E.tolist() == [0, 0, 1, 1]
    columns = columns_of(batch, OBJECTIVES["dpo"], preset("dpo"), None, None, None)
    assert columns.advantages.tolist() == [1, 1, -1, -1, 1]
    assert batch_of(preset("dpo"), group("c", (2, 0.5), (2, 0.5))) is None


def test_dpo_by_hand() -> None:
    """dpo_beta 0.5; log p - log p_ref of the tokens: 0.5, 1 | -1 || 1 | -1.

    Pair a: margin 0.5 (1.5 + 1) = 1.25: loss ln(1 + e^-1.25) = 0.25192908, sigmoid(-1.25) = 0.22270014.
    Pair b, whose worse answer came first: 0.5 (-1 - 1) = -1: ln(1 + e) = 1.31326169, sigmoid(1) = 0.73105858.
    Loss: the mean, 0.78259538. Slopes: -beta sigmoid(-margin) / 2 at the tokens of the better answer: -0.05567503 and
    -0.18276464; the same with the other sign at those of the worse one, however long they are.
    Accuracy 1 of 2; mean margin 0.125.
    """
    algorithm, objective = preset("dpo", dpo_beta=0.5), OBJECTIVES["dpo"]
    batch = pairs(algorithm)
    now_T = vector(-1, -1, -2, -0.5, -2).requires_grad_()
    reference_T = vector(-1.5, -2, -1, -1.5, -1)
    (part,) = split(batch, columns_of(batch, objective, algorithm, None, reference_T, None), objective, 1)
    for budget, count in ((10**6, 1), (1, 2)):
        microbatches = pack(part.rows, 0, 1, budget, 0, together(part, objective))
        assert len(microbatches) == count
        loss = sum(
            loss_terms(objective, algorithm, part.columns, TokenScores(*[now_T[piece.flat]] * 3), piece).sum()
            for piece in microbatches
        )
        assert isinstance(loss, torch.Tensor)
        assert loss.item() == pytest.approx(0.78259538, abs=1e-8)
        (slopes,) = torch.autograd.grad(loss, now_T)
        a, b = 0.05567503, 0.18276464
        torch.testing.assert_close(slopes, vector(-a, -a, a, b, -b), rtol=0, atol=1e-8)
    metrics = metrics_of(objective, algorithm, part, TokenScores(*[now_T.detach()] * 3))
    assert metrics == {
        "dpo/loss": pytest.approx(0.78259538, abs=1e-8),
        "dpo/accuracy": 0.5,
        "dpo/margin": pytest.approx(0.125, abs=1e-14),
    }


def test_dpo_begins_at_the_reference() -> None:
    """There every margin is 0, the loss ln 2, and the accuracy, a tie, one half."""
    algorithm, objective = preset("dpo"), OBJECTIVES["dpo"]
    batch = pairs(algorithm)
    now_T = vector(-1, -1, -2, -0.5, -2)
    (part,) = split(batch, columns_of(batch, objective, algorithm, None, now_T, None), objective, 1)
    metrics = metrics_of(objective, algorithm, part, TokenScores(now_T, now_T, now_T))
    assert metrics == {"dpo/loss": pytest.approx(math.log(2)), "dpo/accuracy": 0.5, "dpo/margin": 0}


def test_a_pair_is_never_parted() -> None:
    """Neither by microbatches, nor by optimizer steps: two steps of one pair each have the mean over one pair."""
    algorithm, objective = preset("dpo"), OBJECTIVES["dpo"]
    batch = pairs(algorithm)
    columns = columns_of(batch, objective, algorithm, None, torch.zeros(5, dtype=torch.float64), None)
    parts = split(batch, columns, objective, 2)
    assert [len(part.rows) for part in parts] == [2, 2]
    for part in parts:
        assert together(part, objective) == [[0, 1]]
        assert part.columns.weights is not None
        assert float(part.columns.weights.sum()) == pytest.approx(1)
    (part,) = split(batch, columns, objective, 1)
    assert together(part, objective) == [[0, 1], [2, 3]]
    assert len(split(batch, columns, objective, 9)) == 2


def test_an_episode_of_several_turns_is_one_side_of_a_pair() -> None:
    """The invented groups: of the first, one answer has two turns; whichever pair is chosen, all its rows are one unit."""
    algorithm, objective = preset("dpo"), OBJECTIVES["dpo"]
    batch = invented_batch(algorithm, 40)
    now_T = torch.zeros(batch.total, dtype=torch.float64)
    (part,) = split(batch, invented_columns(batch, algorithm, now_T, now_T - 1), objective, 1)
    units = together(part, objective)
    assert units is not None
    assert [{int(batch.group_E[part.episode_R[row]]) for row in unit} for unit in units] == [{0}, {1}]
    assert sorted(row for unit in units for row in unit) == list(range(len(batch.rows)))


def test_the_rewards_decide_with_their_length_penalty() -> None:
    """Cap 9, penalty over the last 4 tokens: 9 tokens lose all of 1, so 0.9 - 1 is worst and 0.2 best."""
    algorithm = preset("dpo", overlong_share=4 / 9)
    batch = batch_of(algorithm, group("a", (9, 0.9), (1, 0.2)))
    assert batch is not None
    columns = columns_of(batch, OBJECTIVES["dpo"], algorithm, None, None, None)
    assert columns.advantages.tolist() == [-1] * 9 + [1]


@pytest.mark.parametrize("name", ["rft", "dpo"])
def test_a_penalty_in_the_reward_comes_too_late_for_a_ranking(name: str) -> None:
    compose("rlvr", [f"algorithm={name}", "algorithm.kl_weight=0.1", "algorithm.kl_in=loss"])
    with pytest.raises(ConfigError, match=f"algorithm.kl_in=reward: {name} ranks"):
        compose("rlvr", [f"algorithm={name}", "algorithm.kl_weight=0.1", "algorithm.kl_in=reward"])


def test_best_of_n_is_explained_beside_the_baselines() -> None:
    """It is an evaluation of the starting policy, measured whatever the algorithm."""
    assert "whatever the algorithm" in explain(RunConfig, "eval.best_of")
    text = explain(RunConfig, "algorithm.name")
    assert "eval.best_of" in text
    assert "rft and dpo" in text
