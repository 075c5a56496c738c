"""The settings of the RL objective (`orchestrator.learning.objectives`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.settings import setting

PRESETS = Path(__file__).parent / "presets" / "algorithm"
"""Published settings, a file an objective; nothing else lists the names that a config may use."""

WITH_CRITIC = ("ppo",)
"""Objectives that train a critic beside the policy."""


@dataclass
class AlgorithmConfig:
    """The RL objective. The defaults are GRPO's; each other name has a preset with its published settings."""

    name: str = setting(
        "grpo",
        "The objective; its name alone selects its preset. rft and dpo learn from ranked answers without RL; best-of-n of the starting "
        "policy (eval.best_of) is measured beside every one.",
        choices=tuple(sorted(path.stem for path in PRESETS.glob("*.yaml"))),
    )
    clip_low: float = setting(0.2, "Ratio clip below 1.", low=0, high=1)
    clip_high: float = setting(0.2, "Ratio clip above 1.", low=0)
    dual_clip: float = setting(
        0.0, "Bounds the loss of a negative advantage A at -dual_clip A (PPO's is 3); must exceed 1. 0 is off.", low=0
    )
    kl_weight: float = setting(
        0.001,
        "Weight of the KL penalty against the starting policy; 0 skips the penalty, and the reference model where nothing else "
        "needs it.",
        low=0,
    )
    kl_estimator: str = setting(
        "k3",
        "Estimate of the KL: k1 (unbiased, of either sign; teaches nothing in the loss), k2 (its gradient is the KL's), k3 (unbiased, "
        "never negative).",
        choices=("k1", "k2", "k3"),
    )
    kl_in: str = setting(
        "loss",
        "Where the KL penalty is: a term of the loss, or taken from each token's reward.",
        choices=("loss", "reward"),
    )
    off_policy: str = setting(
        "token_truncate",
        "Correction of answers of older weights (rollout.max_staleness): the likelihood ratio, truncated at off_policy_bound, or a "
        "mask where it leaves [1/bound, bound]; a token's own, or its whole answer's.",
        choices=("token_truncate", "sequence_truncate", "token_mask", "sequence_mask", "none"),
    )
    off_policy_bound: float = setting(2.0, "Bound of the correction's ratio.", low=1)
    epochs_per_batch: int = setting(1, "Passes over each batch of episodes.", low=1)
    minibatches: int = setting(1, "Optimizer steps a pass.", low=1)
    discount: float = setting(1.0, "Discount of later rewards a token (ppo, reinforce_pp).", low=0, high=1)
    gae_lambda: float = setting(
        0.95, "Decay of generalised advantages: 0 trusts the critic, 1 the rewards (ppo).", low=0, high=1
    )
    value_clip: float = setting(
        0.2, "Largest move of a value from the critic's old one that its loss rewards (ppo); 0 is off.", low=0
    )
    critic_learning_rate: float = setting(1e-5, "Peak learning rate of the critic (ppo).", low=0)
    dynamic_sampling: bool = setting(
        False,
        "Replace groups whose rewards do not differ: further tasks are played until prompts_per_step groups differ.",
    )
    max_refills: int = setting(
        9, "Further rounds of dynamic sampling a step; after the last one the step learns from what it has.", low=0
    )
    min_reward_spread: float = setting(
        0.0,
        "Dynamic sampling keeps a group whose rewards' standard deviation exceeds this; 0: whose rewards are not all equal.",
        low=0,
    )
    overlong_share: float = setting(
        0.0,
        "Last share of rollout.max_completion_tokens over which a length penalty grows from 0 to overlong_penalty; 0 is off.",
        low=0,
        high=1,
    )
    overlong_penalty: float = setting(1.0, "What a completion of full length loses of its reward.", low=0)
    beta: float = setting(15.0, "Inverse temperature of the reward in the distribution that flowrl matches.", low=0)
    flow_reward: str = setting(
        "group",
        "The reward that flowrl's beta multiplies: standardised within its group (published), or as it is.",
        choices=("group", "raw"),
    )
    flow_prior: str = setting(
        "reference",
        "What flowrl's reward multiplies: the starting policy, the policy that sampled, or nothing.",
        choices=("reference", "old", "none"),
    )
    flow_importance: str = setting(
        "clipped",
        "flowrl's weight of an episode that was drawn from an older policy: clipped to the clip range (the paper), unclipped (its "
        "first release), capped at 10 (a later one), none.",
        choices=("clipped", "unclipped", "capped", "none"),
    )
    dpo_beta: float = setting(
        0.1, "Strength of dpo's tie to the starting policy: the implicit reward is dpo_beta log(p / p_start).", low=0
    )
    flow_log_z: bool = setting(True, "Learn flowrl's log Z from the prompt's hidden states; else it is 0.")
    flow_dropout: float = setting(
        0.0, "Dropout in the head of log Z; above 0 gradients depend on how rows are packed.", low=0, high=0.9
    )

    @property
    def has_critic(self) -> bool:
        """Whether a second model of the policy's size is trained."""
        return self.name in WITH_CRITIC

    @property
    def needs_reference(self) -> bool:
        """Whether the starting policy is kept beside the one that is trained."""
        prior = self.name == "dpo" or (self.name == "flowrl" and self.flow_prior == "reference")
        return bool(self.kl_weight) or prior

    @property
    def needs_old(self) -> bool:
        """Whether fresh answers are scored once more before the update: for ratios, or a KL penalty in the reward."""
        penalised = bool(self.kl_weight) and self.kl_in == "reward"
        return self.epochs_per_batch * self.minibatches > 1 or penalised
