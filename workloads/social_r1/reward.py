"""The reward of Social-R1 (arXiv 2603.09249) as its code was released: SocialR1/reward_score/__init__.py of
microsoft/AnthropomorphicIntelligence at fe97b79733aa.

    R = f^3 (w_o R_out + tau (w_s R_structure + w_c R_content)) x window x repetition

Where the paper's text and the code differ, this is the code: its length window divides by a steepness in characters (a secondary
account of the paper has sigma(k (L - L_min) / (L_max - L_min)) with k = 50); the window ends at the 3,000 characters that the call
passes, not at the function's default of 2,500; R_content is shifted by 2 and raised to 1.2, of which the text says nothing.

One thing is not as released. There c is the raw scalar of the authors' own reward model; a Bradley-Terry model tells differences
alone, so that the scalars of another one have another offset and spread. c is therefore calibrated to mean 0 and spread 1 on reference
answers (`values.Score.value`), and the shift of 2 says that a reasoning two spreads below their mean is worth nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, tanh
from typing import Any

from orchestrator.config.schema import RewardConfig
from orchestrator.config.settings import setting


@dataclass(frozen=True, slots=True)
class Terms:
    """What a variant of the reward has beside outcome and format."""

    structure: bool
    content: bool
    length: bool


VARIANTS = {
    "full": Terms(structure=True, content=True, length=True),
    "outcome": Terms(structure=False, content=False, length=False),
    "no_content": Terms(structure=True, content=False, length=True),
    "no_structure": Terms(structure=False, content=True, length=True),
    "no_length": Terms(structure=True, content=True, length=False),
    "tom_rl": Terms(structure=False, content=False, length=False),
}
"""The code's data_source tags: socialR1, socialR0, socialR2, socialR3, socialR4, ToM-RL. The second and the last are plain sums."""


@dataclass
class SocialRewardConfig(RewardConfig):
    """Every constant of the reward. Code: reward_score/__init__.py as released."""

    variant: str = setting(
        "full",
        "`full` (the code's socialR1), `outcome` (socialR0: letter and format alone), `no_content` (socialR2), `no_structure` "
        "(socialR3), `no_length` (socialR4), `tom_rl` (ToM-RL: half letter, half format).",
        choices=tuple(VARIANTS),
    )
    format_power: float = setting(3.0, "Power of the format's 0 or 1 (code: f^3).", low=0)
    least_format: float = setting(0.1, "The reward is 0 where the format is below it (code: f < 0.1).", low=0, high=1)
    floor: float = setting(0.01, "Least reward of an answer whose format holds (code: max(0.01, ...)).", low=0)
    outcome_weight: float = setting(1.0, "Weight of the right letter, w_o (code: 1).", low=0)
    structure_start: float = setting(2.0, "Weight of the structure's score at step 0 (code).", low=0)
    structure_end: float = setting(1.0, "The same from reward.curriculum_steps on (code).", low=0)
    content_start: float = setting(1.0, "Weight of the content's score at step 0 (code).", low=0)
    content_end: float = setting(3.0, "The same from reward.curriculum_steps on (code).", low=0)
    curriculum_steps: int = setting(200, "Steps over which both weights move, linearly (code: T = 200).", low=1)
    content_shift: float = setting(
        2.0,
        "Added to the content model's scalar (code), which is calibrated here: so many spreads below the mean of its reference answers "
        "are worth nothing.",
    )
    content_power: float = setting(1.2, "Power of the shifted scalar, where it is above 0 (code).", low=0)
    tau_right: float = setting(1.0, "Factor of both process scores where the letter is right (code).", low=0)
    tau_wrong: float = setting(0.2, "Factor of both process scores where it is wrong (code).", low=0)
    length_low: float = setting(400.0, "Characters of thinking at which the window is half open (code: 400).")
    length_high: float = setting(
        3000.0, "Characters at which it is half closed (code: the call passes 3000; the function's default is 2500)."
    )
    length_steepness: float = setting(50.0, "Characters over which the window opens and closes (code: 50).", low=1e-6)
    repetition_characters: int = setting(16, "Length of the character n-grams that are counted (code: 16).", low=1)
    repetition_threshold: float = setting(
        0.1, "Share of repeated n-grams that costs nothing (code: 0.1).", low=0, high=1
    )
    repetition_rate: float = setting(8.0, "Rate of the exponential decay above that share (code: 8).", low=0)
    format_weight: float = setting(1.0, "Variant `outcome`: weight of the format beside the letter's 1 (code).", low=0)
    tom_rl_outcome: float = setting(0.5, "Variant `tom_rl`: weight of the letter (code: 0.5).", low=0)
    tom_rl_format: float = setting(0.5, "Variant `tom_rl`: weight of the format (code: 0.5).", low=0)
    judge_temperature: float = setting(0.3, "Temperature at which the structure judge writes (code: 0.3).", low=0.01)
    judge_max_tokens: int = setting(48, "Longest answer of the structure judge (code: 48).", low=1)

    @property
    def terms(self) -> Terms:
        """What the variant is made of."""
        return VARIANTS[self.variant]


_WHOLE = re.compile(r"<think>(.*?)</think>.*?<Answer>.*?</Answer>", re.DOTALL)
_LETTER = re.compile(r"<Answer>\s*([A-Z]).*?</Answer>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer in its parts. format: 1.0 or 0.0. thinking: what stands between the tags, blanks at its ends included; empty where
    the format is broken. letter: None where there is none. The letter needs no valid format (code)."""

    format: float
    thinking: str
    letter: str | None


def said(text: str) -> Said:
    """The parts of an answer: the format holds where all of it, blanks at its ends aside, is
    `<think>...</think>...<Answer>...</Answer>`, and the letter is the first sign of the first `<Answer>`."""
    whole, letter = _WHOLE.fullmatch(text.strip()), _LETTER.search(text)
    return Said(float(whole is not None), whole[1] if whole else "", letter[1] if letter else None)


def window(characters: int, settings: SocialRewardConfig) -> float:
    """sigma((L - low) / s) sigma(-(L - high) / s), L the characters of the thinking."""
    low, high, steepness = settings.length_low, settings.length_high, settings.length_steepness
    return sigmoid((characters - low) / steepness) * sigmoid((high - characters) / steepness)


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + tanh(0.5 * x))


def repetition(thinking: str, settings: SocialRewardConfig) -> float:
    """1 where the share q of n-grams that were there before is within the threshold, else exp(-rate (q - threshold))."""
    size = settings.repetition_characters
    grams = [thinking[start : start + size] for start in range(len(thinking) - size + 1)]
    repeated = 1.0 - len(set(grams)) / len(grams) if grams else 0.0
    beyond = repeated - settings.repetition_threshold
    return exp(-settings.repetition_rate * beyond) if beyond > 0 else 1.0


def weights(step: int, settings: SocialRewardConfig) -> tuple[float, float]:
    """(of structure, of content) at a step: linear over the curriculum, then constant."""
    share = min(max(step, 0) / settings.curriculum_steps, 1.0)
    return (
        settings.structure_start + share * (settings.structure_end - settings.structure_start),
        settings.content_start + share * (settings.content_end - settings.content_start),
    )


def content_worth(scalar: float, settings: SocialRewardConfig) -> float:
    """max(0, c + shift)^power."""
    return float(max(0.0, scalar + settings.content_shift) ** settings.content_power)


def reward_of(
    answer: Said, right: bool, structure: float, content: float, step: int, settings: SocialRewardConfig
) -> float:
    """The reward of an answer.

    right: whether its letter is the gold one. structure: the judge's score, 0 to 1. content: the calibrated scalar. Both are looked
    at where the variant has them. step: of training, for the curricula.
    """
    terms, outcome = settings.terms, float(right)
    if settings.variant == "outcome":
        return outcome + settings.format_weight * answer.format
    if settings.variant == "tom_rl":
        return settings.tom_rl_outcome * outcome + settings.tom_rl_format * answer.format
    if answer.format < settings.least_format:
        return 0.0
    structure_weight, content_weight = weights(step, settings)
    process = structure_weight * structure if terms.structure else 0.0
    process += content_weight * content_worth(content, settings) if terms.content else 0.0
    tau = settings.tau_right if right else settings.tau_wrong
    combined = answer.format**settings.format_power * (settings.outcome_weight * outcome + tau * process)
    if terms.length:
        combined *= window(len(answer.thinking), settings) * repetition(answer.thinking, settings)
    return max(settings.floor, combined)


def is_right(answer: Said, reference: Mapping[str, Any]) -> bool:
    """Whether the letter is that of the task's `reference["answer"]`."""
    return answer.letter is not None and answer.letter.lower() == str(reference["answer"]).strip(" .()[]").lower()
