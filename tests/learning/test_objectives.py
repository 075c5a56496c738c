"""The objectives' pieces and GRPO as a whole, against numbers worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from invented import preset

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.objectives import OBJECTIVES, Outcome, TokenInputs
from orchestrator.learning.objectives.advantages import group_standardised
from orchestrator.learning.objectives.kl import k3
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

SETTINGS = AlgorithmConfig(clip_low=0.2, clip_high=0.3, kl_weight=0.0)


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_group_standardised() -> None:
    """Interleaved groups. Group 4: rewards 1, 2, 3, mean 2, unbiased std 1: -1, 0, 1 over 1.000001.

    Group 7: rewards 0, 1, mean 0.5, std sqrt(0.5) = 0.70710678: ±0.5 / 0.70710778.
    """
    advantages = group_standardised(vector(1, 0, 2, 1, 3), torch.tensor([4, 7, 4, 7, 4]))
    low, high = -0.5 / (math.sqrt(0.5) + 1e-6), 0.5 / (math.sqrt(0.5) + 1e-6)
    expected = vector(-1 / 1.000001, low, 0, high, 1 / 1.000001)
    torch.testing.assert_close(advantages, expected, rtol=0, atol=1e-14)


def test_equal_rewards_give_no_advantage() -> None:
    assert group_standardised(vector(0.7, 0.7, 0.7), torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        # Inside the clip [0.8, 1.3]: -ratio A; its derivative by the log-probability is the same number.
        (1.0, 2.0, -2.0, -2.0),
        (1.2, 2.0, -2.4, -2.4),
        (0.9, -2.0, 1.8, 1.8),
        # Outside, on the side where the objective has already gained: the clipped value and no gradient.
        (1.5, 2.0, -2.6, 0.0),
        (0.5, -2.0, 1.6, 0.0),
        # Outside, on the side where it has lost: min() takes the unclipped value, the gradient lives.
        (0.5, 2.0, -1.0, -1.0),
        (1.5, -2.0, 3.0, 3.0),
        (1.5, 0.0, 0.0, 0.0),
    ],
)
def test_the_clipped_loss_and_its_slope(ratio: float, advantage: float, loss: float, slope: float) -> None:
    logprobs = vector(math.log(0.25 * ratio)).requires_grad_()
    inputs = TokenInputs(logprobs, vector(math.log(0.25)), None, vector(advantage))
    value = clipped_ratio_loss(inputs, SETTINGS)
    assert value.item() == pytest.approx(loss, abs=1e-12)
    (gradient,) = torch.autograd.grad(value.sum(), logprobs)
    assert float(gradient) == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(
    ("policy", "reference", "value", "slope"),
    [
        # d = log(reference / policy). Value e^d - d - 1, derivative by the policy's log-probability 1 - e^d.
        (0.5, 0.5, 0.0, 0.0),
        (0.25, 0.5, 2 - math.log(2) - 1, -1.0),  # d = ln 2: 0.30685
        (0.5, 0.25, 0.5 + math.log(2) - 1, 0.5),  # d = -ln 2: 0.19315
    ],
)
def test_k3(policy: float, reference: float, value: float, slope: float) -> None:
    logprobs = vector(math.log(policy)).requires_grad_()
    estimate = k3(logprobs, vector(math.log(reference)))
    assert estimate.item() == pytest.approx(value, abs=1e-14)
    (gradient,) = torch.autograd.grad(estimate.sum(), logprobs)
    assert float(gradient) == pytest.approx(slope, abs=1e-14)


def test_the_clamps_of_k3() -> None:
    """d = 5: e^5 - 6 = 142.4, clamped to 10. d = -5: e^-5 + 4. d = -100 counts as -20: e^-20 + 19, clamped to 10. No gradient there."""
    logprobs = vector(-5, -1, -1).requires_grad_()
    estimate = k3(logprobs, vector(0, -6, -101))
    torch.testing.assert_close(estimate.detach(), vector(10, math.exp(-5) + 4, 10), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(estimate.sum(), logprobs)
    torch.testing.assert_close(gradient, vector(0, 1 - math.exp(-5), 0), rtol=0, atol=1e-12)


def test_k3_is_an_unbiased_estimate_of_the_divergence() -> None:
    """Its expectation under the policy is KL(policy || reference), exactly, over a vocabulary of three."""
    policy, reference = vector(0.5, 0.3, 0.2), vector(0.2, 0.2, 0.6)
    divergence = (policy * (policy / reference).log()).sum()
    assert float((policy * k3(policy.log(), reference.log())).sum()) == pytest.approx(float(divergence), abs=1e-14)


def test_grpo_by_hand() -> None:
    """One group of two episodes with rewards 1 and 0 and kl_weight 0.5; clip 0.2 below, 0.3 above.

    Advantages ±0.5 / (0.70710678 + 1e-6) = ±A with A = 0.70710578.
    Episode 0, two tokens, weight 1/4 each: ratio 1.5 is clipped to 1.3 (-1.3 A); ratio 1 (-A). Episode 1, one token, weight
    1/2: ratio 0.9, inside (+0.9 A). Surrogate: -0.25 (1.3 + 1) A + 0.5 * 0.9 A = -0.125 A.
    Reference / policy: 2, 1, 0.5. k3: 0.30685282, 0, 0.19314718. Their weighted sum: 0.25 * 0.30685282 + 0.5 * 0.19314718
    = 0.17328680. Loss: -0.125 A + 0.5 * 0.17328680 = -0.08838822 + 0.08664340 = -0.00174482.
    Slopes: token 0 clipped: 0 + 0.25 * 0.5 * (1 - 2) = -0.125; token 1: -0.25 A = -0.17677645; token 2: 0.5 * 0.9 A
    + 0.5 * 0.5 * (1 - 0.5) = 0.31819760 + 0.125 = 0.44319760.
    """
    objective, episode_T = OBJECTIVES["grpo"], torch.tensor([0, 0, 1])
    settings = AlgorithmConfig(clip_low=0.2, clip_high=0.3, kl_weight=0.5)
    advantages_T = objective.advantage(Outcome(vector(1, 0), torch.tensor([0, 0]), episode_T), settings)
    assert float(advantages_T[0]) == pytest.approx(0.70710578, abs=1e-8)
    old = vector(-1.0, -2.0, -1.5)
    logprobs = (old + vector(math.log(1.5), 0, math.log(0.9))).requires_grad_()
    reference = logprobs.detach() + vector(math.log(2), 0, -math.log(2))
    inputs = TokenInputs(logprobs, old, reference, advantages_T)
    weights_E = objective.aggregation(torch.tensor([2, 1]), 9)
    loss = (weights_E[episode_T] * objective.loss(inputs, settings)).sum()
    assert loss.item() == pytest.approx(-0.00174482, abs=1e-8)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, vector(-0.125, -0.17677645, 0.44319760), rtol=0, atol=1e-8)


def test_on_policy_the_clipped_loss_has_the_gradient_of_reinforce() -> None:
    """d/dθ -A exp(log p - log p_old) at p = p_old is -A d/dθ log p: no clip and no bias on the first step."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    tokens = torch.randint(7, (50, 1), generator=generator)
    advantages = torch.randn(50, generator=generator, dtype=torch.float64)
    logprobs = torch.log_softmax(logits, -1).gather(1, tokens)[:, 0]
    clipped = clipped_ratio_loss(TokenInputs(logprobs, logprobs.detach(), None, advantages), SETTINGS).sum()
    (ours,) = torch.autograd.grad(clipped, logits, retain_graph=True)
    (reinforce,) = torch.autograd.grad(-(advantages * logprobs).sum(), logits)
    torch.testing.assert_close(ours, reinforce, rtol=0, atol=1e-14)


def test_the_expected_gradient_is_that_of_the_expected_reward() -> None:
    """All 3 actions of one softmax, each as often as the policy draws it: sum_a p(a) r(a) d log p(a) = d sum_a p(a) r(a)."""
    logits, rewards = vector(0.1, -0.4, 0.8).requires_grad_(), vector(1, 5, -2)
    logprobs = torch.log_softmax(logits, -1)
    losses = clipped_ratio_loss(TokenInputs(logprobs, logprobs.detach(), None, rewards), SETTINGS)
    (ours,) = torch.autograd.grad((logprobs.exp().detach() * losses).sum(), logits, retain_graph=True)
    (exact,) = torch.autograd.grad(-(logprobs.exp() * rewards).sum(), logits)
    torch.testing.assert_close(ours, exact, rtol=0, atol=1e-14)


def test_a_group_without_variance_has_no_gradient() -> None:
    objective = OBJECTIVES["grpo"]
    logprobs = vector(-1, -2, -3).requires_grad_()
    outcome = Outcome(vector(0.4, 0.4, 0.4), torch.zeros(3), torch.arange(3))
    advantages = objective.advantage(outcome, SETTINGS)
    loss = objective.loss(TokenInputs(logprobs, vector(-1.5, -2, -2.5), None, advantages), SETTINGS).sum()
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert gradient.tolist() == [0, 0, 0]


def test_without_a_weight_the_reference_plays_no_part() -> None:
    inputs = TokenInputs(vector(-1), vector(-1), vector(-9), vector(2))
    assert OBJECTIVES["grpo"].loss(inputs, SETTINGS).tolist() == [-2]


def test_the_objectives_import_torch_alone() -> None:
    """Of all that the project depends on; the configuration, the models and the engine stay out as well."""
    code = """
import sys
import orchestrator.learning.objectives
heavy = {"transformers", "deepspeed", "ray", "vllm", "omegaconf", "wandb", "pyarrow", "safetensors", "tokenizers"}
heavy |= {"orchestrator.config", "orchestrator.learning.batch", "orchestrator.learning.engine", "orchestrator.learning.model"}
print(sorted(heavy & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(
    "changes", [{}, {"kl_weight": 0}, {"kl_weight": 0.1, "kl_in": "reward"}, {"flow_prior": "old"}]
)
def test_the_settings_tell_what_an_objective_keeps_without_torch(name: str, changes: dict[str, object]) -> None:
    """The dry run asks the settings, the learner the objective."""
    algorithm, objective = preset(name, **changes), OBJECTIVES[name]
    assert algorithm.has_critic == objective.critic
    assert algorithm.needs_old == objective.penalises_reward(algorithm)
    assert preset(name, **changes, minibatches=2).needs_old
