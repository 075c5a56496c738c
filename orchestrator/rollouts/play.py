"""Tasks -> episodes. Many episodes are played in step: each round gathers every player's next call into one batch a fleet.

A single answer is one round; agents that talk take as many as the longest conversation. The order is fixed, so a run can be
repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Answerer
from orchestrator.values import Call, Episode, Fault, Sampling, Task, Turn, stable_hash


@dataclass(slots=True)
class _Player:
    task: Task
    sample: int
    play: Any
    next_call: Call | None
    turns: list[Turn] = field(default_factory=list)


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
            play = environment.play(task, sampling)
            players.append(_Player(task, attempts[task.id], play, next(play)))
            attempts[task.id] += 1
    while waiting := [player for player in players if player.next_call is not None]:
        calls = [_addressed(player, seed, step, purpose) for player in waiting]
        for player, turn in zip(waiting, _ask(calls, fleets), strict=True):
            player.turns.append(turn)
            try:
                player.next_call = player.play.send(turn)
            except StopIteration:
                player.next_call = None
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
