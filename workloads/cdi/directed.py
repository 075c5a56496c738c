"""A simulation that stops where an agent begins a cycle and is to choose its strategy, and what that agent knows then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from workloads.cdi.defences import Ask
from workloads.cdi.setup import Setup, begin
from workloads.cdi.simulation import Choose


class Directed:
    """A simulation that stops where an agent of `strategies` begins a cycle. strategies: by role, the texts among which it chooses.

    waiting: for whom it waits; None at its end. chosen: by role, indices. turns: (role, text) of all that was said.
    """

    def __init__(self, setup: Setup, strategies: Mapping[str, Sequence[str]], key: str = "") -> None:
        self.setup, self.strategies, self.key = setup, strategies, key
        self.chosen: dict[str, list[int]] = {role: [] for role in strategies}
        self.turns: list[tuple[str, str]] = []
        self.simulation, self._script = begin(setup, frozenset(strategies))
        self.waiting: Ask | Choose | None = None
        self._go_on(None)

    def choose(self, strategy: int) -> None:
        """The role that is waited for follows this strategy in its cycle."""
        assert isinstance(self.waiting, Choose), "nobody is to choose now"
        role = self.waiting.role
        self.chosen[role].append(strategy)
        self._go_on(self.strategies[role][strategy])

    def hear(self, text: str) -> None:
        """The role that is waited for has spoken."""
        assert isinstance(self.waiting, Ask), "nobody is to speak now"
        self.turns.append((self.waiting.role, text))
        self._go_on(text)

    def as_played(self) -> Setup:
        """The setup with the strategies that were chosen: what its turns are replayed with."""
        told = {role: tuple(self.strategies[role][index] for index in mine) for role, mine in self.chosen.items()}
        return replace(self.setup, directions={**self.setup.directions, **told})

    def _go_on(self, text: str | None) -> None:
        try:
            self.waiting = self._script.send(text)  # type: ignore[arg-type]
        except StopIteration:
            self.waiting = None


def observation(directed: Directed, role: str) -> list[float]:
    """What an agent knows of how it goes, each in 0..1; `observation_size` of them.

    Share of its cycles that is used up; shares of its messages that came in and went out (of 16 each); whether its last send was
    answered; its last strategy, one of them hot.
    """
    actor, loop = directed.simulation.actors[role], directed.setup.loop
    sent = [index for index, entry in enumerate(actor.entries) if entry.sent]
    came = directed.simulation.world.has_news(actor.user) or any(not entry.sent for entry in actor.entries[-1:])
    reads = len(actor.entries) - len(sent)
    chosen = directed.chosen[role][-1:]
    return [
        actor.cycles / loop.cycles,
        min(reads, SEEN) / SEEN,
        min(len(sent), SEEN) / SEEN,
        float(bool(sent) and came),
        *(float(index in chosen) for index in range(len(directed.strategies[role]))),
    ]


SEEN = 16
"""Messages beyond which an agent does not count on."""


def observation_size(strategies: Sequence[str]) -> int:
    """Numbers in an observation."""
    return 4 + len(strategies)
