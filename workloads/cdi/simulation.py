"""The loop of SALT-NLP/contextual_privacy_defense at 02d3931: three agents who think and act in cycles, woken by triggers.

At most so many global steps; in each, every agent that something has happened to runs a cycle, the sender first, then the
subject, then the recipient. The subject sends in the first step, the recipient begins in the second. All ends with the step in
which the sender's or the recipient's task ends.

A simulation is a generator that says who is to speak (`Ask`) and is sent their words. It draws nothing: the same words play it again.
One thing is not as published: a subject who is the sender too acts under the role of the subject, on the account that both share.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import DataError
from orchestrator.values import Message
from workloads.cdi.apps import Activity, Result, World
from workloads.cdi.defences import Ask, Consulting, Defence
from workloads.cdi.memory import Entry, Memory, entries_of
from workloads.cdi.scenario import RECIPIENT, ROLES, SENDER, SUBJECT, Scenario
from workloads.cdi.tools import COMPLETE, END, LOOP_TOOLS, READS, SENDS, THINK, Action, InvalidActionError, tools_of
from workloads.cdi.wording import Wording

ORDER = (SENDER, SUBJECT, RECIPIENT)
BEGINS = {SUBJECT: 1, RECIPIENT: 2}
"""The step in which an agent first acts of its own accord."""


@dataclass(frozen=True, slots=True)
class Loop:
    """The limits.

    steps: global ones. cycles: of sender and recipient; the subject has one. cycle_steps: acts a cycle, each after a thought.
    attempts: at a call until it is valid; then the cycle ends. patience: steps without news after which the recipient acts of its
    own accord. thinks: the roles that think before they act (models that think by themselves do not). scripted_subject: the subject
    sends all its facts in one message, and no model plays it; scripted_recipient: the recipient asks once a cycle. Published:
    20, 10, 50; attempts and patience are not known.
    """

    steps: int = 20
    cycles: int = 10
    cycle_steps: int = 50
    attempts: int = 5
    patience: int = 1
    thinks: tuple[str, ...] = ROLES
    scripted_subject: bool = False
    scripted_recipient: bool = False

    def __post_init__(self) -> None:
        wrong = [name for name in ("steps", "cycles", "cycle_steps", "attempts", "patience") if getattr(self, name) < 1]
        if wrong or set(self.thinks) - set(ROLES):
            raise DataError(f"{self}: limits must be 1 at least, and thinks name some of {', '.join(ROLES)}.")


@dataclass(frozen=True, slots=True)
class Choose:
    """A directed agent begins a cycle (from 0); the answer is its strategy in words, empty for none."""

    role: str
    cycle: int


Script = Generator[Ask | Choose, str, None]
Part = Generator[Ask | Choose, str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """When something happened. turns: how many had been spoken before it was decided. cycle: the acting agent's, from 0."""

    turns: int
    step: int
    cycle: int


@dataclass(slots=True)
class Actor:
    """An agent while it is played. idle: steps since its last cycle. blocked: sends in this cycle."""

    role: str
    user: str
    history: list[Message] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    cycles: int = 0
    idle: int = 0
    blocked: int = 0
    active: bool = True

    def hear(self, text: str) -> None:
        self.history.append({"role": "user", "content": text})

    def say(self, text: str) -> None:
        self.history.append({"role": "assistant", "content": text})


class Simulation:
    """One run of a scenario; `run` plays it once, and the rest says how it stands, at any point.

    defence_at: the defence by the number of turns spoken so far. directed: roles that are asked for a strategy before each cycle.
    until_action: of a resumed one, the number of turns after which the sender's next act, or the end of its cycle, ends it.
    """

    def __init__(
        self,
        scenario: Scenario,
        defence_at: Callable[[int], Defence],
        wording: Wording,
        loop: Loop,
        directed: frozenset[str] = frozenset(),
        until_action: int | None = None,
    ) -> None:
        self.scenario, self.wording, self.loop = scenario, wording, loop
        self._defence_at, self._directed, self._until_action = defence_at, directed, until_action
        self.world = World([scenario.agent(role).name for role in ROLES])
        self.actors = {role: Actor(role, scenario.agent(role).user) for role in ROLES}
        self._tools = tools_of(scenario.available_applications)
        self._backgrounds = {role: wording.background(scenario, role) for role in ROLES}
        self._systems: dict[tuple[str, str], str] = {}
        self.turns = self.step = self.invalid = 0
        self.stopped = False
        self.acted: list[Event] = []
        """Of each activity."""
        self.reads: list[Event] = []
        """Of the sender's reads that found something: where an instructor speaks. turns: spoken when it would."""
        self.instructions: list[str] = []
        self.blocks: list[Event] = []

    @property
    def defence(self) -> Defence:
        """That which is in force now."""
        return self._defence_at(self.turns)

    @property
    def activities(self) -> tuple[Activity, ...]:
        """The log so far."""
        return tuple(self.world.activities)

    def memory(self, role: str) -> Memory:
        """An agent's, sanitised, as it stands."""
        return Memory(self._goal(role), self._backgrounds[role], tuple(self.actors[role].entries))

    def messages(self, role: str) -> tuple[Message, ...]:
        """The prompt of an agent as it stands: user messages in a row are told as one."""
        tools = (*((THINK,) if role in self.loop.thinks else ()), *self._tools, *LOOP_TOOLS)
        goal = self._goal(role)
        if (role, goal) not in self._systems:
            self._systems[role, goal] = self.wording.system(goal, self._backgrounds[role], tools)
        told: list[dict[str, str]] = [{"role": "system", "content": self._systems[role, goal]}]
        for message in self.actors[role].history:
            if message["role"] == told[-1]["role"]:
                told[-1]["content"] += self.wording.between + message["content"]
            else:
                told.append(dict(message))
        return tuple(told)

    def run(self) -> Script:
        """Play to the end."""
        for step in range(1, self.loop.steps + 1):
            self.step = step
            for role in ORDER:
                yield from self._wake(self.actors[role])
                if self.stopped:
                    return
            if not all(self.actors[role].active for role in (SENDER, RECIPIENT)):
                return

    # --- one agent ---

    def _wake(self, actor: Actor) -> Part:
        """A cycle, where something has happened to the agent."""
        begins = BEGINS.get(actor.role)
        if not actor.active or (begins is not None and self.step < begins):
            return
        if actor.role == SUBJECT and self.loop.scripted_subject:
            self._happen(actor, self.wording.disclosure(self.scenario))
            actor.active = False
            return
        actor.idle += 1
        # Subject and sender may share an account; what comes in is for the sender.
        told = actor.role != SUBJECT and self.world.has_news(actor.user)
        patient = actor.cycles > 0 and actor.idle < self.loop.patience
        if not told and (begins is None or patient):
            return
        direction = (yield Choose(actor.role, actor.cycles)) if actor.role in self._directed else ""
        news = self.world.take_news(actor.user) if told else {}
        actor.idle = actor.blocked = 0
        if actor.role == RECIPIENT and self.loop.scripted_recipient:
            self._happen(actor, self.wording.request(self.scenario, direction, actor.cycles))
        else:
            actor.hear(self.wording.trigger(news, actor.cycles == 0, direction))
            yield from self._cycle(actor)
        actor.cycles += 1
        actor.active &= actor.cycles < (1 if actor.role == SUBJECT else self.loop.cycles)
        self.stopped |= actor.role == SENDER and self._may_stop

    def _cycle(self, actor: Actor) -> Part:
        """Think and act in turn until the agent ends it."""
        for _ in range(self.loop.cycle_steps):
            if actor.role in self.loop.thinks:
                thought = yield from self._speak(actor, (THINK,))
                if thought is None:
                    return
                actor.hear(self.wording.result(thought, {"success": True}))
            action = yield from self._speak(actor, (*self._tools, *LOOP_TOOLS))
            if action is None or action.tool is END:
                return
            if action.tool is COMPLETE:
                actor.active = False
                return
            yield from self._act(actor, action)
            if self.stopped:
                return

    def _speak(self, actor: Actor, tools: tuple[Any, ...]) -> Generator[Ask | Choose, str, Action | None]:
        """A valid call, which enters the agent's history; invalid ones are sampled again. None where all attempts were."""
        for _ in range(self.loop.attempts):
            text = yield Ask(actor.role, self.messages(actor.role), tools)
            self.turns += 1
            try:
                action = self.wording.read(text, tools)
            except InvalidActionError:
                self.invalid += 1
                continue
            actor.say(self.wording.written(action))
            return action
        return None

    def _act(self, actor: Actor, action: Action) -> Part:
        """Do it, unless the sender's defence blocks it; then tell the result, and the instruction that follows a read."""
        guarded = actor.role == SENDER and action.tool.name in SENDS
        if guarded and (yield from self._watched(self._before_send(actor, action))):
            result = self.wording.blocked(action)
            actor.blocked += 1
            self.blocks.append(self._now(actor))
            actor.entries += entries_of(action, result)
        else:
            result = self._happen(actor, action)
        actor.hear(self.wording.result(action, result))
        self.stopped |= actor.role == SENDER and self._may_stop
        found = action.tool.name in READS and entries_of(action, result)
        if actor.role == SENDER and found and not self.stopped:
            self.reads.append(self._now(actor))
            fallback = self.scenario.sender.task
            watching = self.defence.after_read(self.memory(SENDER), fallback, self.wording)
            if instruction := (yield from self._watched(watching)):
                self.instructions.append(instruction)
                actor.hear(self.wording.instructed(instruction))

    def _before_send(self, actor: Actor, action: Action) -> Consulting[bool]:
        return self.defence.before_send(self.memory(SENDER), action, actor.blocked, self.wording)

    def _watched(self, consulting: Consulting[Any]) -> Part:
        """What a guard or an instructor came to; its turns count."""
        answer: str | None = None
        while True:
            try:
                asked = consulting.send(answer)  # type: ignore[arg-type]
            except StopIteration as end:
                return end.value
            answer = yield asked
            self.turns += 1

    def _happen(self, actor: Actor, action: Action) -> Result:
        """Do it in the world."""
        before = len(self.world.activities)
        result = self.world.call(actor.user, action.tool.name, action.arguments)
        self.acted += [self._now(actor)] * (len(self.world.activities) - before)
        actor.entries += entries_of(action, result)
        return result

    # --- helpers ---

    @property
    def _may_stop(self) -> bool:
        """Whether the act that was asked for has been had."""
        return self._until_action is not None and self.turns > self._until_action

    def _now(self, actor: Actor) -> Event:
        return Event(self.turns, self.step, actor.cycles)

    def _goal(self, role: str) -> str:
        me = self.scenario.agent(role)
        task = self.defence.goal(me.task, self.wording) if role == SENDER else me.task
        return f"{task} {me.requirement}".strip()


def constant(defence: Defence) -> Callable[[int], Defence]:
    """The same throughout."""
    return lambda turns: defence


def switched(before: Defence, after: Defence, turns: int) -> Callable[[int], Defence]:
    """One until so many turns have been spoken, then the other."""
    return lambda spoken: before if spoken < turns else after


def as_loop(values: Mapping[str, Any]) -> Loop:
    """From JSON. Raises DataError naming what is not known."""
    unknown = values.keys() - Loop.__dataclass_fields__.keys()
    if unknown:
        raise DataError(f"the loop has no {', '.join(sorted(unknown))}: it has {', '.join(Loop.__dataclass_fields__)}.")
    read: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Loop(**read)
