"""RL objectives, and the baselines without RL, as compositions of pure functions of tensors. Imports torch alone.

A new objective is a file with an `Objective` (advantage, ratio, clip, aggregation) and a line in `OBJECTIVES`; its published
settings are a YAML under `config/presets/algorithm`.
"""

from __future__ import annotations

from orchestrator.learning.objectives import (
    cispo,
    dapo,
    dpo,
    dr_grpo,
    flowrl,
    grpo,
    gspo,
    ppo,
    reinforce_pp,
    reinforce_pp_baseline,
    rft,
    rloo,
)
from orchestrator.learning.objectives.base import Objective, Outcome, Settings, TokenInputs

OBJECTIVES: dict[str, Objective] = {
    "ppo": ppo.OBJECTIVE,
    "grpo": grpo.OBJECTIVE,
    "dr_grpo": dr_grpo.OBJECTIVE,
    "dapo": dapo.OBJECTIVE,
    "rloo": rloo.OBJECTIVE,
    "reinforce_pp": reinforce_pp.OBJECTIVE,
    "reinforce_pp_baseline": reinforce_pp_baseline.OBJECTIVE,
    "gspo": gspo.OBJECTIVE,
    "cispo": cispo.OBJECTIVE,
    "flowrl": flowrl.OBJECTIVE,
    "rft": rft.OBJECTIVE,
    "dpo": dpo.OBJECTIVE,
}

__all__ = ["OBJECTIVES", "Objective", "Outcome", "Settings", "TokenInputs"]
