"""The same world for RLlib: agents that choose a strategy for each of their cycles, among texts that are given.

`multi_agent_env` makes a `ray.rllib.env.MultiAgentEnv` of one simulation; whoever speaks is answered by `ask`, fleets or a script. What
steps many simulations with one gather is `attacks.vector_env`. Ray and gymnasium are imported when an environment is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orchestrator.errors import ConfigError, RunError
from workloads.cdi.attacks.in_thread import Ask, finished
from workloads.cdi.directed import Directed, observation, observation_size
from workloads.cdi.playing import Stage, play
from workloads.cdi.setup import Setup
from workloads.cdi.simulation import Choose, Simulation

Reward = Callable[[Simulation, str], float]
"""What a role (its name) is given for the simulation as it stands, in sum since its beginning."""


class SimulationEnv:
    """What `multi_agent_env` mixes into RLlib's base class: one simulation an episode.

    An agent sees and acts only where it is to choose. Raises RunError where an answer cannot be had: half a simulation must not be
    learned from.
    """

    def __init__(
        self,
        setups: Sequence[Setup],
        strategies: Mapping[str, Sequence[str]],
        stage: Stage,
        ask: Ask,
        reward: Reward,
    ) -> None:
        import gymnasium as gym
        import numpy as np

        super().__init__()
        self._setups, self._strategies, self._reward = setups, strategies, reward
        self._stage, self._ask = stage, ask
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
        self.directed = Directed(setup, self._strategies, f"rllib/{self.episodes}")
        self.episodes += 1
        self._paid = dict.fromkeys(self._strategies, 0.0)
        self._go_on(self.directed)
        return self._seen(self.directed), {}

    def step(self, action_dict: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Follow the choice of the agent that was to make one, until the next is to choose."""
        directed = self.directed
        assert directed is not None, "reset it first"
        assert isinstance(directed.waiting, Choose), "the episode has ended: reset it"
        directed.choose(int(action_dict[directed.waiting.role]))
        self._go_on(directed)
        total = {role: self._reward(directed.simulation, role) for role in self._strategies}
        gained = {role: total[role] - self._paid[role] for role in self._strategies}
        self._paid = total
        return self._seen(directed), gained, {"__all__": directed.waiting is None}, {"__all__": False}, {}

    def _go_on(self, directed: Directed) -> None:
        if not finished(play(directed, self._stage), self._ask):
            raise RunError(f"simulation {directed.key}: an answer after {len(directed.turns)} turns could not be had.")

    def _seen(self, directed: Directed) -> dict[str, Any]:
        """Of the agent that is to choose; of all at the end."""
        import numpy as np

        waiting = directed.waiting
        roles = [waiting.role] if isinstance(waiting, Choose) else list(self._strategies)
        return {role: np.asarray(observation(directed, role), np.float32) for role in roles}


def multi_agent_env(
    setups: Sequence[Setup], strategies: Mapping[str, Sequence[str]], stage: Stage, ask: Ask, reward: Reward
) -> Any:
    """A `MultiAgentEnv` whose agents are the roles of `strategies`; each acts when its cycle begins, one at a time.

    setups: played in turn, an episode each. stage: how each role is sampled; nobody is judged. ask: who
    speaks besides. reward: of a role so far; a step gives what was added. Raises
    ConfigError where there is nothing to play or to choose.
    """
    if not setups or not strategies or not all(strategies.values()):
        raise ConfigError("an environment for RLlib needs a setup, and strategies of each of its agents.")
    from ray.rllib.env.multi_agent_env import MultiAgentEnv

    kind = type("SimulationMultiAgentEnv", (SimulationEnv, MultiAgentEnv), {})
    return kind(setups, strategies, stage, ask, reward)
