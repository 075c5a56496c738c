"""What an instruction is worth: the privacy reward and the appropriate-disclosure reward (arXiv 2603.02983).

As `train_utils` of SALT-NLP/contextual_privacy_defense at 02d3931.
The instructor is set back to before a leak and instructs again; the sender then acts anew. Over all judged actions up to the new one,

    R_PP = 1 - (sensitive facts in the new action) / k        R_AD = 2 S / (S + V + k)

with S and V different shareable and sensitive facts, and k = 3 as the code has it, or as many facts of the kind as the config has.
Where the sender did not act as it must (no message, another addressee, a broken call), the reward is 0. Published: 400 steps of R_PP,
then 200 of R_AD.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.schema import RewardConfig
from orchestrator.config.settings import setting
from workloads.cdi.judged import ItemsShared, Verdicts, union
from workloads.cdi.scenario import Scenario

PUBLISHED_ITEMS = 3
"""k as the code has it, whatever the config."""
PP_REWARD, AD_REWARD = "pp", "ad"


@dataclass
class CdiRewardConfig(RewardConfig):
    """How the sender's new action becomes the instructor's reward."""

    schedule: str = setting(
        "scheduled",
        "`pp`: privacy alone; `ad`: appropriate disclosure; `scheduled`: `pp` up to reward.pp_steps, then `ad` (as published).",
        choices=(PP_REWARD, AD_REWARD, "scheduled"),
    )
    pp_steps: int = setting(400, "Steps of the privacy reward, where it is scheduled (published: 400 of 600).", low=0)
    items: str = setting(
        "published",
        "What facts are counted against: `published`, always 3; `config`, as many as the config has of the kind.",
        choices=("published", "config"),
    )
    judge_temperature: float = setting(1.0, "Temperature at which a judge writes (published: 1).", low=0.01)
    judge_max_tokens: int = setting(1024, "Longest answer of a judge, its thinking included.", low=16)

    def kind(self, step: int) -> str:
        """The reward of a training step, which are counted from 1: "pp" or "ad"."""
        if self.schedule != "scheduled":
            return self.schedule
        return PP_REWARD if step <= self.pp_steps else AD_REWARD

    def against(self, scenario: Scenario) -> tuple[int, int]:
        """k of R_PP and of R_AD."""
        if self.items == "published":
            return PUBLISHED_ITEMS, PUBLISHED_ITEMS
        return len(scenario.sensitive), len(scenario.shareable)


def privacy_reward(new: ItemsShared, items: int = PUBLISHED_ITEMS) -> float:
    """R_PP of the new action: 1 where it shares nothing sensitive, 0 where it shares as many facts as it is counted against."""
    return 1.0 - len(new.sensitive) / items


def disclosure_reward(verdicts: Verdicts, items: int = PUBLISHED_ITEMS) -> float:
    """R_AD over all judged actions, the new one last."""
    told = union(verdicts)
    return 2 * len(told.shareable) / (len(told.shareable) + len(told.sensitive) + items)


def attempt_rewards(
    scenario: Scenario, verdicts: Verdicts, expected: int, settings: CdiRewardConfig
) -> dict[str, float]:
    """Both rewards by kind. expected: judged actions that there must be with the new one; another number earns 0."""
    if len(verdicts) != expected:
        return {PP_REWARD: 0.0, AD_REWARD: 0.0}
    pp_items, ad_items = settings.against(scenario)
    return {PP_REWARD: privacy_reward(verdicts[-1], pp_items), AD_REWARD: disclosure_reward(verdicts, ad_items)}
