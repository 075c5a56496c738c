"""DAPO (arXiv 2503.14476): GRPO's advantages, a wider clip above (a setting), and a mean over tokens.

Its dynamic sampling and soft length penalty are settings of their own (`dynamic_sampling`, `overlong_share`): any objective can
use them."""

from __future__ import annotations

from orchestrator.learning.objectives.advantages import group_standardised, to_each_token
from orchestrator.learning.objectives.aggregations import mean_of_tokens
from orchestrator.learning.objectives.base import Objective
from orchestrator.learning.objectives.surrogates import clipped_ratio_loss

OBJECTIVE = Objective(group_standardised, to_each_token, mean_of_tokens, clipped_ratio_loss, zero_if_equal=True)
