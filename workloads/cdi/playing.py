"""Simulations that a search plays while it gathers: a generator each, and many of them asked side by side, in batches.

What is made here yields calls and is sent their answers, as `workloads.base.Gathering` does, and returns what came of it:

    play          one simulation, until it waits for a choice or has ended
    judged        what the judge says of one that has ended
    trial         both, of a setup; `trials` of many
    side_by_side  any such generators as one, whose batches hold the calls of all

An agent that learns to choose plays its simulations with `side_by_side([play(one, stage) for one in waiting])`, chooses for those that
then wait (`Directed.choose`), and plays on.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from orchestrator.values import Answer, Call, Fault, Turn, stable_hash
from workloads.cdi.apps import Activity
from workloads.cdi.asked import Judge
from workloads.cdi.defences import Ask
from workloads.cdi.directed import Directed
from workloads.cdi.environment import SimulationEnvironment
from workloads.cdi.judged import Verdicts, judged_actions
from workloads.cdi.judging import Reading
from workloads.cdi.leaks import leak_score
from workloads.cdi.setup import Setup

T = TypeVar("T")
Asking = Generator[Sequence[Call], Sequence[Answer], T]
"""Yields calls, of any roles that are served, and is sent their answers in order, faults included."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A simulation that was played to its end and judged. verdicts: one a judged action, by the judge whose word counts."""

    played: Directed
    verdicts: Verdicts

    @property
    def setup(self) -> Setup:
        """What was played."""
        return self.played.setup

    @property
    def activities(self) -> tuple[Activity, ...]:
        """The log."""
        return self.played.simulation.activities

    @property
    def leak_score(self) -> float:
        """From 0 (all sensitive facts at once) to 1 (none)."""
        return leak_score(self.verdicts, len(self.setup.scenario.sensitive))


@dataclass(frozen=True, slots=True)
class Stage:
    """Where simulations are played. environment: how each role is sampled, whoever watches included. judge: whose word counts. retries:
    of a judge's answer that cannot be read. Equal seeds play the same."""

    environment: SimulationEnvironment
    judge: Judge
    retries: int = 0
    seed: int = 0


def side_by_side(askings: Sequence[Asking[T]]) -> Asking[list[T]]:
    """All of them at once, a batch a round; what each returned, in their order."""
    returned: dict[int, T] = {}
    waiting: dict[int, Sequence[Call]] = {}

    def go_on(index: int, answers: Sequence[Answer] | None) -> None:
        try:
            waiting[index] = askings[index].send(answers)  # type: ignore[arg-type]
        except StopIteration as end:
            returned[index] = end.value
            waiting.pop(index, None)

    for index in range(len(askings)):
        go_on(index, None)
    while waiting:
        asked = dict(waiting)
        answers = iter((yield [call for calls in asked.values() for call in calls]))
        for index, calls in asked.items():
            go_on(index, [next(answers) for _ in calls])
    return [returned[index] for index in range(len(askings))]


def play(simulation: Directed, stage: Stage) -> Asking[bool]:
    """Play until it waits for a choice (`Directed.waiting`) or has ended. Whether it could be: False where an answer cannot be had, and
    then it is lost. Seeds depend on the stage's and on `simulation.key` alone, which no two simulations of a search may share."""
    while isinstance(simulation.waiting, Ask):
        key = f"{simulation.key}/{len(simulation.turns)}"
        call = stage.environment.call(simulation.waiting, simulation.setup.wording)
        (answer,) = yield [
            replace(call, key=key, seed=stable_hash(stage.seed, key), route=simulation.setup.scenario.id)
        ]
        if not isinstance(answer, Turn):
            return False
        simulation.hear(answer.text)
    return True


def judged(simulation: Directed, stage: Stage) -> Asking[Verdicts | None]:
    """One verdict a judged action of a simulation that has ended; None where the judge cannot be asked, or says nothing that can be
    read in all of its attempts. Where nothing is to be judged nobody is asked."""
    scenario, activities = simulation.setup.scenario, simulation.simulation.activities
    if not judged_actions(scenario, activities):
        return ()
    for attempt in range(stage.retries + 1):
        call = stage.judge.call(f"{stage.seed}/{simulation.key}/{attempt}", scenario, activities)
        (answer,) = (yield [call]) if call else (None,)
        reading = stage.judge.read(scenario, activities, answer)
        if isinstance(reading, Reading) and not reading.problem:
            return reading.verdicts
        if isinstance(answer, Fault):  # it was insisted on already
            break
    return None


def trial(setup: Setup, stage: Stage, key: str) -> Asking[Trial | None]:
    """A setup played once and judged; None where either was lost. key: of this simulation among all of a search."""
    simulation = Directed(setup, {}, key)
    if not (yield from play(simulation, stage)):
        return None
    verdicts = yield from judged(simulation, stage)
    return None if verdicts is None else Trial(simulation, verdicts)


def trials(setups: Sequence[Setup], stage: Stage, key: str) -> Asking[list[Trial | None]]:
    """Every setup once, all at once."""
    return (
        yield from side_by_side(
            [trial(setup, stage, f"{key}/{setup.scenario.id}/{place}") for place, setup in enumerate(setups)]
        )
    )
