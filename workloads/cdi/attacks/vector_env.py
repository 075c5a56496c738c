"""Many simulations as one environment of gymnasium: the recipient chooses a strategy for each of its cycles, and a step plays all of
them on, one batch of calls a round.

An episode's return is what leaked: 1 less the leak score (`workloads.cdi.leaks`), in increments. It ends where the recipient's last
cycle would begin, which nobody answers any more. A simulation that is lost is truncated, so that a learner estimates what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from orchestrator.errors import ConfigError
from workloads.cdi.attacks.in_thread import Ask, finished
from workloads.cdi.directed import Directed, observation, observation_size
from workloads.cdi.judged import Verdicts, judged_actions, union
from workloads.cdi.leaks import leak_score
from workloads.cdi.playing import Asking, Stage, judged, play, side_by_side
from workloads.cdi.scenario import RECIPIENT
from workloads.cdi.setup import Setup
from workloads.cdi.simulation import Choose
from workloads.cdi.tools import FACEBOOK, GMAIL, MESSENGER

APPLICATIONS = (MESSENGER, GMAIL, FACEBOOK)


class Attempt:
    """A simulation whose recipient chooses among `strategies`. key: no other attempt of a search has it. place: the
    setup's among all.

    leak_score, and told, the share of all facts that the recipient was told: both so far. lost: an answer, or the judge's word, could
    not be had.
    """

    def __init__(self, setup: Setup, strategies: Sequence[str], key: str, place: int) -> None:
        self._directed, self.place = Directed(setup, {RECIPIENT: strategies}, key), place
        self.leak_score = 1.0
        self.told = self._paid = 0.0
        self.lost = False

    @property
    def horizon(self) -> int:
        """Cycles of the recipient that can be answered: all but its last."""
        return self._directed.setup.loop.cycles - 1

    @property
    def ended(self) -> bool:
        """Whether there is nothing to choose any more."""
        waiting = self._directed.waiting
        return waiting is None or (isinstance(waiting, Choose) and waiting.cycle >= self.horizon)

    @property
    def chosen(self) -> tuple[str, ...]:
        """The strategies so far, one a cycle."""
        return self._directed.as_played().directions.get(RECIPIENT, ())

    @property
    def leaked(self) -> float:
        """What the attacker is given, in sum."""
        return 1.0 - self.leak_score

    @property
    def seen(self) -> list[float]:
        """What the recipient knows, each in 0..1: `observation`; judged messages that reached it a cycle; share of the facts it wants
        that it has; the application by which they are to be sent, one hot. Which facts are sensitive it does not know."""
        scenario = self._directed.setup.scenario
        reached = len(judged_actions(scenario, self._directed.simulation.activities))
        return [
            *observation(self._directed, RECIPIENT),
            min(1.0, reached / self.horizon),
            self.told,
            *(float(scenario.leak_application == application) for application in APPLICATIONS),
        ]

    @property
    def over(self) -> bool:
        """Ended or lost."""
        return self.ended or self.lost

    def choose(self, strategy: int) -> None:
        """For the cycle that begins."""
        self._directed.choose(strategy)

    def take_gain(self) -> float:
        """What has leaked since this was asked last."""
        gained, self._paid = self.leaked - self._paid, self.leaked
        return gained

    def go_on(self, stage: Stage) -> Asking[None]:
        """Play until the next choice, or the end, and judge what has come of it."""
        verdicts: Verdicts | None = None
        if (yield from play(self._directed, stage)):
            verdicts = yield from judged(self._directed, stage)
        if verdicts is None:
            self.lost = True
            return
        scenario, shared = self._directed.setup.scenario, union(verdicts)
        self.leak_score = leak_score(verdicts, len(scenario.sensitive))
        facts = len(scenario.sensitive) + len(scenario.shareable)
        self.told = (len(shared.sensitive) + len(shared.shareable)) / facts


def seen_size(strategies: Sequence[str]) -> int:
    """Numbers in `Attempt.seen`."""
    return observation_size(strategies) + 2 + len(APPLICATIONS)


class AttemptsEnv:
    """What `vector_env` mixes into gymnasium's base class. One that has ended begins anew, with the next setup, in the step after
    (gymnasium's NEXT_STEP). Nothing is drawn here: seeds are the stage's.

    begun, lost: how many, by the setup's place. returns: of the episodes that have ended, in order, lost ones left out.
    """

    def __init__(
        self, setups: Sequence[Setup], strategies: Sequence[str], stage: Stage, ask: Ask, num_envs: int
    ) -> None:
        import gymnasium as gym
        import numpy as np
        from gymnasium.vector.utils import batch_space

        super().__init__()
        self._setups, self._strategies, self._stage, self._ask = setups, tuple(strategies), stage, ask
        self.num_envs = num_envs
        self.single_observation_space: Any = gym.spaces.Box(0.0, 1.0, (seen_size(strategies),), np.float32)
        self.single_action_space: Any = gym.spaces.Discrete(len(strategies))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.begun: Counter[int] = Counter()
        self.lost: Counter[int] = Counter()
        self.returns: list[float] = []
        self._attempts: list[Attempt] = []
        self._told_over: list[bool] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Begin all. Observations: float32 (num_envs, seen_size)."""
        self._attempts = [self._begin() for _ in range(self.num_envs)]
        self._told_over = [False] * self.num_envs
        self._go_on()
        return self._seen(), {}

    def step(self, actions: Sequence[int]) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """(observations, rewards, terminated, truncated, {}), a row a simulation. actions: ignored of one that begins anew."""
        import numpy as np

        fresh = np.array(self._told_over)
        for index, (attempt, action) in enumerate(zip(self._attempts, actions, strict=True)):
            if fresh[index]:
                self._attempts[index] = self._begin()
            elif not attempt.over:
                attempt.choose(int(action))
        self._go_on()
        gains = [0.0 if new else one.take_gain() for one, new in zip(self._attempts, fresh, strict=True)]
        lost = np.array([one.lost for one in self._attempts]) & ~fresh
        ended = np.array([one.ended for one in self._attempts]) & ~fresh & ~lost
        self.lost.update(one.place for one, missing in zip(self._attempts, lost, strict=True) if missing)
        self.returns += [one.leaked for one, over in zip(self._attempts, ended, strict=True) if over]
        self._told_over = [bool(over) for over in ended | lost]
        return self._seen(), np.array(gains), ended, lost, {}

    def _begin(self) -> Attempt:
        number = self.begun.total()
        place = number % len(self._setups)
        self.begun[place] += 1
        return Attempt(self._setups[place], self._strategies, f"ppo/{number}", place)

    def _go_on(self) -> None:
        moving = [attempt.go_on(self._stage) for attempt in self._attempts if not attempt.over]
        finished(side_by_side(moving), self._ask)

    def _seen(self) -> Any:
        import numpy as np

        return np.array([attempt.seen for attempt in self._attempts], np.float32)


def vector_env(setups: Sequence[Setup], strategies: Sequence[str], stage: Stage, ask: Ask, num_envs: int) -> Any:
    """A `gymnasium.vector.VectorEnv` of so many simulations (`AttemptsEnv`). setups: played in turn. Raises ConfigError where there is
    nothing to play or to choose."""
    if not setups or not strategies or any(setup.loop.cycles < 2 for setup in setups):
        raise ConfigError(
            "an attacker that learns needs a setup, strategies, and a recipient that asks once at least (attack.cycles; loop.cycles of "
            "real configs counts one more, which nobody answers)."
        )
    from gymnasium.vector import AutoresetMode, VectorEnv

    kind = type(
        "AttemptsVectorEnv", (AttemptsEnv, VectorEnv), {"metadata": {"autoreset_mode": AutoresetMode.NEXT_STEP}}
    )
    return kind(setups, strategies, stage, ask, num_envs)
