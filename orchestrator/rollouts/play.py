"""Tasks -> episodes. Many episodes are played in step: each round gathers every player's next call into one batch a fleet.

A single answer is one round; agents that talk take as many as the longest conversation. The order is fixed, so a run can be
repeated. An episode that lacks another role's answer for good is lost, whole: half of one is never judged.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from orchestrator.config.own_code import own_code
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Answerer
from orchestrator.rollouts.judging import insist
from orchestrator.values import POLICY, Call, Episode, Fault, Sampling, Task, Turn, stable_hash


class RolloutCancelled(RunError):
    """The run ended while episodes were being played; none of them is kept."""


@dataclass(slots=True)
class _Player:
    """One attempt at a task. What goes wrong in the environment's own code is a RunError that names task, file and line.

    lost: why it cannot be played on.
    """

    task: Task
    sample: int
    environment: Any
    play: Any = None
    next_call: Call | None = None
    turns: list[Turn] = field(default_factory=list)
    lost: str = ""

    def begin(self, sampling: Sampling) -> None:
        with own_code(self._where, self.environment):
            self.play = self.environment.play(self.task, sampling)
        if not isinstance(self.play, Generator):
            raise RunError(f"{self._where}: is a {type(self.play).__name__}, not a generator: let it yield a Call.")
        self._go_on(None)

    def hear(self, answer: Turn | Fault) -> None:
        """Go on with an answer; without one the episode ends. Raises RunError where the policy's own cannot be had."""
        assert self.next_call is not None
        if isinstance(answer, Turn):
            self.turns.append(answer)
            self._go_on(answer)
            return
        told = f"{self.next_call.role} fleet, call {self.next_call.key}: {answer.reason}"
        if self.next_call.role == POLICY:
            raise RunError(told)
        self.lost = told
        self.end()

    def end(self) -> None:
        """Play no further."""
        self.next_call = None
        with own_code(self._where, self.environment):
            self.play.close()

    def episode(self, step: int) -> Episode:
        return Episode(self.task, step, self.sample, () if self.lost else tuple(self.turns), self.lost)

    def _go_on(self, turn: Turn | None) -> None:
        with own_code(self._where, self.environment):
            try:
                self.next_call = self.play.send(turn)
            except StopIteration:
                self.next_call = None
                spoken = any(turn.role == POLICY for turn in self.turns)
                if not spoken and not getattr(self.environment, "may_be_silent", False):
                    raise RunError(
                        f"{self._where}: ended before the policy had spoken. If that may be, say `may_be_silent = True` in the "
                        "environment."
                    ) from None
                return
        if not isinstance(self.next_call, Call) or self.next_call.sampling is None:
            raise RunError(f"{self._where}: yielded {self.next_call!r}; let it yield a Call with a `sampling`.")
        if self.next_call.role == POLICY and self.next_call.schema is not None:
            raise RunError(
                f"{self._where}: gives the policy a `schema`, which would change the probabilities that it is trained on."
            )

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
    at_once: int = 0,
    retries: Mapping[str, int] = MappingProxyType({}),
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Episode]:
    """Play every task `samples` times. Episodes come in the order (task, sample). A call's seed is a function of the run's
    seed, the step, the task, the sample and the turn alone.

    at_once: episodes that are played at a time; 0 for all. retries: how often a role that is not the policy is asked again. cancelled:
    looked at before every round. Raises RunError, RolloutCancelled.
    """
    players = _players(tasks, samples, environment)
    coming, playing = deque(players), list[_Player]()
    try:
        while True:
            while coming and (not at_once or len(playing) < at_once):
                player = coming.popleft()
                player.begin(sampling)
                playing += [player] if player.next_call else []
            if not playing:
                return [player.episode(step) for player in players]
            if cancelled():
                raise RolloutCancelled(f"{len(playing)} episodes were still being played when the run ended.")
            for player in playing:
                player.next_call = _addressed(player, seed, step, purpose)
            answers = _ask([player.next_call for player in playing if player.next_call], fleets, retries)
            for player, answer in zip(playing, answers, strict=True):
                player.hear(answer)
            playing = [player for player in playing if player.next_call]
    finally:
        for player in playing:
            player.end()


def _players(tasks: Sequence[Task], samples: int, environment: Any) -> list[_Player]:
    players = []
    # A task that comes twice in a step (an epoch ends in it) goes on counting, so that no two calls share a key.
    attempts: Counter[str] = Counter()
    for task in tasks:
        for _ in range(samples):
            players.append(_Player(task, attempts[task.id], environment))
            attempts[task.id] += 1
    return players


def _addressed(player: _Player, seed: int, step: int, purpose: str) -> Call:
    assert player.next_call is not None
    key = f"{purpose}/{step}/{player.task.id}/{player.sample}/{len(player.turns)}"
    # One server for all attempts at a task: they share its prompt.
    return replace(player.next_call, key=key, seed=stable_hash(seed, key), route=f"{purpose}/{step}/{player.task.id}")


def _ask(calls: Sequence[Call], fleets: Mapping[str, Answerer], retries: Mapping[str, int]) -> list[Turn | Fault]:
    """One batch a role. Raises RunError where a role has no fleet."""
    for role in sorted({call.role for call in calls}):
        if role not in fleets:
            raise RunError(
                f"the environment calls the role {role!r}, but the run has fleets only for {', '.join(sorted(fleets))}"
            )
    answers, _ = insist(calls, fleets, {role: tries for role, tries in retries.items() if role != POLICY})
    turns = [answer for answer in answers if isinstance(answer, Turn | Fault)]
    assert len(turns) == len(calls), "a completion was asked for and something else came"
    return turns
