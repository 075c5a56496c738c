"""RL objectives as compositions of pure functions of tensors. Imports torch alone.

An objective is (advantage, aggregation, token loss). A new one is a file with an `Objective` and a line in `OBJECTIVES`.
"""

from __future__ import annotations

from orchestrator.learning.objectives import grpo
from orchestrator.learning.objectives.base import Objective, TokenInputs

OBJECTIVES: dict[str, Objective] = {"grpo": grpo.OBJECTIVE}

__all__ = ["OBJECTIVES", "Objective", "TokenInputs"]
