"""Corrections of answers of older weights, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from invented import invented_batch, invented_columns, preset

from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.objectives.off_policy import correction
from orchestrator.learning.parts import split

EPISODES = torch.tensor([4, 4, 4, 7, 7, 9])
RATIOS = (0.5, 3.0, 2.0, 0.25, 0.8, 1.0)
"""pi / mu of each token. Products: episode 4: 3, 7: 0.2, 9: 1. Geometric means: 3^(1/3) = 1.442, 0.2^(1/2) = 0.447, 1."""
BOUND = 2.0
WEIGHTS = {
    # min(ratio, 2).
    "token_truncate": (0.5, 2.0, 2.0, 0.25, 0.8, 1.0),
    # min(3, 2), 0.2 and 1 at every token of the episode.
    "sequence_truncate": (2.0, 2.0, 2.0, 0.2, 0.2, 1.0),
    # 0.5 and 2 are the bounds and count as inside; 3 and 0.25 are outside.
    "token_mask": (1.0, 0.0, 1.0, 0.0, 1.0, 1.0),
    # 1.442 and 1 lie within [0.5, 2], 0.447 does not.
    "sequence_mask": (1.0, 1.0, 1.0, 0.0, 0.0, 1.0),
    "none": (1.0,) * 6,
}


def logs(*ratios: float) -> torch.Tensor:
    return torch.tensor(ratios, dtype=torch.float64).log()


@pytest.mark.parametrize("form", WEIGHTS)
def test_weights_by_hand(form: str) -> None:
    expected = torch.tensor(WEIGHTS[form], dtype=torch.float64)
    weights = correction(form, logs(*RATIOS), EPISODES, BOUND)
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", WEIGHTS)
def test_where_both_policies_agree_nothing_is_corrected(form: str) -> None:
    """exp(0) is 1 to the last bit."""
    assert torch.equal(correction(form, logs(1, 1, 1, 1, 1, 1), EPISODES, 1.0), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("form", ["token_mask", "sequence_mask"])
def test_the_bounds_themselves_are_inside(form: str) -> None:
    """One token an episode, where both masks are the same: 2 and 1/2 are kept, the next numbers outwards are not."""
    above = math.nextafter(math.log(2), math.inf)
    log_ratio = torch.tensor([math.log(2), -math.log(2), above, -above], dtype=torch.float64)
    assert correction(form, log_ratio, torch.arange(4), 2.0).tolist() == [1, 1, 0, 0]


def test_a_ratio_at_the_bound_is_truncated_to_itself() -> None:
    for form in ("token_truncate", "sequence_truncate"):
        assert correction(form, logs(2.0, 2.5), torch.arange(2), 2.0).tolist() == pytest.approx([2, 2], abs=1e-15)


def test_huge_ratios_stay_finite() -> None:
    """exp(800) is beyond float64. 800 and -900 in one episode: the product exp(-100), the geometric mean exp(-50)."""
    log_ratio = torch.tensor([800.0, -900.0], dtype=torch.float64)
    together = torch.tensor([0, 0])
    assert correction("token_truncate", log_ratio, together, 2.0).tolist() == pytest.approx([2, 0])
    assert correction("sequence_truncate", log_ratio, together, 2.0).tolist() == pytest.approx([math.exp(-100)] * 2)
    assert correction("token_mask", log_ratio, together, 2.0).tolist() == [0, 0]
    assert correction("sequence_mask", log_ratio, together, 2.0).tolist() == [0, 0]


def test_an_episode_over_several_rows_is_one_sequence() -> None:
    """Episode 1 of the invented batch has two rows, of 3 and 4 tokens. Its log ratios are 0.1 each: the product is exp(0.7) = 2.01,
    cut at 2; of its rows alone neither exp(0.3) nor exp(0.4) would be."""
    batch = invented_batch(preset("grpo"), 48)
    assert [row.targets for row, of in zip(batch.rows, batch.episode_R.tolist(), strict=True) if of == 1] == [3, 4]
    log_ratio = torch.where(batch.episode_T == 1, 0.1, 0.0).double()
    weights = correction("sequence_truncate", log_ratio, batch.episode_T, 2.0)
    assert weights[batch.episode_T == 1].tolist() == pytest.approx([2] * 7)
    assert (weights[batch.episode_T != 1] == 1).all()


def test_a_correction_scales_the_weights_of_the_loss_and_is_split_with_the_episodes() -> None:
    """Weights of tokens in an optimizer step's loss: those of its aggregation times the correction, here 2 for episode 0 alone."""
    algorithm = preset("grpo", minibatches=2)
    batch, objective = invented_batch(algorithm, 48), OBJECTIVES["grpo"]
    draws = torch.Generator().manual_seed(0)
    now_T, reference_T = torch.randn(2, batch.total, generator=draws, dtype=torch.float64)
    columns = invented_columns(batch, algorithm, now_T, reference_T)
    corrected = replace(columns, correction=torch.where(batch.episode_T == 0, 2.0, 1.0).double())
    pairs = zip(split(batch, columns, objective, 2), split(batch, corrected, objective, 2), strict=True)
    for plain, part in pairs:
        assert plain.columns.weights is not None
        assert part.columns.weights is not None
        scale = torch.where(part.columns.episode == 0, 2.0, 1.0)
        torch.testing.assert_close(part.columns.weights, plain.columns.weights * scale, rtol=0, atol=0)
        # Not the advantages: a clipped loss of a doubled advantage is another one where its ratio is off.
        assert torch.equal(part.columns.advantages, plain.columns.advantages)


def test_weights_have_no_gradient() -> None:
    """One token: the derivative of w exp(log p - old) A is w A at ratio 1, with w = exp(log p - log mu) held: 1.5 * 2 = 3. Were w
    derived too, it would be 2 w A = 6."""
    logprob = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
    old = logprob.detach()
    weight = correction("token_truncate", old - (old - math.log(1.5)), torch.tensor([0]), 2.0)
    assert not weight.requires_grad
    loss = (weight * torch.exp(logprob - old) * 2.0).sum()
    assert float(torch.autograd.grad(loss, logprob)[0]) == pytest.approx(3)
