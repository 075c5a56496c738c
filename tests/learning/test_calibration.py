"""The mean and the spread of reference answers, by hand, and where they are kept."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config

from orchestrator.errors import RunError
from orchestrator.learning import reward_model
from orchestrator.learning.calibration import CALIBRATION, PLAIN, Calibration, calibration_of
from orchestrator.values import Score

One = namedtuple("One", ["reward"])


# Scores 1, 3, 3, 5: mean 3, squares of the distances 4, 0, 0, 4, of which the mean is 2. 7 is 4 / sqrt(2) spreads above it.
def test_a_score_is_told_in_spreads_above_the_mean() -> None:
    found = reward_model.calibration(One(torch.tensor([1.0, 3.0, 3.0, 5.0], dtype=torch.float64)))
    assert found == pytest.approx({"reward_mean": 3, "reward_spread": 2**0.5, "reward_n": 4})
    score = Calibration(*(found[name] for name in CALIBRATION)).score(7.0)  # type: ignore[arg-type]
    assert (score.value, score.raw) == (pytest.approx(2 * 2**0.5), 7.0)
    assert PLAIN.score(7.0) == Score(7.0, 7.0)


def test_a_model_that_tells_nothing_apart_is_refused() -> None:
    with pytest.raises(RunError, match=r"gives all its 2 reference answers the score 0.5"):
        reward_model.calibration(One(torch.tensor([0.5, 0.5])))


def test_it_is_read_from_the_config_beside_the_weights(tmp_path: Path) -> None:
    """Of a model without reference answers it is nothing, whatever that was made of."""
    for name, settings in (("a", Calibration(3.0, 0.5, 8).settings), ("b", dict.fromkeys(CALIBRATION)), ("c", {})):
        Qwen3Config(hidden_size=8, **settings).save_pretrained(tmp_path / name)
    assert calibration_of(str(tmp_path / "a")) == Calibration(3.0, 0.5, 8)
    assert calibration_of(str(tmp_path / "b")) == calibration_of(str(tmp_path / "c")) == PLAIN
