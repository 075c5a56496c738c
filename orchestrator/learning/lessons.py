"""The kinds of lessons: how an example becomes a row, what is minimised, and how rightness is told on held-out examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config.schema import ModelConfig
from orchestrator.learning import classifier, reward_model, sft
from orchestrator.learning.rows import Row
from orchestrator.learning.teaching import Criterion, Right, Told


@dataclass(frozen=True, slots=True)
class Kind:
    """row_of: (example, tokenizer, end_token, model) -> row. first_branch: example -> the first `workloads.base.Branch` of it.
    classes_of: examples -> names of the head's outputs; None where the language model's own head is trained. right: None where
    nothing is held out from the learner (an exam asks the server). told: what its config.json says of held-out scores."""

    row_of: Callable[[Any, Any, bool, ModelConfig], Row]
    criterion: Criterion
    first_branch: Callable[[Any], Any]
    right: Right | None = None
    classes_of: Callable[[Sequence[Any]], tuple[str, ...]] | None = None
    told: Told | None = None


KINDS = {
    "sft": Kind(sft.row_of, sft.negative_log_likelihood, lambda example: example.branches[0]),
    "preference": Kind(
        reward_model.row_of,
        reward_model.preference_loss,
        lambda pair: pair.better,
        reward_model.ordered_right,
        reward_model.classes_of,
        reward_model.calibration,
    ),
    "classification": Kind(
        classifier.row_of,
        classifier.class_loss,
        lambda labelled: labelled.branch,
        classifier.classified_right,
        classifier.classes_of,
    ),
}
