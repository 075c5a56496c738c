"""LegalΔ's reward with its information gain (arXiv 2508.12281, eq. 4 to 8; UnslothGRPOTrainer.py of NEUIR/LegalDelta at e165a909a628).

    R = R_format + R_legal x sigma(T dQ),    dQ = Q(answer | question, reasoning) - Q(answer | question)

Q is the mean raw logit of the answer's tokens under the policy as it is now: after its own reasoning, and as the answer to the same
question asked without any. Both are written of one answer in the paper (eq. 8). The code rates the policy's own answer after the
reasoning and the gold answer without: the two agree where the answer is right, and where it is wrong R_legal is mostly 0.

Raw logits have no common scale: dQ = gain in log-probability + gain in log Z (eq. 10), and a policy may raise the second by answering
with more confidence in general. All of these are recorded, whatever the reward uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import tanh
from typing import Any

from orchestrator.config.schema import RewardConfig
from orchestrator.config.settings import setting
from orchestrator.errors import ConfigError
from orchestrator.rollouts.unasked import Unasked
from orchestrator.values import Answer, Episode, LogitAnswer, LogitQuery, Message, Scored
from workloads.legal_delta.answers import Kind, direct, rated, said
from workloads.legal_delta.scores import format_reward, legal_reward

REASONED, DIRECT = "reasoned", "direct"
"""How the two ratings of an episode are named in its components, in the order of its queries."""
UNKNOWN = 0.5
"""Factor where the gain is not known: that of a gain of 0."""

DirectMessages = Callable[[Mapping[str, Any]], tuple[Message, ...]]
"""A task's reference -> what is asked in direct mode."""


@dataclass
class LegalRewardConfig(RewardConfig):
    """The information gain and its variants."""

    gain: str = setting(
        "generated_vs_gold",
        "What is rated after the reasoning: `generated_vs_gold` the policy's own answer, against the gold one without any (code); "
        "`gold_vs_gold` the gold one both times (eq. 8); `none`: R_format + R_legal (the paper's ablation).",
        choices=("generated_vs_gold", "gold_vs_gold", "none"),
    )
    temperature: float = setting(0.2, "T of sigma(T dQ) (paper and code: 0.2).", low=0)
    missing: str = setting(
        "zero_logit",
        "An answer that is not found: `zero_logit` its logit counts as 0.0 (code), so that one after the reasoning is worth next to "
        "nothing; `skip` the factor is 0.5.",
        choices=("zero_logit", "skip"),
    )
    rating: str = setting(
        "logit",
        "What Q is a mean of: `logit` raw logits (paper, code), or `logprob` log-probabilities, which drops the gain in log Z. The "
        "second needs missing=skip.",
        choices=("logit", "logprob"),
    )
    record_logits: bool = setting(
        True,
        "Ask for the answers' logits where the gain is `none` too, to compare them; they cost a forward pass a step.",
    )


class LegalReward(Unasked):
    """Implements `workloads.base.Reward`. direct_messages: how a task is asked without reasoning.

    components of a verdict: format (0 to 1), legal (0 to 5), factor (sigma; 1 without gain), info (legal x factor); where logits were
    asked for also missing (1 where one of the two answers was not found), gain (dQ as the settings have it), logit_weights (version
    of the weights that were asked), cut (tokens that a prompt beyond the context lost), and, of each answer that was found,
    logit_*, logprob_* and log_z_* for * in reasoned and direct, with logprob_gain where both were.
    """

    def __init__(self, settings: LegalRewardConfig, direct_messages: DirectMessages) -> None:
        """Raises ConfigError where a missing answer would get the log-probability of a certain one."""
        if settings.rating == "logprob" and settings.missing == "zero_logit":
            raise ConfigError(
                "reward.rating=logprob with reward.missing=zero_logit: a log-probability of 0 is the best there is, and a missing "
                "answer would get it. Set reward.missing=skip."
            )
        self._settings, self._direct_messages = settings, direct_messages

    def queries(self, episode: Episode) -> Sequence[LogitQuery]:
        """The answer after the reasoning, and the gold one without; none where neither reward nor record needs them."""
        if self._settings.gain == "none" and not self._settings.record_logits:
            return ()
        reference = episode.task.reference
        words = direct(reference["answer"])
        baseline = LogitQuery(self._direct_messages(reference), spans_in(words), words)
        return self._after_reasoning(episode, words), baseline

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]],
        logits: Sequence[Sequence[LogitAnswer]],
    ) -> list[Scored]:
        """The verdict of each episode from the answers to its queries."""
        return [self.verdict(episode, mine) for episode, mine in zip(episodes, logits, strict=True)]

    def verdict(self, episode: Episode, logits: Sequence[LogitAnswer]) -> Scored:
        """R_format + R_legal x factor, with its parts."""
        reference, kind = episode.task.reference, Kind(episode.task.reference["kind"])
        form = format_reward(episode.text)
        legal = legal_reward(kind, said(episode.text).value_of(kind), reference["answer"])
        gain = self._gain(logits) if logits else None
        factor = 1.0 if self._settings.gain == "none" else squashed(gain, self._settings.temperature)
        worth = {"format": form, "legal": legal, "factor": factor, "info": legal * factor}
        told = {} if gain is None else {"gain": gain}
        return Scored(form + legal * factor, worth | told | ratings(logits))

    def _after_reasoning(self, episode: Episode, words: str) -> LogitQuery:
        """The policy's own answer where it stands; or the gold one, in direct mode's words, behind the end of the reasoning."""
        turn = episode.trained[-1]
        if self._settings.gain != "gold_vs_gold":
            return LogitQuery(turn, spans_in(turn.text))
        if not said(turn.text).reasoning:
            return LogitQuery(turn, ())
        end = "</reasoning>"
        kept, words = turn.text.index(end, turn.text.index("<reasoning>")) + len(end), f"\n{words}"
        return LogitQuery(turn, tuple((kept + start, kept + stop) for start, stop in spans_in(words)), words, kept)

    def _gain(self, logits: Sequence[LogitAnswer]) -> float | None:
        """dQ; None where an answer is missing and stays so."""
        if self._settings.missing == "skip" and not all(answer.tokens for answer in logits):
            return None
        after, without = (self._quality(answer) for answer in logits)
        return after - without

    def _quality(self, answer: LogitAnswer) -> float:
        if not answer.tokens:
            return 0.0
        return answer.mean_logit if self._settings.rating == "logit" else answer.mean_logprob


def spans_in(text: str) -> tuple[tuple[int, int], ...]:
    """The characters of a text's answer whose tokens are rated; none where it has no answer."""
    span = said(text).span
    return rated(text, span) if span else ()


def squashed(gain: float | None, temperature: float) -> float:
    """sigma(T dQ), without overflow."""
    return UNKNOWN if gain is None else 0.5 * (1.0 + tanh(0.5 * gain * temperature))


def ratings(logits: Sequence[LogitAnswer]) -> dict[str, float]:
    """The ratings as components; of what was not found there is no number."""
    if not logits:
        return {}
    found = {name: answer for name, answer in zip((REASONED, DIRECT), logits, strict=True) if answer.tokens}
    told = {
        "missing": float(len(found) < len(logits)),
        "logit_weights": float(logits[0].weight_version),
        "cut": float(sum(answer.cut for answer in logits)),
    }
    for name, answer in found.items():
        told[f"logit_{name}"], told[f"logprob_{name}"] = answer.mean_logit, answer.mean_logprob
        told[f"log_z_{name}"] = answer.mean_logit - answer.mean_logprob
    if len(found) == len(logits):
        told["logprob_gain"] = found[REASONED].mean_logprob - found[DIRECT].mean_logprob
    return told
