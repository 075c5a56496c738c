"""Tasks -> episodes. Many episodes are played in step: each round gathers every player's next call into one batch a fleet.

A single answer is one round; agents that talk take as many as the longest conversation. The order is fixed, so a run can be
repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.config.own_code import own_code
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Answerer
from orchestrator.values import POLICY, Call, Episode, Fault, Sampling, Task, Turn, stable_hash


@dataclass(slots=True)
class _Player:
    """One attempt at a task. What goes wrong in the environment's own code is a RunError that names task, file and line."""

    task: Task
    sample: int
    environment: Any
    play: Any = None
    next_call: Call | None = None
    turns: list[Turn] = field(default_factory=list)

    def begin(self, sampling: Sampling) -> None:
        with own_code(self._where, self.environment):
            self.play = self.environment.play(self.task, sampling)
        if not isinstance(self.play, Generator):
            raise RunError(f"{self._where}: is a {type(self.play).__name__}, not a generator: let it yield a Call.")
        self._go_on(None)

    def hear(self, turn: Turn) -> None:
        self.turns.append(turn)
        self._go_on(turn)

    def _go_on(self, turn: Turn | None) -> None:
        with own_code(self._where, self.environment):
            try:
                self.next_call = self.play.send(turn)
            except StopIteration:
                self.next_call = None
                if not any(turn.role == POLICY for turn in self.turns):
                    raise RunError(f"{self._where}: ended before the policy had spoken.") from None
                return
        if not isinstance(self.next_call, Call) or self.next_call.sampling is None:
            raise RunError(f"{self._where}: yielded {self.next_call!r}; let it yield a Call with a `sampling`.")

    @property
    def _where(self) -> str:
        return f"{type(self.environment).__name__}.play, task {self.task.id}"


def roll_out(
    tasks: Sequence[Task],
    samples: int,
    environment: Any,
    sampling: Sampling,
    fleets: Mapping[str, Answerer],
    *,
    seed: int,
    step: int,
    purpose: str = "train",
) -> list[Episode]:
    """Play every task `samples` times. Episodes come in the order (task, sample). A call's seed is a function of the run's
    seed, the step, the task, the sample and the turn alone."""
    players = []
    # A task that comes twice in a step (an epoch ends in it) goes on counting, so that no two calls share a key.
    attempts: Counter[str] = Counter()
    for task in tasks:
        for _ in range(samples):
            player = _Player(task, attempts[task.id], environment)
            player.begin(sampling)
            players.append(player)
            attempts[task.id] += 1
    while waiting := [player for player in players if player.next_call is not None]:
        calls = [_addressed(player, seed, step, purpose) for player in waiting]
        for player, turn in zip(waiting, _ask(calls, fleets), strict=True):
            player.hear(turn)
    return [Episode(player.task, step, player.sample, tuple(player.turns)) for player in players]


def _addressed(player: _Player, seed: int, step: int, purpose: str) -> Call:
    assert player.next_call is not None
    key = f"{purpose}/{step}/{player.task.id}/{player.sample}/{len(player.turns)}"
    # One server for all attempts at a task: they share its prompt.
    return replace(player.next_call, key=key, seed=stable_hash(seed, key), route=f"{purpose}/{step}/{player.task.id}")


def _ask(calls: Sequence[Call], fleets: Mapping[str, Answerer]) -> list[Turn]:
    """One batch a role. A generated turn that cannot be had ends the run: an episode cannot go on without it."""
    turns: dict[str, Turn] = {}
    for role in sorted({call.role for call in calls}):
        if role not in fleets:
            raise RunError(
                f"the environment calls the role {role!r}, but the run has fleets only for {', '.join(sorted(fleets))}"
            )
        mine = [call for call in calls if call.role == role]
        for call, answer in zip(mine, fleets[role].complete(mine), strict=True):
            if isinstance(answer, Fault):
                raise RunError(f"{role} fleet, call {call.key}: {answer.reason}")
            assert isinstance(answer, Turn)
            turns[call.key] = answer
    return [turns[call.key] for call in calls]
