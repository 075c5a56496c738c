"""Advantages, credit and weights of tokens, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.objectives import OBJECTIVES, Outcome
from orchestrator.learning.objectives import aggregations as weigh
from orchestrator.learning.objectives.advantages import (
    discounted_returns,
    generalised,
    group_centred,
    group_standardised,
    leave_one_out,
    whitened,
)
from orchestrator.learning.objectives.rewards import informative, soft_overlong


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def equal(actual: torch.Tensor, *expected: float, within: float = 1e-12) -> None:
    torch.testing.assert_close(actual, vector(*expected), rtol=0, atol=within)


def test_centred_rewards() -> None:
    """Interleaved groups. Group 4: 1, 2, 6, mean 3. Group 7: 0, 1, mean 0.5."""
    equal(group_centred(vector(1, 0, 2, 1, 6), torch.tensor([4, 7, 4, 7, 4])), -2, -0.5, -1, 0.5, 3)


def test_leave_one_out() -> None:
    """Rewards 1, 2, 6. Means of the others: 4, 3.5, 1.5. That is 3/2 of the centred -2, -1, 3."""
    equal(leave_one_out(vector(1, 2, 6), torch.zeros(3)), -3, -1.5, 4.5)


@pytest.mark.parametrize("relative", [group_centred, group_standardised, leave_one_out])
def test_a_lone_episode_and_equal_rewards_have_an_advantage_of_exactly_0(relative: object) -> None:
    """0.1 + 0.2 has no exact mean of three: the rounding must not be divided by 1e-6."""
    assert callable(relative)
    assert relative(vector(0.7), torch.zeros(1)).tolist() == [0]
    assert relative(vector(0.3, 0.3, 0.3, 5), torch.tensor([0, 0, 0, 1])).tolist() == [0, 0, 0, 0]


def test_whitening() -> None:
    """1, 2, 3, 6: mean 3, deviations -2, -1, 0, 3, unbiased variance 14 / 3 = 4.66667; 1 / sqrt(4.66666668) = 0.46291005."""
    scale = 1 / math.sqrt(14 / 3 + 1e-8)
    assert scale == pytest.approx(0.46291005, abs=1e-8)
    equal(whitened(vector(1, 2, 3, 6)), -2 * scale, -scale, 0, 3 * scale)


@pytest.mark.parametrize("values", [(), (3.0,), (0.3, 0.3, 0.3)])
def test_whitening_without_a_difference_gives_0(values: tuple[float, ...]) -> None:
    assert whitened(vector(*values)).tolist() == [0] * len(values)


def test_discounted_returns() -> None:
    """Episode 3: rewards 1, 0, 4 at discount 0.5: 4; 0 + 2 = 2; 1 + 1 = 2. Episode 9: 8 alone. Nothing crosses episodes."""
    equal(discounted_returns(vector(1, 0, 4, 8), torch.tensor([3, 3, 3, 9]), 0.5), 2, 2, 4, 8)


def test_the_reward_stands_on_the_last_token_and_the_penalty_on_each() -> None:
    """Rewards 5 and 7; penalties 1, 2, 3. Episode 0 of two tokens: -1, 5 - 2. Episode 2 of one: 7 - 3. Episode 1 has none.

    Totals: 5 - 1 - 2 = 2, 9, 7 - 3 = 4.
    """
    outcome = Outcome(vector(5, 9, 7), torch.zeros(3), torch.tensor([0, 0, 2]), vector(1, 2, 3))
    equal(outcome.rewards_T, -1, 3, 4)
    equal(outcome.totals_E, 2, 9, 4)


def test_generalised_advantages() -> None:
    """Discount 0.9, lambda 0.5. Episode 0: three tokens, values 1, 2, 4, reward 10 at the end. Episode 1: one, value 3, reward 1.

    d = 0 + 1.8 - 1 = 0.8; 0 + 3.6 - 2 = 1.6; 10 - 4 = 6. A = 6; 1.6 + 0.45 * 6 = 4.3; 0.8 + 0.45 * 4.3 = 2.735. Alone: 1 - 3.
    """
    outcome = Outcome(vector(10, 1), torch.zeros(2), torch.tensor([0, 0, 0, 1]), None, vector(1, 2, 4, 3))
    equal(generalised(outcome, AlgorithmConfig(discount=0.9, gae_lambda=0.5)), 2.735, 4.3, 6, -2)


def test_generalised_advantages_at_the_ends_of_lambda() -> None:
    """lambda 1: the return less the value. lambda 0: one step ahead. Penalties 1, 0 come off; rewards -1, 6; values 2, 5.

    lambda 1: (-1 + 6) - 2 = 3, 6 - 5 = 1. lambda 0: -1 + 5 - 2 = 2, 1.
    """
    outcome = Outcome(vector(6), torch.zeros(1), torch.tensor([0, 0]), vector(1, 0), vector(2, 5))
    equal(generalised(outcome, AlgorithmConfig(discount=1, gae_lambda=1)), 3, 1)
    equal(generalised(outcome, AlgorithmConfig(discount=1, gae_lambda=0)), 2, 1)


def two_groups(**extra: torch.Tensor) -> Outcome:
    """Group 0: rewards 1 (two tokens) and 3 (one token). Group 1: rewards 0 (one token) and 8 (no token)."""
    return Outcome(vector(1, 3, 0, 8), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 2]), **extra)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Group 0: centred -1, 1, std sqrt 2. Group 1: centred -4, 4, std sqrt 32.
        ("grpo", (-0.70710628, -0.70710628, 0.70710628, -0.70710666)),
        ("dapo", (-0.70710628, -0.70710628, 0.70710628, -0.70710666)),
        ("gspo", (-0.70710628, -0.70710628, 0.70710628, -0.70710666)),
        ("cispo", (-0.70710628, -0.70710628, 0.70710628, -0.70710666)),
        ("flowrl", (-0.70710628, -0.70710628, 0.70710628, -0.70710666)),
        ("dr_grpo", (-1, -1, 1, -4)),
        ("rloo", (-2, -2, 2, -8)),
        # -1, -1, 1, -4 over tokens: mean -1.25, deviations 0.25, 0.25, 2.25, -2.75, variance 12.75 / 3 = 4.25, sqrt 2.06155281.
        ("reinforce_pp_baseline", (0.12126781, 0.12126781, 1.09141031, -1.33394593)),
        # Returns 1, 1, 3, 0: mean 1.25, deviations -0.25, -0.25, 1.75, -1.25, variance 4.75 / 3 = 1.58333, sqrt 1.25830574.
        ("reinforce_pp", (-0.19867985, -0.19867985, 1.39075898, -0.99339927)),
    ],
)
def test_the_advantages_of_each_objective(name: str, expected: tuple[float, ...]) -> None:
    equal(OBJECTIVES[name].advantage(two_groups(), AlgorithmConfig(name=name)), *expected, within=2e-8)


def test_ppos_advantages_are_whitened() -> None:
    """Values 0, 0.5, 1, 2 at lambda 0.5: d = 0.5, 0.5, 2, -2. A = 0.5 + 0.25, 0.5, 2, -2: mean 0.3125; deviations 0.4375, 0.1875,
    1.6875, -2.3125; sum of squares 8.421875, variance 2.80729167, sqrt 1.67549744."""
    outcome = two_groups(values_T=vector(0, 0.5, 1, 2))
    advantages = OBJECTIVES["ppo"].advantage(outcome, AlgorithmConfig(name="ppo", gae_lambda=0.5))
    equal(advantages, 0.26111648, 0.11190706, 1.00716358, -1.38018713, within=2e-8)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Totals less penalties 0.25 + 0.25, 1, 2: 0.5, 2, -2, 8. Group 0: -0.75, 0.75. Group 1: -5, 5.
        ("dr_grpo", (-0.75, -0.75, 0.75, -5)),
        ("rloo", (-1.5, -1.5, 1.5, -10)),
        # Token rewards -0.25, 0.75, 2, -2; returns 0.5, 0.75, 2, -2: mean 0.3125, deviations 0.1875, 0.4375, 1.6875, -2.3125.
        ("reinforce_pp", (0.11190706, 0.26111648, 1.00716358, -1.38018713)),
    ],
)
def test_a_kl_penalty_in_the_reward(name: str, expected: tuple[float, ...]) -> None:
    outcome = two_groups(penalty_T=vector(0.25, 0.25, 1, 2))
    equal(OBJECTIVES[name].advantage(outcome, AlgorithmConfig(name=name)), *expected, within=2e-8)


def test_weights_of_tokens() -> None:
    """Episodes of 2, 0 and 3 tokens, completions of at most 10.

    Episode means: 1 / (2 * 3), unused, 1 / (3 * 3). Token mean: 1 / 5. Episode sums: 1 / 3. Sums over the cap: 1 / 30.
    """
    lengths = torch.tensor([2, 0, 3])
    equal(weigh.mean_of_episode_means(lengths, 10)[[0, 2]], 1 / 6, 1 / 9)
    equal(weigh.mean_of_tokens(lengths, 10), 0.2, 0.2, 0.2)
    equal(weigh.mean_of_episode_sums(lengths, 10), 1 / 3, 1 / 3, 1 / 3)
    equal(weigh.sums_over_cap(lengths, 10), 1 / 30, 1 / 30, 1 / 30)
    assert all(kind(lengths, 10).isfinite().all() for kind in (weigh.mean_of_episode_means, weigh.mean_of_tokens))
    assert weigh.mean_of_tokens(torch.tensor([0]), 10).isfinite().all()


@pytest.mark.parametrize(
    ("name", "aggregation"),
    [
        ("ppo", weigh.mean_of_tokens), ("grpo", weigh.mean_of_episode_means), ("dr_grpo", weigh.sums_over_cap),
        ("dapo", weigh.mean_of_tokens), ("rloo", weigh.mean_of_episode_sums), ("reinforce_pp", weigh.mean_of_tokens),
        ("reinforce_pp_baseline", weigh.mean_of_tokens), ("gspo", weigh.mean_of_episode_means),
        ("cispo", weigh.mean_of_tokens), ("flowrl", weigh.mean_of_episode_means),
    ],
)  # fmt: skip
def test_which_objective_weighs_how(name: str, aggregation: object) -> None:
    assert OBJECTIVES[name].aggregation is aggregation


def test_the_length_penalty() -> None:
    """cap 10, buffer 4: nothing up to 6 tokens, then a quarter a token, -1 at 10 and beyond. Buffer 0: none."""
    equal(soft_overlong(torch.tensor([0, 6, 7, 8, 10, 12]), 10, 4), 0, 0, -0.25, -0.5, -1, -1)
    equal(soft_overlong(torch.tensor([3, 10]), 10, 0), 0, 0)


def test_which_groups_inform() -> None:
    """0 and 0.2 have a standard deviation of 0.1414."""
    assert informative([0.0, 0.2])
    assert not informative([0.2, 0.2, 0.2])
    assert not informative([1.0])
    assert not informative([])
    assert informative([0.0, 0.2], least_spread=0.14)
    assert not informative([0.0, 0.2], least_spread=0.142)
