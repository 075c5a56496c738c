"""Our GRPO learns as trl's GRPOTrainer does: weight by weight on the same completions, and as a curve on its own."""

from __future__ import annotations

import pytest

pytest.importorskip("trl.trainer.grpo_trainer", reason="trl is not installed", exc_type=ImportError)

from trl_curve import Comparison, compare

pytestmark = [pytest.mark.long, pytest.mark.stack]


@pytest.fixture(scope="module")
def found() -> Comparison:
    return compare()


def test_the_same_completions_train_the_same_weights(found: Comparison) -> None:
    """Float32: 1e-5 for the gradient. Adam's first steps divide a gradient by its size, so that where it is next to nothing its
    rounding shows in the weight: 1e-3 of how far the weights went."""
    assert len(found.agreements) == 4, "with and without ratios that leave 1, after the first batch and the last"
    for (epochs, taken), agreement in found.agreements.items():
        assert agreement.gradient < (1e-5 if taken == epochs else 1e-3), (epochs, taken)
        assert agreement.weights < 1e-3, (epochs, taken)


def test_curves_overlap_and_both_learn(found: Comparison) -> None:
    """Each samples by its own draws, so the curves agree as two samples of one law do: by chance the difference over the last
    third leaves its 95 % interval once in 20 times, and twice that width once in 200 (five seeds). The control is told apart."""
    for name in ("trl", "ours"):
        rise = found.late(name) - found.rewards[name][:, 0]
        assert rise.min() > 0.2, f"{name} learns with every seed"
    late = found.overlaps()[-(found.rewards["ours"].shape[1] // 3) :]
    assert late.mean() >= 0.9
    gap, width = found.gap("ours")
    control, control_width = found.gap("control")
    assert abs(gap) < 2 * width
    assert control + control_width < 0
