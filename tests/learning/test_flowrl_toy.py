"""On a world that can be enumerated FlowRL finds the distribution and its log-partition; a reward-maximiser finds one mode."""

from __future__ import annotations

import pytest
import torch
from invented import preset
from toy import LENGTH, PROMPTS, distances, make_world, scores_of_all, train

BETA = 2.0


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_the_exact_target_is_where_the_balance_vanishes() -> None:
    """(1/L) log p - beta r - (1/L) log prior + log Z = 0 at every answer, and the target sums to 1."""
    world = make_world(modes=4)
    for prompt in range(PROMPTS):
        target, log_z = world.target(prompt, BETA)
        nothing, _ = world.target(prompt, 0.0)
        balance = (target.log() - nothing.log()) / LENGTH - BETA * world.rewards[prompt] + log_z
        assert float(target.sum()) == pytest.approx(1, abs=1e-12)
        assert float(balance.abs().max()) < 1e-12


def test_flowrl_matches_the_distribution_and_learns_its_partition() -> None:
    """Four modes, two prompts with landscapes of their own. Bounds: 0.05 in log Z and in total variation."""
    world = make_world(modes=4)
    settings = preset("flowrl", flow_reward="raw", beta=BETA, flow_dropout=0.0)
    found = distances(world, train(world, settings, steps=250), BETA)
    assert found["log_z"] < 0.05
    assert found["total_variation"] < 0.05
    assert found["modes"] == 1
    # log Z was not there before: it differs between the prompts and from 0 by more than the bound.
    exact = [world.target(prompt, BETA)[1] for prompt in range(PROMPTS)]
    assert min(abs(value) for value in exact) > 0.1


def test_a_reward_maximiser_collapses_to_one_mode() -> None:
    """GRPO without a KL penalty: nearly all of each prompt's probability is on one of its four modes."""
    world = make_world(modes=4)
    scorer = train(world, preset("grpo", kl_weight=0), steps=120)
    for prompt in range(PROMPTS):
        logprobs, _ = scores_of_all(scorer, prompt)
        assert int(logprobs.argmax()) in world.modes[prompt].tolist()
        assert float(logprobs.max().exp()) > 0.9
    found = distances(world, scorer, BETA)
    assert found["total_variation"] > 0.5
    assert found["modes"] <= 0.25
