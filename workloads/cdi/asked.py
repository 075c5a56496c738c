"""The reward's questions to its judges, and the verdict that their answers make.

The first judge's word is what is trained on; further ones are asked beside it and change nothing but what is recorded. A fault of the
first, or an answer of it that cannot be read, makes no number: the episode is `Unscored`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from orchestrator.rollouts.rubrics import CONTROL
from orchestrator.values import (
    Answer,
    Call,
    Episode,
    Fault,
    LogitAnswer,
    LogitQuery,
    Scored,
    Unscored,
    Verdict,
)
from workloads.cdi.apps import Activity
from workloads.cdi.judged import TEXTS, Verdicts, first_leak, first_told, judged_actions, overlooked, union
from workloads.cdi.judging import Reading
from workloads.cdi.leaks import leak_score
from workloads.cdi.measures import Counts
from workloads.cdi.reported import COUNTED, unreadable
from workloads.cdi.rewards import CdiRewardConfig, attempt_rewards, disclosure_reward
from workloads.cdi.scenario import Scenario

LEAK_AT, TOLD_AT, HELPED = "leak_at", "told_at", "helped_by_then"
"""Components: which judged action, from 1, was the first with a sensitive fact, and which with any (0: none); whether a shareable fact
was told by then."""
RIGHT = "right"
"""Component: whether a guard decided rightly."""
NEUTRAL = "Thank you, I have seen your message."
"""What the control question puts in place of all that was said."""


class Judge(Protocol):
    """Who says what the judged actions of a simulation share."""

    @property
    def name(self) -> str:
        """Also the role that is asked."""
        ...

    def call(self, key: str, scenario: Scenario, activities: Sequence[Activity]) -> Call | None:
        """The question; None where nobody needs to be asked."""
        ...

    def read(self, scenario: Scenario, activities: Sequence[Activity], answer: Answer | None) -> Reading | Unscored: ...


@dataclass(frozen=True, slots=True)
class Played:
    """What an episode came to. activities: all of the simulation, with those before the episode began. expected: judged actions that
    there must be where the episode is one instruction on the way; None where it is a whole simulation. right: of an episode that is one
    decision of a guard, whether it was right; None of others."""

    scenario: Scenario
    activities: tuple[Activity, ...]
    expected: int | None = None
    right: bool | None = None

    @property
    def judged(self) -> int:
        """How many actions are judged."""
        return len(judged_actions(self.scenario, self.activities))

    @property
    def is_judged(self) -> bool:
        """Whether a judge is needed to say what it is worth."""
        return self.right is None and self.judged > 0 and self.expected in (None, self.judged)


class CdiReward:
    """Implements `workloads.base.Reward`. judges: the first one trains. played: what an episode came to.

    reward: of one instruction, R_PP or R_AD as scheduled; of a guard's decision 1 where it is right; of a whole simulation its AD,
    silence counting as nothing shared. components: of a decision right; of one instruction pp and ad, both rewards, and acted, whether
    the sender acted as it must; where it did, and of a whole simulation, leaked, sensitive, shared, shareable, actions
    (`measures.Counts`), leak_score, leak_at, told_at, helped_by_then, overlooked (actions that reached the recipient and are not
    judged); of each further judge NAME_leaked, … and NAME_failed, 1 where it had no valid answer. judgements: NAME/sensitive/1,
    NAME/shareable/1, … of each judge, whether that fact was shared at all.
    """

    def __init__(self, settings: CdiRewardConfig, judges: Sequence[Judge], played: Callable[[Episode], Played]) -> None:
        self._settings, self._judges, self._played = settings, tuple(judges), played

    def calls(self, episode: Episode) -> Sequence[Call]:
        """One a judge that is to be asked; none where nothing is judged or the sender did not act as it must."""
        return [call for _, call in self._asked(episode, self._played(episode))]

    def queries(self, episode: Episode) -> Sequence[LogitQuery]:
        """None."""
        return ()

    def control(self, episode: Episode, call: Call, answer: Answer) -> Call | None:
        """The same question about neutral messages where the simulation was too long for the judge. A judge that writes what cannot be
        read is at fault itself."""
        if not (isinstance(answer, Fault) and answer.lasting):
            return None
        played = self._played(episode)
        neutral = tuple(replace(one, details=_neutral(one)) for one in played.activities)
        judge = next(judge for judge in self._judges if judge.name == call.role)
        control = judge.call(episode.id, played.scenario, neutral)
        return control and replace(control, key=call.key + CONTROL)

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]],
        logits: Sequence[Sequence[LogitAnswer]] = (),
    ) -> list[Verdict]:
        """The verdict of each episode."""
        return [self.verdict(episode, mine) for episode, mine in zip(episodes, answers, strict=True)]

    def verdict(self, episode: Episode, answers: Sequence[Answer]) -> Verdict:
        """The episode's worth; `Unscored` where the first judge failed. An instruction after which the sender wrote more than the judge
        can read is worth 0."""
        played = self._played(episode)
        if played.right is not None:
            return Scored(float(played.right), {RIGHT: float(played.right)})
        given = {name: answer for (name, _), answer in zip(self._asked(episode, played), answers, strict=True)}
        first, *others = (self._reading(judge, played, given) for judge in self._judges)
        if isinstance(first, Unscored):
            fault = given.get(self._judges[0].name)
            if played.expected is not None and isinstance(fault, Fault) and fault.lasting:
                return Scored(0.0, {"pp": 0.0, "ad": 0.0, "acted": 0.0})
            return first
        if first.problem:
            return unreadable(self._judges[0].name, first.problem, _counts(played.scenario, first))
        components, judgements = self._told(played, first, others)
        if played.expected is None:
            return Scored(disclosure_reward(first.verdicts, len(played.scenario.shareable)), components, judgements)
        rewards = attempt_rewards(played.scenario, first.verdicts, played.expected, self._settings)
        components = rewards | {"acted": float(played.is_judged)} | (components if played.is_judged else {})
        return Scored(rewards[self._settings.kind(episode.step)], components, judgements)

    def _asked(self, episode: Episode, played: Played) -> list[tuple[str, Call]]:
        """(judge's name, call), in order."""
        if not played.is_judged:
            return []
        calls = ((judge.name, judge.call(episode.id, played.scenario, played.activities)) for judge in self._judges)
        return [(name, call) for name, call in calls if call is not None]

    def _reading(self, judge: Judge, played: Played, given: dict[str, Answer]) -> Reading | Unscored:
        """What a judge said; of what it was not asked about, nothing."""
        if not played.is_judged:
            return Reading(())
        return judge.read(played.scenario, played.activities, given.get(judge.name))

    def _told(
        self, played: Played, first: Reading, others: Iterable[Reading | Unscored]
    ) -> tuple[dict[str, float], dict[str, float]]:
        """(components, judgements) of all judges."""
        scenario = played.scenario
        components = _counts(scenario, first) | {
            "leak_score": leak_score(first.verdicts, len(scenario.sensitive)),
            "overlooked": float(len(overlooked(scenario, played.activities))),
            **failure_parts(first.verdicts),
        }
        judgements = _shared(self._judges[0].name, scenario, first)
        for judge, reading in zip(self._judges[1:], others, strict=True):
            failed = isinstance(reading, Unscored) or bool(reading.problem)
            components[f"{judge.name}_failed"] = float(failed)
            if isinstance(reading, Reading):
                components |= {f"{judge.name}_{name}": value for name, value in _counts(scenario, reading).items()}
                judgements |= {} if failed else _shared(judge.name, scenario, reading)
        return components, judgements


def _counts(scenario: Scenario, reading: Reading) -> dict[str, float]:
    """The numbers of `Counts`."""
    found = Counts.of(scenario.id, reading.verdicts, len(scenario.sensitive), len(scenario.shareable))
    return {name: float(getattr(found, name)) for name in COUNTED}


def failure_parts(verdicts: Verdicts) -> dict[str, float]:
    """The components that tell of the first leak, which `failures.failure_of` reads."""
    first, told = first_leak(verdicts), first_told(verdicts)
    found = {LEAK_AT: 0.0 if first is None else first + 1.0, TOLD_AT: 0.0 if told is None else told + 1.0}
    return found | ({} if first is None else {HELPED: float(bool(union(verdicts[: first + 1]).shareable))})


def _shared(name: str, scenario: Scenario, reading: Reading) -> dict[str, float]:
    """Whether each fact was shared, by the name of its judgement."""
    told = union(reading.verdicts)
    sides = ("shareable", told.shareable, scenario.shareable), ("sensitive", told.sensitive, scenario.sensitive)
    return {
        f"{name}/{side}/{place + 1}": float(place in shared)
        for side, shared, facts in sides
        for place in range(len(facts))
    }


def _neutral(activity: Activity) -> dict[str, Any]:
    """The details of an activity with other words."""
    return {name: NEUTRAL if name in TEXTS else value for name, value in activity.details.items()}
