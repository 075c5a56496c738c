"""Simulations as episodes: one generator each, so that a run's fleets play many at once in step (`orchestrator.rollouts.play`).

Roles: "subject", "sender", "recipient", and whoever watches the sender, which is the policy where a guard or an instructor is
trained. An episode in which it was never asked is silent. The transcript is the turns alone; all else is played again from them
(`replay`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.errors import ConfigError
from orchestrator.values import POLICY, Call, Sampling, Task
from workloads.base import Play
from workloads.cdi.defences import Ask
from workloads.cdi.scenario import ROLES
from workloads.cdi.setup import Setup, begin
from workloads.cdi.wordings import wording_of


@dataclass(frozen=True, slots=True)
class SimulationEnvironment:
    """Implements `workloads.base.Environment`.

    samplings: how each role but the policy is sampled. structured: the roles whose calls are held to the form of a tool call
    (vLLM's structured output), as small models need it.
    """

    samplings: Mapping[str, Sampling]
    structured: frozenset[str] = field(default_factory=lambda: frozenset(ROLES))
    may_be_silent = True

    def play(self, task: Task, sampling: Sampling) -> Play:
        """Play the simulation of a task (`Setup`)."""
        setup = Setup.of(task.reference)
        _, script = begin(setup)
        text: str | None = None
        while True:
            try:
                request = script.send(text)  # type: ignore[arg-type]
            except StopIteration:
                return
            assert isinstance(request, Ask)
            turn = yield self.call(request, setup.wording, sampling)
            text = turn.text

    def call(self, asked: Ask, wording: str, sampling: Sampling | None = None) -> Call:
        """What a fleet is asked. sampling: the policy's, if it plays. Raises ConfigError where nothing says how a role is sampled."""
        drawn = sampling if asked.role == POLICY else self.samplings.get(asked.role)
        if drawn is None:
            raise ConfigError(f"nothing says how the role {asked.role!r} is sampled: {', '.join(self.samplings)} are.")
        held = asked.tools and asked.role != POLICY and asked.role in self.structured
        schema = wording_of(wording).schema(asked.tools) if held else None
        return Call(key="", role=asked.role, messages=asked.messages, sampling=drawn, schema=schema)
