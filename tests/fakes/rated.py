"""A run whose reward asks a judge and a reward model."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.schema import RaterConfig, RewardModelConfig, RunConfig, group


@dataclass
class RatedConfig(RunConfig):
    """`content` is the reward model."""

    content: RewardModelConfig = group(RewardModelConfig, "The reward model.")

    def raters(self) -> dict[str, RaterConfig]:
        """The judge, and content."""
        return super().raters() | {"content": self.content}
