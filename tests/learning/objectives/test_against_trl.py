"""The same log-probabilities and advantages through trl's own loss: GRPO, Dr. GRPO, DAPO, GSPO and CISPO, value and gradient.

trl is not installed with the project; `pip install trl` beside it lets these run (last with trl 1.16.0).
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from invented import preset

from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.objectives import OBJECTIVES, Outcome, TokenInputs

trl = pytest.importorskip("trl.trainer.grpo_trainer", reason="trl is not installed", exc_type=ImportError)

EPISODES, LENGTH, CAP = 8, 7, 16
LENGTHS = torch.tensor([7, 1, 4, 2, 6, 3, 7, 5])
MASK = (torch.arange(LENGTH) < LENGTHS[:, None]).long()

CASES = {
    # Our settings, and trl's words for them.
    "grpo": (preset("grpo", kl_weight=0.04), {"loss_type": "grpo", "beta": 0.04}),
    "dr_grpo": (preset("dr_grpo"), {"loss_type": "dr_grpo"}),
    "dapo": (preset("dapo"), {"loss_type": "dapo", "epsilon_high": 0.28}),
    "dapo with KL": (preset("dapo", kl_weight=0.1), {"loss_type": "dapo", "epsilon_high": 0.28, "beta": 0.1}),
    "gspo": (
        preset("gspo", clip_low=0.05, clip_high=0.06),
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon_low": 0.05,
            "epsilon_high": 0.06,
        },
    ),
    # Its bound is on the ratio itself, ours on the distance from 1.
    "cispo": (preset("cispo", clip_high=0.5), {"loss_type": "cispo", "epsilon_high": 1.5}),
}


def draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(log-probabilities now, when drawn, under the reference [E, L], rewards [E]); ratios between about 0.4 and 2.5."""
    generator = torch.Generator().manual_seed(11)

    def noise(scale: float) -> torch.Tensor:
        return scale * torch.randn(EPISODES, LENGTH, generator=generator, dtype=torch.float64)

    now = -2 + noise(0.5)
    return now, now + noise(0.3), now + noise(0.4), torch.rand(EPISODES, generator=generator, dtype=torch.float64)


def theirs(words: dict[str, Any], inputs: dict[str, torch.Tensor], logprobs: torch.Tensor) -> torch.Tensor:
    """trl's loss as its trainer computes it, with the model's pass replaced by given log-probabilities."""
    trainer = SimpleNamespace(
        **{"beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2, "importance_sampling_level": "token", **words},
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        accelerator=SimpleNamespace(num_processes=1, gather=lambda value: value, reduce=lambda value, reduction: value),
        model=SimpleNamespace(training=True), _metrics={"train": defaultdict(list)}, current_gradient_accumulation_steps=1,
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False,
        vllm_importance_sampling_correction=False, _entropy_bonus_enabled=False, max_completion_length=CAP,
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (logprobs, torch.zeros_like(logprobs), None),
    )  # fmt: skip
    loss: torch.Tensor = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss


def ours(algorithm: AlgorithmConfig, advantages_T: torch.Tensor, *columns: torch.Tensor) -> torch.Tensor:
    objective, episode_T = OBJECTIVES[algorithm.name], MASK.nonzero()[:, 0]
    now_T, old_T, reference_T = columns
    weights_T = objective.aggregation(LENGTHS, CAP)[episode_T]
    inputs = TokenInputs(now_T, old_T, reference_T, advantages_T, episode_T)
    return (weights_T * objective.loss(inputs, algorithm)).sum()


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_trl(case: str) -> None:
    """Two groups of four, masked completions of 1 to 7 tokens, ratios in and outside the clip."""
    algorithm, words = CASES[case]
    now, old, reference, rewards = draws()
    now.requires_grad_()
    real = MASK.bool()
    outcome = Outcome(rewards, torch.arange(EPISODES) // 4, MASK.nonzero()[:, 0])
    advantages_T = OBJECTIVES[algorithm.name].advantage(outcome, algorithm)
    advantages_E = advantages_T[LENGTHS.cumsum(0) - 1]
    inputs = {
        "prompt_ids": torch.ones(EPISODES, 2), "prompt_mask": torch.ones(EPISODES, 2), "completion_ids": MASK,
        "completion_mask": MASK, "advantages": advantages_E, "old_per_token_logps": old,
        "ref_per_token_logps": reference, "num_items_in_batch": MASK.sum(),
    }  # fmt: skip
    expected = theirs(words, inputs, now)
    actual = ours(algorithm, advantages_T, now[real], old[real], reference[real])
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    (slopes,) = torch.autograd.grad(actual, now)
    (their_slopes,) = torch.autograd.grad(expected, now)
    torch.testing.assert_close(slopes, their_slopes, rtol=1e-12, atol=1e-14)
    if algorithm.kl_weight == 0 and case != "cispo":
        assert slopes[real].count_nonzero() < real.sum(), "some tokens are clipped"
