"""Dr. GRPO (arXiv 2503.20783): GRPO without its two divisions, by the group's deviation and by the answer's length."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import group_centred, to_each_token
from orchestrator.learning.objectives.aggregations import sums_over_cap
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

OBJECTIVE = Objective(group_centred, to_each_token, sums_over_cap, clipped_ratio_loss, zero_if_equal=True)
