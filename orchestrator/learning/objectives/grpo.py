"""GRPO (arXiv 2402.03300): group-standardised advantages, PPO's clip, episode means; the preset's KL penalty is in the loss."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import group_standardised, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_episode_means
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

OBJECTIVE = Objective(group_standardised, to_each_token, mean_of_episode_means, clipped_ratio_loss, zero_if_equal=True)
