"""The reward's questions to its raters, and the verdict that their answers make.

A rater that fails never makes a number: its episode is `Unscored`, as it is where the structure judge writes no score, or one outside
0 to 1. What the answer itself did is charged to it: without a valid format it is worth 0 and nobody is asked (the code's final = 0),
and a reasoning that no rater has room for, while a short one to the same story would have been read, counts as the worst.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.rollouts.rubrics import CONTROL
from orchestrator.values import (
    JUDGE,
    Answer,
    Call,
    Episode,
    Fault,
    LogitAnswer,
    LogitQuery,
    Message,
    Sampling,
    Score,
    Scored,
    Turn,
    Unscored,
    Verdict,
    stable_hash,
)
from workloads.social_r1.prompts import Wording
from workloads.social_r1.reward import Said, SocialRewardConfig, is_right, repetition, reward_of, said, window
from workloads.teachers import after_thought

CONTENT = "content"
"""The role of the content reward model, and its judgement's name."""
STRUCTURE = "structure"
"""The name of the structure judge's judgement."""
_SCORE = re.compile(r"<Score>(.*?)</Score>", re.DOTALL)
_NUMBER = re.compile(r"\d+(?:\.\d*)?|\.\d+")


def read_score(text: str) -> float | Unscored:
    """The score in [0, 1] that a structure judge wrote as `<Score>x</Score>`, or why there is none. What a reasoning judge thinks
    aloud before it does not count."""
    written = [part.strip() for part in _SCORE.findall(after_thought(text))]
    if len(set(written)) != 1:
        return Unscored(f"the judge wrote {len(set(written)) or 'no'} <Score>: {text.strip()[:80]!r}")
    number = float(written[0]) if _NUMBER.fullmatch(written[0]) else None
    if number is None:
        return Unscored(f"the judge's <Score> is {written[0][:40]!r}, which is no number from 0 to 1")
    return number if number <= 1 else Unscored(f"the judge's <Score> is {number:g}, which is out of 0 to 1")


def pairs_right(episodes: Sequence[Episode]) -> dict[str, float]:
    """1.0 for an episode whose own answer and the one of the same number to its twin are both right, else 0.0; by episode id. Who names
    one option whatever the story says has no pair right."""
    sides: dict[tuple[str, int], dict[bool, Episode]] = {}
    for episode in episodes:
        reference = episode.task.reference
        sides.setdefault((reference["group"], episode.sample), {})[reference["twin"]] = episode
    return {
        episode.id: float(all(is_right(said(one.text), one.task.reference) for one in pair.values()))
        for pair in sides.values()
        if len(pair) == 2
        for episode in pair.values()
    }


class SocialReward:
    """Implements `workloads.base.Reward`. wording: how raters are asked.

    components of a verdict: format, correct (right letter), outcome (what it adds to the reward before length and repetition), length
    (the window), repetition, early_option (where in the thinking the first option is mentioned, 0 to 1; 1 where none is); and, where
    the variant asks for them, structure (the judge's score) and content (the calibrated scalar c). judgements: the last two.
    """

    def __init__(self, settings: SocialRewardConfig, wording: Wording) -> None:
        self._settings, self._wording = settings, wording

    def calls(self, episode: Episode) -> Sequence[Call]:
        """What the variant asks of each rater; nothing of an answer whose format is broken."""
        answer = said(episode.text)
        return [self._call(episode, name, answer.thinking) for name in self._asked(answer)]

    def queries(self, episode: Episode) -> Sequence[LogitQuery]:
        """None: the reward needs nothing from the policy."""
        return ()

    def control(self, episode: Episode, call: Call, answer: Answer) -> Call | None:
        """The same question about a short reasoning where the call itself was the cause of a fault (a reasoning beyond the rater's
        context), else None. A judge that writes no score is at fault itself."""
        if not (isinstance(answer, Fault) and answer.lasting):
            return None
        name = call.key.rpartition("/")[2]
        return replace(self._call(episode, name, self._wording.neutral), key=call.key + CONTROL)

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]],
        logits: Sequence[Sequence[LogitAnswer]] = (),
    ) -> list[Verdict]:
        """The verdict of each episode from the answers to its calls. Where both of a pair were asked, `pair` is a component too."""
        pairs = pairs_right(episodes)
        verdicts = [self.verdict(episode, mine) for episode, mine in zip(episodes, answers, strict=True)]
        return [
            replace(verdict, components={**verdict.components, "pair": pairs[episode.id]})
            if isinstance(verdict, Scored) and episode.id in pairs
            else verdict
            for episode, verdict in zip(episodes, verdicts, strict=True)
        ]

    def verdict(self, episode: Episode, answers: Sequence[Answer]) -> Verdict:
        """The episode's worth; `Unscored` where a rater failed."""
        answer, settings = said(episode.text), self._settings
        judgements: dict[str, float] = {}
        for name, given in zip(self._asked(answer), answers, strict=True):
            value = self._value(name, given)
            if isinstance(value, Unscored):
                return Unscored(f"{name}: {value.reason}")
            judgements[name] = value
        right = is_right(answer, episode.task.reference)
        place = self._wording.mention(answer.thinking, episode.task.reference) if answer.thinking else None
        components = {
            "format": answer.format,
            "correct": float(right),
            "outcome": answer.format**settings.format_power * settings.outcome_weight * right,
            "length": window(len(answer.thinking), settings),
            "repetition": repetition(answer.thinking, settings),
            "early_option": 1.0 if place is None else place,
        }
        structure, content = judgements.get(STRUCTURE, 0.0), judgements.get(CONTENT, 0.0)
        return Scored(
            reward_of(answer, right, structure, content, episode.step, settings), components | judgements, judgements
        )

    def _asked(self, answer: Said) -> list[str]:
        """The judgements that this answer needs, in order."""
        terms = self._settings.terms
        wanted = ((STRUCTURE, terms.structure), (CONTENT, terms.content))
        return [name for name, asked in wanted if asked and answer.format]

    def _call(self, episode: Episode, name: str, thinking: str) -> Call:
        key, reference = f"{episode.id}/{name}", episode.task.reference
        if name == CONTENT:
            return Call(key, CONTENT, self._wording.content(reference, thinking), route=episode.id, scalar=True)
        return structure_call(key, self._wording.structure(reference, thinking), self._settings)

    def _value(self, name: str, answer: Answer) -> float | Unscored:
        """What a rater said of one reasoning."""
        if isinstance(answer, Fault):
            if not answer.lasting:
                return Unscored(answer.reason)
            # The reasoning's own doing, as its control question told: the worst that the reward can make of it.
            return 0.0 if name == STRUCTURE else -self._settings.content_shift
        if name == STRUCTURE and isinstance(answer, Turn):
            return read_score(answer.text)
        if name == CONTENT and isinstance(answer, Score):
            return answer.value
        raise TypeError(f"{name}: a rater answered with {type(answer).__name__}")


def structure_call(key: str, messages: tuple[Message, ...], settings: SocialRewardConfig) -> Call:
    """A question to the structure judge, which writes its answer. Its seed is that of its key."""
    sampling = Sampling(settings.judge_max_tokens, settings.judge_temperature)
    return Call(key, JUDGE, messages, sampling, seed=stable_hash("structure", key), route=key)
