"""RLOO (arXiv 2402.14740): each answer against the mean of the others, whole answers as actions (tokens are summed)."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import leave_one_out, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_episode_sums
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

OBJECTIVE = Objective(leave_one_out, to_each_token, mean_of_episode_sums, clipped_ratio_loss, zero_if_equal=True)
