"""REINFORCE++ (arXiv 2501.03262): token returns with the KL penalty inside, whitened over the batch; no groups, no critic."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import as_given, returns_whitened
from orchestrator.learning.objectives.aggregations import mean_of_tokens
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

OBJECTIVE = Objective(as_given, returns_whitened, mean_of_tokens, clipped_ratio_loss, compares=False)
