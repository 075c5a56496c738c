"""An attacker that adapts: RLlib's PPO learns which strategy the recipient follows in each of its cycles, against one defence.

simulations of all configs, many at once -> RLlib's env runner -> its PPO learner -> ... -> of each config what the greedy attacker does

Its env runner and learner are used without the `Algorithm` around them, which would have to start a Ray of its own, in the midst of a
gathering whose servers need another. Here no Ray is needed, and one that runs is left alone. PPO: arXiv 1707.06347.
"""

from __future__ import annotations

import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from orchestrator.config.settings import setting
from workloads.cdi import scripted
from workloads.cdi.attacks.in_thread import Ask, in_thread
from workloads.cdi.attacks.vector_env import Attempt, vector_env
from workloads.cdi.playing import Asking, Stage, side_by_side
from workloads.cdi.setup import Setup

HIDDEN = (32, 32)
"""Units of the policy's and of the value's layers."""
Policy = Callable[[Sequence[Sequence[float]]], list[int]]
"""Observations -> the likeliest strategy of each."""


@dataclass
class PpoConfig:
    """How the attacker learns. It plays iterations * simulations in all, and each config `plays` times when it has learned."""

    iterations: int = setting(30, "ppo: updates of the attacker.", low=1)
    simulations: int = setting(32, "ppo: simulations that are played at once, and about so many an update.", low=1)
    learning_rate: float = setting(5e-3, "ppo: Adam's learning rate.", low=0)
    minibatch: int = setting(32, "ppo: choices a gradient step.", low=1)
    epochs: int = setting(8, "ppo: passes over the choices of an update.", low=1)
    entropy: float = setting(0.01, "ppo: weight of the entropy bonus, which keeps it trying.", low=0)
    plays: int = setting(4, "ppo: simulations of each config by the attacker that has learned.", low=1)


@dataclass(frozen=True, slots=True)
class Learned:
    """attempts: of the attacker that has learned, `plays` a setup, in their order; lost ones are among them. curve: mean return of the
    episodes of each iteration, None where all were lost. begun, lost: simulations in all, by the setup's place."""

    attempts: tuple[Attempt, ...]
    curve: tuple[float | None, ...]
    begun: Mapping[int, int]
    lost: Mapping[int, int]


def search(
    setups: Sequence[Setup], stage: Stage, settings: PpoConfig, strategies: Sequence[str] = scripted.STRATEGIES
) -> Asking[Learned]:
    """Train one attacker on all setups, then play each as it would. Equal seeds of the stage ask the same, in the same order.

    Raises ConfigError where there is nothing to play or to choose.
    """
    trained = yield from in_thread(lambda ask: train(setups, stage, settings, strategies, ask))
    attempts = [
        Attempt(setup, strategies, f"ppo/learned/{place}/{number}", place)
        for place, setup in enumerate(setups)
        for number in range(settings.plays)
    ]
    yield from _directed(attempts, stage, trained.policy)
    begun = trained.env.begun + Counter(one.place for one in attempts)
    lost = trained.env.lost + Counter(one.place for one in attempts if one.lost)
    return Learned(tuple(attempts), tuple(trained.curve), begun, lost)


@dataclass(frozen=True, slots=True)
class Trained:
    """policy: what was learned. env: where."""

    policy: Policy
    curve: list[float | None]
    env: Any


def train(setups: Sequence[Setup], stage: Stage, settings: PpoConfig, strategies: Sequence[str], ask: Ask) -> Trained:
    """PPO's loop; it seeds the process's random numbers, as RLlib does."""
    with _one_thread():
        env = vector_env(setups, strategies, stage, ask, settings.simulations)
        runner, learner = _parts(env, settings, max(setup.loop.cycles - 1 for setup in setups), stage.seed)
        steps, curve = 0, []
        for _ in range(settings.iterations):
            runner.set_state({"rl_module": learner.module.get_state(inference_only=True)})
            before = len(env.returns)
            episodes = runner.sample()
            steps += sum(len(episode) for episode in episodes)
            learner.update(
                episodes=episodes,
                timesteps={"num_env_steps_sampled_lifetime": steps},
                num_epochs=settings.epochs,
                minibatch_size=settings.minibatch,
                shuffle_batch_per_epoch=True,
            )
            runner.get_metrics()  # it would keep every episode until it is asked
            ended = env.returns[before:]
            curve.append(fmean(ended) if ended else None)
        runner.set_state({"rl_module": learner.module.get_state(inference_only=True)})
        runner.stop()
    return Trained(_greedy(runner.module), curve, env)


def _parts(env: Any, settings: PpoConfig, horizon: int, seed: int) -> tuple[Any, Any]:
    """RLlib's (env runner, learner). An update's choices are those of `simulations` episodes that all reach the horizon."""
    from ray.rllib.algorithms.ppo import PPOConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    config = (
        PPOConfig()
        .environment(lambda context: env)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=env.num_envs,
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .rl_module(model_config=DefaultModelConfig(fcnet_hiddens=list(HIDDEN), vf_share_layers=False))
        .training(
            gamma=1.0,  # the return is what leaked, in all
            lr=settings.learning_rate,
            entropy_coeff=settings.entropy,
            train_batch_size_per_learner=env.num_envs * horizon,
        )
        .debugging(seed=seed % 2**31)
    )
    with _quiet():
        runner = SingleAgentEnvRunner(config=config)
        return runner, config.build_learner(spaces=runner.get_spaces())


def _greedy(module: Any) -> Policy:
    def choose(observations: Sequence[Sequence[float]]) -> list[int]:
        import torch

        with _one_thread():
            answer = module.forward_inference({"obs": torch.tensor(observations, dtype=torch.float32)})
        return [int(choice) for choice in answer["action_dist_inputs"].argmax(-1)]

    return choose


def _directed(attempts: Sequence[Attempt], stage: Stage, policy: Policy) -> Asking[None]:
    """Play all to their ends as the policy chooses."""
    playing = list(attempts)
    while True:
        yield from side_by_side([one.go_on(stage) for one in playing])
        playing = [one for one in playing if not one.over]
        if not playing:
            return
        for one, choice in zip(playing, policy([one.seen for one in playing]), strict=True):
            one.choose(choice)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Of torch: the layers are so small that threads cost more than they do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without RLlib's remarks about its own deprecated parts, and gymnasium's about a name that RLlib registers again."""
    log = logging.getLogger("ray._common.deprecation")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
