"""GSPO (arXiv 2507.18071): GRPO with the ratio of whole answers, the geometric mean over their tokens."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import group_standardised, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_episode_means
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_sequence_loss

OBJECTIVE = Objective(
    group_standardised,
    to_each_token,
    mean_of_episode_means,
    clipped_sequence_loss,
    zero_if_equal=True,
    of_sequences=True,
)
