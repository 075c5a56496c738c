"""The terms of an update by episode, from a learner that does what the real one does but for the model."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from invented import invented_batch, invented_columns, preset

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.batch import Batch
from orchestrator.learning.model import TokenScores
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.parts import Columns, loss_terms, split, together
from orchestrator.learning.policy import Watcher
from orchestrator.learning.replay import EpisodeTerms, watched_update
from orchestrator.learning.rows import pack

VOCABULARY = 11


class Learner:
    """One pass over the batch at made-up log-probabilities; remembers the loss."""

    watcher: Watcher | None = None

    def __init__(self, algorithm: AlgorithmConfig) -> None:
        self.algorithm, self.objective, self.loss = algorithm, OBJECTIVES[algorithm.name], 0.0
        self.columns: Columns | None = None

    def update(self, batch: Batch, version: int) -> dict[str, float]:
        now_T = batch.behaviour_T + 0.01
        self.columns = invented_columns(batch, self.algorithm, now_T, now_T - 0.2)
        (part,) = split(batch, self.columns, self.objective, 1)
        assert self.watcher is not None
        for microbatch in pack(part.rows, 0, 1, 16, 0, together(part, self.objective)):
            scores = TokenScores(*[now_T[microbatch.flat]] * 3)
            terms_T = loss_terms(self.objective, self.algorithm, part.columns, scores, microbatch)
            self.loss += float(terms_T.sum())
            self.watcher.terms(part, microbatch, terms_T)
        self.watcher.scored(part, TokenScores(now_T, torch.full_like(now_T, 0.7), now_T))
        return {"policy/entropy": 0.7}


def watched(algorithm: AlgorithmConfig) -> tuple[Learner, Batch, list[EpisodeTerms]]:
    batch, learner = invented_batch(algorithm, VOCABULARY), Learner(algorithm)
    ids = [f"e{number}" for number in range(len(batch.rewards_E))]
    anything: Any = learner
    terms, metrics = watched_update(anything, batch, 0, algorithm, ids)
    assert metrics == {"policy/entropy": 0.7}
    assert [term.id for term in terms] == ids
    return learner, batch, terms


@pytest.mark.parametrize("name", ["grpo", "gspo", "dpo", "ppo", "dapo"])
def test_the_terms_of_all_episodes_are_the_loss(name: str) -> None:
    learner, batch, terms = watched(preset(name))
    assert sum(term.loss for term in terms) == pytest.approx(learner.loss, rel=1e-9)
    assert sum(abs(term.share) for term in terms) == pytest.approx(1)
    assert sum(term.tokens for term in terms) == batch.total


def test_the_means_of_an_episode() -> None:
    """Of episode 1, whose two turns are two rows: old log-probabilities are drawn, so all is compared with the columns."""
    algorithm = preset("grpo", kl_weight=0.1)
    learner, batch, terms = watched(algorithm)
    assert learner.columns is not None
    assert learner.columns.old is not None
    mine = learner.columns.episode == 1
    old_T, behaviour_T = learner.columns.old[mine], batch.behaviour_T[mine]
    ratio_T = torch.exp(behaviour_T + 0.01 - old_T)
    low, high = 1 - algorithm.clip_low, 1 + algorithm.clip_high
    found = terms[1]
    assert found.tokens == int(mine.sum()) > 4
    assert found.reward == float(batch.rewards_E[1])
    assert found.advantage == pytest.approx(float(learner.columns.advantages[mine].mean()))
    assert found.gap == pytest.approx(float((old_T - behaviour_T).mean()))
    assert found.gap_size == pytest.approx(float((old_T - behaviour_T).abs().mean()))
    assert found.ratio == pytest.approx(float(ratio_T.mean()))
    assert found.clipped == pytest.approx(float(((ratio_T < low) | (ratio_T > high)).double().mean()))
    assert found.entropy == pytest.approx(0.7)
    # now is 0.2 above the reference at every token: k3 = exp(-0.2) - 1 + 0.2
    assert found.kl == pytest.approx(math.exp(-0.2) - 0.8)


def test_an_episode_without_tokens_adds_nothing() -> None:
    """The empty completion of the second group, and the third group, whose rewards are all equal."""
    *_, terms = watched(preset("grpo", kl_weight=0.0))
    silent = [term for term in terms if term.tokens == 0]
    assert len(silent) == 1 + 4
    assert {(term.loss, term.share, term.gap, term.ratio) for term in silent} == {(0.0, 0.0, 0.0, 0.0)}
