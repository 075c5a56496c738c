"""What gives a reward model's numbers a meaning: the mean and the spread of its scores of reference answers.

Bradley-Terry tells differences alone (arXiv 2203.02155 eq. 1), so the offset of a trained reward model is arbitrary, and so, under
a finite training, is its scale. The reference answers are those of its lesson's held-out pairs, both sides. The numbers stand in the
config.json beside the weights, and so go where these go. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from orchestrator.errors import RunError
from orchestrator.values import Score

MEAN, SPREAD, COUNT = "reward_mean", "reward_spread", "reward_n"
CALIBRATION = (MEAN, SPREAD, COUNT)
"""In config.json, null where a lesson had no held-out pairs, and in the lesson's report."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """mean and spread: of the raw scores of `n` reference answers; the spread is their standard deviation, over n."""

    mean: float
    spread: float
    n: int

    @classmethod
    def of(cls, raw: Sequence[float]) -> Calibration:
        """That of reference answers with these raw scores. Raises RunError where they are all the same."""
        spread = pstdev(raw)
        if not spread > 0:
            raise RunError(
                f"the reward model gives all its {len(raw)} reference answers the score {raw[0]:g}: it learned nothing. Look at its "
                "lesson's steps and learning rate (training.steps, training.learning_rate), and at its pairs."
            )
        return cls(fmean(raw), spread, len(raw))

    @property
    def settings(self) -> dict[str, float]:
        """For config.json."""
        return {MEAN: self.mean, SPREAD: self.spread, COUNT: self.n}

    def score(self, raw: float) -> Score:
        """By how many spreads a raw score is above the mean, and the raw score."""
        return Score((raw - self.mean) / self.spread, raw)


PLAIN = Calibration(0.0, 1.0, 0)
"""Leaves raw scores as they are."""


def calibration_of(model: str) -> Calibration:
    """That of a model's folder or hub id; `PLAIN` where its config.json knows none."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model)
    if getattr(config, SPREAD, None) is None:
        return PLAIN
    return Calibration(float(getattr(config, MEAN)), float(getattr(config, SPREAD)), int(getattr(config, COUNT)))
