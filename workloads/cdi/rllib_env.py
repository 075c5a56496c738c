"""The same world for RLlib: agents that choose a strategy for each of their cycles, among texts that are given.

`multi_agent_env` makes a `ray.rllib.env.MultiAgentEnv` of one simulation; whoever speaks is answered by `answer`, a fleet or a
script. What steps many simulations with one gather is `attacks.vector_env`. Ray and gymnasium are imported when an environment is
made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets.fleet import Answerer
from orchestrator.rollouts.judging import insist
from orchestrator.values import Sampling, Turn, stable_hash
from workloads.cdi.defences import Ask
from workloads.cdi.directed import Directed, observation, observation_size
from workloads.cdi.environment import SimulationEnvironment
from workloads.cdi.setup import Setup
from workloads.cdi.simulation import Choose, Simulation

Answer = Callable[[Sequence[tuple[Directed, Ask]]], Sequence[str]]
"""What is said in several simulations at once: one gather."""
Reward = Callable[[Simulation, str], float]
"""What a role (its name) is given for the simulation as it stands, in sum since its beginning."""


def advance(simulations: Sequence[Directed], answer: Answer) -> None:
    """Play all until each waits for a choice or has ended; whoever speaks in a round is answered in one gather."""
    while True:
        asked = [(one, one.waiting) for one in simulations if isinstance(one.waiting, Ask)]
        if not asked:
            return
        for (one, _), text in zip(asked, answer(asked), strict=True):
            one.hear(text)


@dataclass
class FleetAnswers:
    """An `Answer` by served models. fleets: by role, "policy" included where a guard or an instructor is asked. retries: by role.

    Raises RunError where an answer cannot be had: half a simulation must not be learned from.
    """

    fleets: Mapping[str, Answerer]
    environment: SimulationEnvironment
    sampling: Sampling
    seed: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)

    def __call__(self, asked: Sequence[tuple[Directed, Ask]]) -> list[str]:
        calls = []
        for one, request in asked:
            call = self.environment.call(request, one.setup.wording, self.sampling)
            key = f"{one.key}/{len(one.turns)}"
            calls.append(replace(call, key=key, seed=stable_hash(self.seed, key), route=one.key))
        answers, _ = insist(calls, self.fleets, self.retries)
        for call, answer in zip(calls, answers, strict=True):
            if not isinstance(answer, Turn):
                raise RunError(f"{call.role} fleet, call {call.key}: {getattr(answer, 'reason', 'no completion')}")
        return [answer.text for answer in answers if isinstance(answer, Turn)]


class SimulationEnv:
    """What `multi_agent_env` mixes into RLlib's base class: one simulation an episode.

    An agent sees and acts only where it is to choose. seed: beside the episode's number, of what is sampled.
    """

    def __init__(
        self,
        setups: Sequence[Setup],
        strategies: Mapping[str, Sequence[str]],
        answer: Answer,
        reward: Reward,
        seed: int = 0,
    ) -> None:
        import gymnasium as gym
        import numpy as np

        super().__init__()
        self._setups, self._strategies, self._answer, self._reward, self._seed = (
            setups,
            strategies,
            answer,
            reward,
            seed,
        )
        self.possible_agents = self.agents = list(strategies)
        sizes = {role: (observation_size(texts),) for role, texts in strategies.items()}
        self.observation_spaces = {role: gym.spaces.Box(0.0, 1.0, size, np.float32) for role, size in sizes.items()}
        self.action_spaces: Any = {role: gym.spaces.Discrete(len(texts)) for role, texts in strategies.items()}
        self.episodes = 0
        self.directed: Directed | None = None
        self._paid: dict[str, float] = {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin the next setup."""
        setup = self._setups[self.episodes % len(self._setups)]
        self.directed = Directed(setup, self._strategies, f"rllib/{self._seed}/{self.episodes}")
        self.episodes += 1
        self._paid = dict.fromkeys(self._strategies, 0.0)
        advance([self.directed], self._answer)
        return self._seen(self.directed), {}

    def step(self, action_dict: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Follow the choice of the agent that was to make one, until the next is to choose."""
        directed = self.directed
        assert directed is not None, "reset it first"
        assert isinstance(directed.waiting, Choose), "the episode has ended: reset it"
        directed.choose(int(action_dict[directed.waiting.role]))
        advance([directed], self._answer)
        total = {role: self._reward(directed.simulation, role) for role in self._strategies}
        gained = {role: total[role] - self._paid[role] for role in self._strategies}
        self._paid = total
        return self._seen(directed), gained, {"__all__": directed.waiting is None}, {"__all__": False}, {}

    def _seen(self, directed: Directed) -> dict[str, Any]:
        """Of the agent that is to choose; of all at the end."""
        import numpy as np

        waiting = directed.waiting
        roles = [waiting.role] if isinstance(waiting, Choose) else list(self._strategies)
        return {role: np.asarray(observation(directed, role), np.float32) for role in roles}


def multi_agent_env(
    setups: Sequence[Setup], strategies: Mapping[str, Sequence[str]], answer: Answer, reward: Reward, seed: int = 0
) -> Any:
    """A `MultiAgentEnv` whose agents are the roles of `strategies`; each acts when its cycle begins, one at a time.

    setups: played in turn, an episode each. answer: who speaks besides. reward: of a role so far; a step gives what was added. Raises
    ConfigError where there is nothing to play or to choose.
    """
    if not setups or not strategies or not all(strategies.values()):
        raise ConfigError("an environment for RLlib needs a setup, and strategies of each of its agents.")
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    kind = type("SimulationMultiAgentEnv", (SimulationEnv, MultiAgentEnv), {})
    return kind(setups, strategies, answer, reward, seed)
