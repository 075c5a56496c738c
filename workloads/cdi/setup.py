"""What decides a simulation besides the words of those who play it: the reference of its task, plain JSON.

    config       the scenario, as published             config_id    its id
    defence      see `defence_of`                       seed         which of several runs of the same it is
    loop         limits (`Loop`)                        wording      name of its wording (`WORDINGS`)
    directions   role -> a strategy a cycle             resume       what was spoken before it begins

A stored episode therefore holds all that is needed to play it again (`replay`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestrator.errors import DataError
from orchestrator.values import Task
from workloads.cdi.defences import Defence, defence_of
from workloads.cdi.memory import entries_of
from workloads.cdi.scenario import ROLES, Scenario
from workloads.cdi.simulation import Choose, Loop, Script, Simulation, as_loop, constant, switched
from workloads.cdi.wordings import wording_of


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a simulation goes on from: (role, text) of every turn that was spoken before, under another defence. It ends with the
    sender's next act, or the end of its cycle."""

    turns: tuple[tuple[str, str], ...]
    defence: Defence

    def to_json(self) -> dict[str, Any]:
        """The inverse of `_resume_of`."""
        return {"turns": [list(turn) for turn in self.turns], "defence": self.defence.to_json()}


@dataclass(frozen=True, slots=True)
class Setup:
    """The fields of the reference, read. directions: roles that are told a strategy, one a cycle; cycles beyond them have none."""

    scenario: Scenario
    defence: Defence = field(default_factory=Defence)
    seed: int = 0
    loop: Loop = field(default_factory=Loop)
    wording: str = "tools"
    directions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resume: Resume | None = None

    @classmethod
    def of(cls, reference: Mapping[str, Any]) -> Setup:
        """From a task's reference. Raises DataError naming what is missing or not known."""
        if "config" not in reference:
            raise DataError("the task's reference has no 'config': it is no simulation's.")
        directions = reference.get("directions", {})
        if set(directions) - set(ROLES):
            raise DataError(f"directions of {', '.join(directions)}: the roles are {', '.join(ROLES)}.")
        resume = reference.get("resume")
        return cls(
            Scenario.from_json(reference["config"], str(reference.get("config_id", "config"))),
            defence_of(reference.get("defence", "none")),
            int(reference.get("seed", 0)),
            as_loop(reference.get("loop", {})),
            str(reference.get("wording", "tools")),
            {role: tuple(told) for role, told in directions.items()},
            _resume_of(resume) if resume else None,
        )

    @property
    def reference(self) -> dict[str, Any]:
        """The inverse of `of`."""
        values: dict[str, Any] = {
            "config": self.scenario.to_json(),
            "config_id": self.scenario.id,
            "defence": self.defence.to_json(),
            "seed": self.seed,
            "loop": {
                name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self.loop).items()
            },
            "wording": self.wording,
        }
        values |= (
            {"directions": {role: list(told) for role, told in self.directions.items()}} if self.directions else {}
        )
        return values | ({"resume": self.resume.to_json()} if self.resume else {})

    def task(self, id: str = "", **further: Any) -> Task:
        """The task that plays it. id: by default of scenario, defence and seed. further: what else its reference is to hold. Its
        story is all that the subject tells the sender: what of it was taught before tells the guard of contamination."""
        message = {"role": "user", "content": self.scenario.recipient.task}
        name = id or f"{self.scenario.id}/{self.defence.name}/{self.seed}"
        (told,) = entries_of(wording_of(self.wording).disclosure(self.scenario), {})
        return Task(name, (message,), {"story": told.text, **self.reference, **further})


def begin(setup: Setup, live: frozenset[str] = frozenset()) -> tuple[Simulation, Script]:
    """A simulation and what plays it: yields who is to speak, past what was spoken before, and is sent their words.

    live: the directed roles whose strategies are asked for (`Choose`); those of others are the setup's. Raises DataError in playing
    where the words of before are of other roles than those who would speak.
    """
    resume = setup.resume
    spoken = len(resume.turns) if resume else 0
    simulation = Simulation(
        setup.scenario,
        switched(resume.defence, setup.defence, spoken) if resume else constant(setup.defence),
        wording_of(setup.wording),
        setup.loop,
        frozenset(setup.directions) | live,
        spoken if resume else None,
    )
    return simulation, _told(simulation.run(), setup, live)


def _told(script: Script, setup: Setup, live: frozenset[str]) -> Script:
    """The script, with what is already known said to it."""
    before = iter(setup.resume.turns if setup.resume else ())
    answer: str | None = None
    while True:
        try:
            request = script.send(answer)  # type: ignore[arg-type]
        except StopIteration:
            return
        if isinstance(request, Choose):
            told = setup.directions.get(request.role, ())
            known = told[request.cycle] if request.cycle < len(told) else ""
            answer = (yield request) if request.role in live else known
            continue
        role, answer = next(before, ("", None))
        if role and role != request.role:
            raise DataError(
                f"{setup.scenario.id}: {role} spoke where it is {request.role}'s turn: these are another simulation's turns."
            )
        if answer is None:
            answer = yield request


def _resume_of(values: Mapping[str, Any]) -> Resume:
    try:
        turns = tuple((str(role), str(text)) for role, text in values["turns"])
        defence = values["defence"]
    except (KeyError, TypeError, ValueError):
        raise DataError("resume must have turns (pairs of role and text) and a defence.") from None
    return Resume(turns, defence_of(defence))
