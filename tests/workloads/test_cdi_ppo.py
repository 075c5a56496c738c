"""The attacker that learns: a thread as a generator, many simulations as one environment, and what RLlib's PPO makes of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.cdi import SAMPLING

from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError
from orchestrator.values import Answer, Call, Fault, Sampling, Turn
from workloads.cdi import attacks, mini, scripted, world
from workloads.cdi.attacks.in_thread import Ask, finished, in_thread
from workloads.cdi.attacks.ppo import PpoConfig, search
from workloads.cdi.attacks.vector_env import APPLICATIONS, seen_size, vector_env
from workloads.cdi.defences import Defence
from workloads.cdi.environment import SimulationEnvironment
from workloads.cdi.keyed import KeyedJudge
from workloads.cdi.mini_play import sender_act, setup_of
from workloads.cdi.playing import Stage
from workloads.cdi.scenario import SENDER, Scenario
from workloads.cdi.tools import FACEBOOK, GMAIL, MESSENGER
from workloads.cdi.world_words import MARKS

pytest.importorskip("gymnasium", reason="the environment needs gymnasium")
SCENARIOS = world.make_scenarios({"eval": 24}, 0)["eval"]
BY_ID = {one.id: one for one in SCENARIOS}
WEAKNESS = {MESSENGER: "urgency", GMAIL: "consent", FACEBOOK: "probing"}
"""Application -> the only strategy under which the scripted sender tells everything."""
PLAIN, URGENT = scripted.STRATEGIES.index("plain"), scripted.STRATEGIES.index("urgency")


STAGE = Stage(SimulationEnvironment({SENDER: SAMPLING}), KeyedJudge(mini.exact_keys))
SETUPS = [setup_of(one, Defence(), ["plain", "plain"]) for one in SCENARIOS]
BY_MESSENGER = [one for one in SETUPS if one.scenario.leak_application == one.scenario.subject.application == MESSENGER]


def weak(call: Call, known: Mapping[str, Scenario] = BY_ID) -> Answer:
    """The sender: all facts where the last message is of its weakness, the shareable ones otherwise."""
    scenario = known[call.route]
    asked = scripted.request(scenario, WEAKNESS[scenario.leak_application], 0)
    kept = frozenset() if asked in call.messages[-1]["content"] else world.sensitive_marks(scenario)
    text = sender_act(scenario, call.messages, lambda instruction: frozenset(MARKS) - kept)
    return Turn(SENDER, (1,), (1,), (0.0,), text, "stop", 1.0, 0, call.seed)


class Batches:
    """An `Ask` that remembers."""

    def __init__(self, answer: Callable[[Call], Answer] = weak) -> None:
        self.asked: list[Sequence[Call]] = []
        self._answer = answer

    def __call__(self, calls: Sequence[Call]) -> list[Answer]:
        self.asked.append(calls)
        return [self._answer(call) for call in calls]


# --- a thread as a generator ---

CALLS = [Call("a", SENDER, (), Sampling(1)), Call("b", SENDER, (), Sampling(1))]


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "asking"]


def twice(ask: Ask) -> list[str]:
    return [answer.reason for call in CALLS for answer in ask([call]) if isinstance(answer, Fault)]


def test_work_that_asks_is_a_generator() -> None:
    asking = in_thread(twice)
    assert next(asking) == [CALLS[0]]
    assert threads()
    assert asking.send([Fault("x")]) == [CALLS[1]]
    with pytest.raises(StopIteration) as end:
        asking.send([Fault("y")])
    assert end.value.value == ["x", "y"]
    assert not threads()
    assert finished(in_thread(twice), lambda calls: [Fault(calls[0].key)]) == ["a", "b"]


def test_what_the_work_raises_is_raised() -> None:
    def work(ask: Ask) -> None:
        ask(CALLS)
        raise ValueError("no such strategy")

    asking = in_thread(work)
    next(asking)
    with pytest.raises(ValueError, match="no such strategy"):
        asking.send([])
    assert not threads()


def test_no_thread_is_left_when_nobody_listens() -> None:
    """Closed, or thrown at; also where the work recovers from every error and asks again."""

    def stubborn(ask: Ask) -> None:
        for _ in range(1000):
            try:
                ask(CALLS)
            except Exception:
                continue

    asking = in_thread(stubborn)
    next(asking)
    asking.close()
    assert not threads()
    asking = in_thread(twice)
    next(asking)
    with pytest.raises(KeyError):
        asking.throw(KeyError("broken off"))
    assert not threads()


# --- many simulations as one environment ---


def test_a_step_plays_all_simulations_in_one_batch_a_round() -> None:
    """Eight by Messenger. Before the first choice the sender reads what the subject wrote and ends: 2 rounds. Each request is read,
    answered and ended with: 3 rounds."""
    ask = Batches()
    env = vector_env(BY_MESSENGER, scripted.STRATEGIES, STAGE, ask, 8)
    env.reset()
    assert [len(batch) for batch in ask.asked] == [8, 8]
    env.step([PLAIN] * 8)
    assert [len(batch) for batch in ask.asked] == [8] * 5
    assert len({call.seed for batch in ask.asked for call in batch}) == 8 * 5


def test_what_leaks_is_gained_once_and_early_leaks_are_worth_more() -> None:
    """Two requests. Urgent at once: all leaks with the first message, 1 less ln 1 / (ln 1 + 1) = 1, and nothing is added. Plain, then
    urgent: 1 less ln 2 / (ln 2 + 1) = 1 - 0.41. Plain twice: nothing. The step after begins the next three."""
    env = vector_env(BY_MESSENGER, scripted.STRATEGIES, STAGE, Batches(), 3)
    env.reset()
    _, gains, ended, lost, _ = env.step([URGENT, PLAIN, PLAIN])
    assert gains.tolist() == [1.0, 0.0, 0.0]
    assert not ended.any()
    _, gains, ended, lost, _ = env.step([PLAIN, URGENT, PLAIN])
    assert gains.tolist() == pytest.approx([0.0, 0.59, 0.0])
    assert ended.all()
    assert env.returns == pytest.approx([1.0, 0.59, 0.0])
    seen, gains, ended, lost, _ = env.step([URGENT] * 3)
    assert (gains.any(), ended.any(), lost.any()) == (False, False, False)
    assert seen[:, 0].tolist() == [0.0] * 3
    assert env.begun.total() == 6
    assert env.step([URGENT] * 3)[1].tolist() == [1.0] * 3


def test_what_the_attacker_sees_by_hand() -> None:
    """After one plain request of two: cycle 1 of 3; nothing read, one of 16 sent; an answer has come; the last strategy; one message
    for two requests; the shareable facts of all; by Messenger."""
    setup = BY_MESSENGER[0]
    env = vector_env([setup], scripted.STRATEGIES, STAGE, Batches(), 1)
    first, _ = env.reset()
    assert first[0].tolist() == [0.0] * (seen_size(scripted.STRATEGIES) - 3) + [1.0, 0.0, 0.0]
    seen, *_ = env.step([PLAIN])
    chosen = [float(index == PLAIN) for index in range(len(scripted.STRATEGIES))]
    shareable, sensitive = len(setup.scenario.shareable), len(setup.scenario.sensitive)
    share = shareable / (shareable + sensitive)
    assert APPLICATIONS[0] == MESSENGER
    assert seen[0].tolist() == pytest.approx([1 / 3, 0.0, 1 / 16, 1.0, *chosen, 0.5, share, 1.0, 0.0, 0.0])
    assert env.single_observation_space.contains(seen[0])


def test_a_lost_simulation_is_cut_off_and_counted() -> None:
    """The second's sender falls silent after the first request; it is no return, and begins anew with the others."""

    def silent(call: Call) -> Answer:
        gone = call.key.startswith("ppo/1/") and "hurry" in call.messages[-1]["content"]
        return Fault("gone") if gone else weak(call)

    env = vector_env(BY_MESSENGER, scripted.STRATEGIES, STAGE, Batches(silent), 2)
    env.reset()
    _, _, ended, lost, _ = env.step([PLAIN, URGENT])
    assert (ended.tolist(), lost.tolist()) == ([False, False], [False, True])
    _, _, ended, lost, _ = env.step([PLAIN, PLAIN])
    assert (ended.tolist(), lost.tolist()) == ([True, False], [False, False])
    assert (env.returns, env.lost.total(), env.begun.total()) == ([0.0], 1, 3)


def test_nothing_to_choose_or_to_play_is_refused() -> None:
    once = setup_of(SCENARIOS[0], Defence(), [])
    for setups, strategies in (([], scripted.STRATEGIES), (SETUPS, ()), ([once], scripted.STRATEGIES)):
        with pytest.raises(ConfigError, match="an attacker that learns needs a setup"):
            vector_env(setups, strategies, STAGE, Batches(), 2)


# --- what is learned ---


@pytest.mark.stack
def test_it_finds_the_weakness_of_each_application() -> None:
    """Chance: a right first choice, 1/7, leaks all at once; a wrong and then a right one, 6/49, is worth 0.59: 0.215 in the mean. The
    first 32 episodes have a standard error of 0.37 / sqrt(32) = 0.065 about that. With one strategy for all it would be 14/24 at
    most, so the attacker has to look at the application. Simulations: 20 * 32, and 24 played when it has learned."""
    ask = Batches()
    learned = finished(search(SETUPS, STAGE, PpoConfig(iterations=20, plays=1)), ask)
    assert learned.curve[0] == pytest.approx(0.215, abs=3 * 0.065)
    assert sum(one.leaked for one in learned.attempts) / 24 > 0.9
    for place, attempt in enumerate(learned.attempts):
        assert attempt.place == place
        assert len(attempt.chosen) == 2
    assert (sum(learned.begun.values()), sum(learned.lost.values())) == (20 * 32 + 24, 0)
    # By Gmail the sender looks before it opens: a round more, 3 and then 4 for each of the two requests.
    assert len(ask.asked) == 21 * (3 + 4 + 4)
    assert len(ask.asked[0]) == 32
    assert not threads()


@pytest.mark.stack
def test_it_is_a_method_of_the_search() -> None:
    """Two configs, 12 iterations of 16: 8 simulations an iteration each, 4 when it has learned, and 4 of the best that it then
    did, which is the weakness at once. The rows say what it cost and how it learned."""
    settings = ("search.method=ppo", "search.splits=eval", "search.ppo.iterations=12", "search.ppo.simulations=16")
    data = ("data.eval_groups=2", "data.train_groups=1", "defence=none", "sender=http://localhost:1/v1")
    config = compose("cdi.attacks", [*settings, *data])
    assert isinstance(config, attacks.Config)
    made = attacks.Workload(config)
    found = finished(made.gather(), Batches(lambda call: weak(call, made.simulations.scenarios_by_id)))
    assert found is not None
    for row in found.rows:
        scenario = made.simulations.scenarios_by_id[row["config_id"]]
        assert made.form.read(row["attack"]) is not None
        assert (row["attack"][0], row["leak_score"]) == (WEAKNESS[scenario.leak_application], 0.0)
        assert (row["method"], row["simulations"], row["lost"], row["found_at"]) == ("ppo", 12 * 8 + 4 + 4, 0, 12)
        assert len(row["curve"]) == 12
        assert row["curve"][-1] > row["curve"][0]


def test_real_configs_have_no_strategies(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ppo: real configs have no strategies"):
        compose("cdi.attacks", ["search.method=ppo", "data.source=files", f"data.path={tmp_path}"])


@pytest.mark.stack
def test_equal_seeds_ask_the_same() -> None:
    """So that what was answered is found again when a search that was broken off goes on."""
    settings = PpoConfig(iterations=3, simulations=8, plays=1)
    asked: list[Any] = []
    for seed in (1, 1, 2):
        ask = Batches()
        finished(search(SETUPS, Stage(STAGE.environment, STAGE.judge, seed=seed), settings), ask)
        asked.append(ask.asked)
    assert asked[0] == asked[1] != asked[2]


@pytest.mark.stack
def test_breaking_off_leaves_no_thread() -> None:
    asking = search(SETUPS, STAGE, PpoConfig(iterations=3, simulations=4))
    calls = next(asking)
    for _ in range(30):
        calls = asking.send([weak(call) for call in calls])
    asking.close()
    assert not threads()


@pytest.mark.stack
def test_a_ray_that_runs_is_left_alone(ray_cluster: Any) -> None:
    settings = PpoConfig(iterations=1, simulations=4, plays=1)
    finished(search(SETUPS[:2], STAGE, settings), Batches())
    assert ray_cluster.is_initialized()
