"""Stored turns -> the whole simulation again, at its end or at any point; and failures -> tasks that go on from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestrator.errors import DataError
from orchestrator.values import Episode, Task
from workloads.cdi.apps import Activity
from workloads.cdi.defences import Ask, Defence
from workloads.cdi.memory import Memory
from workloads.cdi.scenario import ROLES, Scenario
from workloads.cdi.setup import Resume, Setup, begin
from workloads.cdi.simulation import Event


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a simulation.

    activities: the log; acted: when each happened. reads: the sender's that found something, after which an instructor would speak.
    blocks: sends that a guard stopped. instructions: in force or made up of the fallback. steps: global ones. cycles: by role. invalid:
    calls that had to be sampled again. memories: by role, sanitised. ended: whether it was played to its end.
    """

    scenario: Scenario
    activities: tuple[Activity, ...]
    acted: tuple[Event, ...]
    reads: tuple[Event, ...]
    blocks: tuple[Event, ...]
    instructions: tuple[str, ...]
    steps: int
    cycles: Mapping[str, int]
    invalid: int
    memories: Mapping[str, Memory]
    ended: bool

    def by(self, role: str) -> tuple[Activity, ...]:
        """What an agent did."""
        return tuple(activity for activity in self.activities if activity.user_id == self.scenario.agent(role).user)


def replay(episode: Episode, turns: int | None = None) -> Outcome:
    """The simulation of a stored episode, after so many of its own turns, or all.

    Raises DataError where the episode was lost, or its turns are not those of its task.
    """
    if episode.lost:
        raise DataError(f"the episode {episode.id} was lost ({episode.lost}): there is nothing to replay.")
    return replay_turns(Setup.of(episode.task.reference), _spoken(episode)[:turns])


def replay_turns(setup: Setup, spoken: tuple[tuple[str, str], ...]) -> Outcome:
    """The simulation of these turns, (role, text) each. Raises DataError where they are another one's."""
    simulation, script = begin(setup)
    answer: str | None = None
    said, ended = 0, False
    while True:
        try:
            request = script.send(answer)  # type: ignore[arg-type]
        except StopIteration:
            ended = True
            break
        if said == len(spoken):
            break
        role, answer = spoken[said]
        if not isinstance(request, Ask) or request.role != role:
            raise DataError(
                f"turn {said} is {role}'s, and the simulation of {setup.scenario.id} waits for {request.role}."
            )
        said += 1
    script.close()
    if said < len(spoken):
        raise DataError(f"the simulation of {setup.scenario.id} ended after {said} of {len(spoken)} turns.")
    return Outcome(
        setup.scenario,
        simulation.activities,
        tuple(simulation.acted),
        tuple(simulation.reads),
        tuple(simulation.blocks),
        tuple(simulation.instructions),
        simulation.step,
        MappingProxyType({role: simulation.actors[role].cycles for role in ROLES}),
        simulation.invalid,
        MappingProxyType({role: simulation.memory(role) for role in ROLES}),
        ended,
    )


def resumed(episode: Episode, activity: Activity, defence: Defence) -> Task | None:
    """A task that goes on from an episode just before the sender was led to an activity: right after the last read that preceded it,
    where an instructor speaks. None where it had read nothing.

    defence: of the new task; up to there the episode's own is in force. Raises DataError for an episode that was resumed itself.
    """
    setup = Setup.of(episode.task.reference)
    if setup.resume:
        raise DataError(f"the episode {episode.id} was resumed itself: begin with the one that it comes from.")
    outcome = replay(episode)
    when = outcome.acted[activity.index - 1].turns
    before = [read.turns for read in outcome.reads if read.turns < when]
    if not before:
        return None
    resume = Resume(_spoken(episode)[: before[-1]], setup.defence)
    return replace(setup, defence=defence, resume=resume).task(f"{episode.id}@{before[-1]}")


def pending(episode: Episode, activity: Activity, defence: Defence) -> Task | None:
    """A task that goes on from an episode with a message of the sender's that is about to go out, and ends once it is decided whether
    it does. defence: a guard; up to there the episode's own is in force. Raises DataError for an episode that was resumed itself.

    None where this guard is not asked: the blocks of the sender's cycle are used up, or the message is the subject's.
    """
    setup = Setup.of(episode.task.reference)
    if setup.resume:
        raise DataError(f"the episode {episode.id} was resumed itself: begin with the one that it comes from.")
    turns = replay(episode).acted[activity.index - 1].turns
    # A guard of the episode's own has answered between the sender's call and the act.
    while turns and episode.turns[turns - 1].role not in ROLES:
        turns -= 1
    resumed_setup = replace(setup, defence=defence, resume=Resume(_spoken(episode)[:turns], setup.defence))
    _, script = begin(resumed_setup)
    asked = next(script, None)
    script.close()
    if not isinstance(asked, Ask) or asked.role != defence.role:
        return None
    return resumed_setup.task(f"{episode.id}!{turns}")


def _spoken(episode: Episode) -> tuple[tuple[str, str], ...]:
    return tuple((turn.role, turn.text) for turn in episode.turns)
