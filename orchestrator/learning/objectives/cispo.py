"""CISPO (MiniMax-M1, arXiv 2506.13585): the clipped ratio is a weight without gradient, so that no token is silenced."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import group_standardised, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_tokens
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_weight_loss

OBJECTIVE = Objective(group_standardised, to_each_token, mean_of_tokens, clipped_weight_loss, zero_if_equal=True)
