"""REINFORCE++ with baseline (arXiv 2501.03262): rewards less their group's mean, whitened over the batch's tokens."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import group_centred, to_each_token_whitened
from orchestrator.learning.objectives.aggregations import mean_of_tokens
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

OBJECTIVE = Objective(group_centred, to_each_token_whitened, mean_of_tokens, clipped_ratio_loss)
