"""Token losses and their slopes, against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from invented import preset

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.objectives import OBJECTIVES, TokenInputs
from orchestrator.learning.objectives.kl import divergence, k1, k2
from orchestrator.learning.objectives.surrogates import (
    clipped_ratio_loss,
    clipped_sequence_loss,
    clipped_value_loss,
    clipped_weight_loss,
)

SETTINGS = AlgorithmConfig(clip_low=0.2, clip_high=0.3, kl_weight=0.0)


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def value_and_slope(
    loss: Callable[[TokenInputs, AlgorithmConfig], torch.Tensor], ratios: list[float], advantages: list[float],
    settings: AlgorithmConfig = SETTINGS, episodes: list[int] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Losses of tokens whose probability was 1/4 when drawn, and the sum's derivatives by their log-probabilities."""
    logprobs = (vector(*ratios) / 4).log().requires_grad_()
    episode_T = torch.tensor(episodes if episodes is not None else [0] * len(ratios))
    old_T = torch.full_like(logprobs.detach(), math.log(0.25))
    values = loss(TokenInputs(logprobs, old_T, None, vector(*advantages), episode_T), settings)
    (slopes,) = torch.autograd.grad(values.sum(), logprobs)
    return values.detach(), slopes


def equal(actual: torch.Tensor, *expected: float, within: float = 1e-12) -> None:
    torch.testing.assert_close(actual, vector(*expected), rtol=0, atol=within)


def test_the_dual_clip() -> None:
    """c = 3. A = -2: ratio 2 costs 4, below 3 * 2 = 6; ratio 5 would cost 10, held at 6 without a slope. A = 2: untouched."""
    settings = AlgorithmConfig(clip_low=0.2, clip_high=0.3, dual_clip=3)
    values, slopes = value_and_slope(clipped_ratio_loss, [2, 5, 0.5, 5], [-2, -2, -2, 2], settings)
    equal(values, 4, 6, 1.6, -2.6)
    equal(slopes, 4, 0, 0, 0)


def test_the_ratio_of_a_sequence() -> None:
    """Episode 0: ratios 2 and 0.5, geometric mean 1; A = 2: -2 at both. Episode 1: 1.2, 1.2, 1.2: 1.2; A = 1: -1.2.

    Each token's slope is the sequence's ratio times -A: the gradient goes through its own log-probability.
    """
    ratios, advantages = [2, 1.2, 0.5, 1.2, 1.2], [2.0, 1, 2, 1, 1]
    values, slopes = value_and_slope(clipped_sequence_loss, ratios, advantages, episodes=[0, 1, 0, 1, 1])
    equal(values, -2, -1.2, -2, -1.2, -1.2)
    equal(slopes, -2, -1.2, -2, -1.2, -1.2)


def test_a_sequence_is_clipped_as_a_whole() -> None:
    """Ratios 4 and 1: geometric mean 2, above 1.3; A = 1: -1.3 at both tokens, also at the one that has not moved; no slope.

    A = -1: the loss of 2 stands, with its slope.
    """
    values, slopes = value_and_slope(clipped_sequence_loss, [4, 1, 4, 1], [1, 1, -1, -1], episodes=[0, 0, 1, 1])
    equal(values, -1.3, -1.3, 2, 2)
    equal(slopes, 0, 0, 2, 2)


def test_the_mean_over_tokens_of_gspo_has_the_gradient_of_the_sequences_own_loss() -> None:
    """d/dx of -A exp(mean(x - old)) is -A s / n for each of n tokens: what the token form gives under episode means."""
    logprobs, old = vector(-1, -2, -1.5).requires_grad_(), vector(-1.1, -1.9, -1.6)
    sequence = -2 * torch.exp((logprobs - old).mean())
    (expected,) = torch.autograd.grad(sequence, logprobs)
    inputs = TokenInputs(logprobs, old, None, vector(2, 2, 2), torch.zeros(3, dtype=torch.int64))
    (slopes,) = torch.autograd.grad(clipped_sequence_loss(inputs, SETTINGS).mean(), logprobs)
    torch.testing.assert_close(slopes, expected, rtol=0, atol=1e-14)


def test_a_clipped_weight_keeps_every_gradient() -> None:
    """Clip [0.8, 1.3]. Weights 1.3, 0.8, 1: loss -w A log p with log p = log(ratio / 4), slope -w A; none is 0."""
    values, slopes = value_and_slope(clipped_weight_loss, [4, 0.5, 1], [2, -1, 3])
    equal(values, 0, 0.8 * math.log(0.125), -3 * math.log(0.25))
    equal(slopes, -2.6, 0.8, -3)


def test_the_published_weight_of_cispo_has_no_bound_below() -> None:
    """clip_low 1, clip_high 4: weights in [0, 5]. Ratio 0.01 keeps its weight, ratio 9 is cut at 5."""
    _, slopes = value_and_slope(clipped_weight_loss, [0.01, 9], [1, 1], preset("cispo"))
    equal(slopes, -0.01, -5)


def test_the_clip_of_dapo_is_wider_above() -> None:
    """[0.8, 1.28]: at 1.25 a token still learns, at 1.3 no longer, nor at 0.75 with a negative advantage."""
    values, slopes = value_and_slope(OBJECTIVES["dapo"].token_loss, [1.25, 1.3, 0.75], [1, 1, -1], preset("dapo"))
    equal(values, -1.25, -1.28, 0.8)
    equal(slopes, -1.25, 0, 0)


@pytest.mark.parametrize(
    ("value", "old", "target", "clip", "loss", "slope"),
    [
        # Half the squared error while the value moves by less than the clip.
        (1.1, 1.0, 2.0, 0.2, 0.405, -0.9),
        # 1.5 is held at 1.2, which is farther from 2: half of 0.64, and no slope: it has moved enough.
        (1.5, 1.0, 2.0, 0.2, 0.32, 0.0),
        # 0.5 is held at 0.8, but its own error of 1.5 is larger: it may come back.
        (0.5, 1.0, 2.0, 0.2, 1.125, -1.5),
        # No clip: half of 0.25.
        (1.5, 1.0, 2.0, 0.0, 0.125, -0.5),
    ],
)
def test_the_loss_of_a_value(value: float, old: float, target: float, clip: float, loss: float, slope: float) -> None:
    values = vector(value).requires_grad_()
    error = clipped_value_loss(values, vector(old), vector(target), clip)
    assert error.item() == pytest.approx(loss, abs=1e-12)
    assert torch.autograd.grad(error.sum(), values)[0].item() == pytest.approx(slope, abs=1e-12)


@pytest.mark.parametrize(
    ("estimate", "values", "slopes"),
    [
        # log p - log q at p / q = 1, 2, 1/2: 0, 0.69314718, -0.69314718; slope 1 whatever they are.
        (k1, (0, math.log(2), -math.log(2)), (1, 1, 1)),
        # Half the square: 0, 0.24022651 twice; slope log(p / q).
        (k2, (0, 0.24022651, 0.24022651), (0, math.log(2), -math.log(2))),
    ],
)
def test_estimates_of_the_divergence(
    estimate: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], values: tuple[float, ...], slopes: tuple[float, ...]
) -> None:
    logprobs = vector(0.5, 0.5, 0.25).log().requires_grad_()
    estimates = estimate(logprobs, vector(0.5, 0.25, 0.5).log())
    equal(estimates.detach(), *values, within=1e-8)
    equal(torch.autograd.grad(estimates.sum(), logprobs)[0], *slopes)


def test_what_the_estimates_are_unbiased_for() -> None:
    """Over a vocabulary of three, exactly. Values: k1's and k3's mean is KL(p || q). Slopes by the logits: k2's mean is that
    of the KL, k1's is 0."""
    logits, reference = vector(0.3, -0.2, 0.5).requires_grad_(), vector(0.2, 0.2, 0.6).log()
    logprobs = torch.log_softmax(logits, 0)
    policy = logprobs.exp()
    exact = (policy * (logprobs - reference)).sum()
    (exact_slope,) = torch.autograd.grad(exact, logits, retain_graph=True)
    for name, unbiased_value, slope in [("k1", True, 0 * exact_slope), ("k2", False, exact_slope), ("k3", True, None)]:
        mean = (policy.detach() * divergence(name, logprobs, reference)).sum()
        assert (abs(float(mean - exact)) < 1e-14) == unbiased_value, name
        if slope is not None:
            (ours,) = torch.autograd.grad(mean, logits, retain_graph=True)
            torch.testing.assert_close(ours, slope, rtol=0, atol=1e-14, msg=name)


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
@pytest.mark.parametrize("kl_in", ["loss", "reward"])
def test_the_penalty_is_in_one_place(name: str, kl_in: str) -> None:
    """The loss of ratio 1 with and without a weight of 0.5: k2 = (ln 2)^2 / 2 = 0.24022651 more, or the same where the reward
    has it."""
    logprobs = vector(math.log(0.5))
    first = torch.zeros(1, dtype=torch.int64)
    inputs = TokenInputs(logprobs, logprobs, vector(math.log(0.25)), vector(1.0), first, vector(0.1), first)
    with_it, without = (preset(name, kl_weight=weight, kl_estimator="k2", kl_in=kl_in) for weight in (0.5, 0))
    more = OBJECTIVES[name].loss(inputs, with_it) - OBJECTIVES[name].loss(inputs, without)
    assert more.item() == pytest.approx(0.5 * 0.24022651 if kl_in == "loss" else 0, abs=1e-8)
