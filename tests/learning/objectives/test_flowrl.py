"""FlowRL's trajectory balance, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from invented import preset

from orchestrator.learning.objectives import OBJECTIVES, Outcome, TokenInputs
from orchestrator.learning.objectives.flowrl import trajectory_balance

EPISODES = torch.tensor([5, 5, 8])


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def inputs_of(logprobs: torch.Tensor, log_z: torch.Tensor | None) -> TokenInputs:
    """Episode 5: log p -1, -3 (mean -2), reference -2, -4 (mean -3), reward 0.5. Episode 8: -1, reference -1.5, reward -1."""
    return TokenInputs(logprobs, vector(-1.2, -3.1, -1), vector(-2, -4, -1.5), vector(0.5, 0.5, -1), EPISODES, log_z)


def test_the_balance_by_hand() -> None:
    """beta 2. Episode 5: log Z 0.3, of its first token; gap 0.3 - 2 - 2 * 0.5 + 3 = 0.3. Importance exp(0.2 + 0.1) = 1.35, clipped
    to 1.2: loss 1.2 * 0.09 = 0.108 at both tokens. Episode 8: gap -0.4 - 1 + 2 + 1.5 = 2.1; weight 1: 4.41.

    Under episode means (1/4, 1/4, 1/2): slopes by log p: 1.2 * 2 * 0.3 / 2 / 2 = 0.18 twice, and 2 * 2.1 / 2 = 2.1. By log Z:
    0.36 at the first token, 0 at the second, 2.1.
    """
    logprobs, log_z = vector(-1, -3, -1).requires_grad_(), vector(0.3, 99, -0.4).requires_grad_()
    loss_T = trajectory_balance(inputs_of(logprobs, log_z), preset("flowrl", beta=2))
    torch.testing.assert_close(loss_T, vector(0.108, 0.108, 4.41), rtol=0, atol=1e-12)
    weights_T = OBJECTIVES["flowrl"].aggregation(torch.tensor([2, 1]), 9)[[0, 0, 1]]
    slopes, log_z_slopes = torch.autograd.grad((weights_T * loss_T).sum(), [logprobs, log_z])
    torch.testing.assert_close(slopes, vector(0.18, 0.18, 2.1), rtol=0, atol=1e-12)
    torch.testing.assert_close(log_z_slopes, vector(0.36, 0, 2.1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("changes", "first", "second"),
    [
        # exp(0.3) = 1.34985881 times 0.09; the second's weight is 1.
        ({"flow_importance": "unclipped"}, 0.12148729, 4.41),
        ({"flow_importance": "capped"}, 0.12148729, 4.41),
        ({"flow_importance": "none"}, 0.09, 4.41),
        # Old policy as prior: means -2.15 and -1. Gaps 0.3 - 2 - 1 + 2.15 = -0.55, -0.4 - 1 + 2 + 1 = 1.6.
        ({"flow_importance": "none", "flow_prior": "old"}, 0.3025, 2.56),
        # None: gaps 0.3 - 2 - 1 = -2.7, -0.4 - 1 + 2 = 0.6.
        ({"flow_importance": "none", "flow_prior": "none"}, 7.29, 0.36),
        # beta 15, as published: 0.3 - 2 - 7.5 + 3 = -6.2, -0.4 - 1 + 15 + 1.5 = 15.1.
        ({"flow_importance": "none", "beta": 15}, 38.44, 228.01),
    ],
)
def test_the_variants(changes: dict[str, object], first: float, second: float) -> None:
    settings = preset("flowrl", **{"beta": 2, **changes})
    loss_T = trajectory_balance(inputs_of(vector(-1, -3, -1), vector(0.3, 99, -0.4)), settings)
    torch.testing.assert_close(loss_T, vector(first, first, second), rtol=0, atol=1e-8)


def test_without_a_head_log_z_is_0() -> None:
    """Gaps of the first test less 0.3 and plus 0.4: 0 and 2.5."""
    loss_T = trajectory_balance(inputs_of(vector(-1, -3, -1), None), preset("flowrl", beta=2, flow_importance="none"))
    torch.testing.assert_close(loss_T, vector(0, 0, 6.25), rtol=0, atol=1e-12)


def test_the_caps_of_the_weight() -> None:
    """Log ratios of 3 and 30 over an episode: e^3 = 20.1 is cut at 10; unclipped it stays, and e^30 is held at e^20."""
    for log_ratio, capped, unclipped in [(3.0, 10, math.exp(3)), (30.0, 10, math.exp(20))]:
        inputs = TokenInputs(vector(-1), vector(-1 - log_ratio), vector(-1), vector(0), torch.zeros(1), vector(1))
        for importance, weight in [("capped", capped), ("unclipped", unclipped), ("clipped", 1.2)]:
            loss = trajectory_balance(inputs, preset("flowrl", flow_importance=importance))
            assert loss.item() == pytest.approx(weight, rel=1e-12)


def test_the_reward_is_standardised_or_as_it_is() -> None:
    """Rewards 1, 3: ±1 over sqrt 2 = ±0.70710628, or 1 and 3 themselves less a KL penalty of 0.5 on the first."""
    outcome = Outcome(vector(1, 3), torch.zeros(2), torch.tensor([0, 1, 1]), vector(0.5, 0, 0))
    raw = OBJECTIVES["flowrl"].advantage(outcome, preset("flowrl", flow_reward="raw"))
    assert raw.tolist() == [0.5, 3, 3]
    group = Outcome(vector(1, 3), torch.zeros(2), torch.tensor([0, 1, 1]))
    expected = vector(-0.70710628, 0.70710628, 0.70710628)
    torch.testing.assert_close(OBJECTIVES["flowrl"].advantage(group, preset("flowrl")), expected, rtol=0, atol=1e-8)


def test_which_settings_need_the_starting_policy() -> None:
    assert preset("flowrl").needs_reference
    assert not preset("flowrl", flow_prior="old").needs_reference
    assert preset("flowrl", flow_prior="none", kl_weight=0.1).needs_reference
    assert not preset("dapo").needs_reference
