"""PPO (arXiv 1707.06347): generalised advantages from a critic; the critic's own loss is in `orchestrator.learning.critic`."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import as_given, gae_whitened
from orchestrator.learning.objectives.aggregations import mean_of_tokens
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

OBJECTIVE = Objective(as_given, gae_whitened, mean_of_tokens, clipped_ratio_loss, compares=False, critic=True)
