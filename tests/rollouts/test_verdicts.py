"""Which reward and which gold a run is scored by, and what evaluations call them. Without processes: the pool is a function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.answerers import FakeAnswerer

from orchestrator.config.schema import JudgeConfig, RewardConfig, RolloutConfig, RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.director import Director
from orchestrator.errors import ConfigError, RunError
from orchestrator.records import episodes as episode_files
from orchestrator.records import metrics
from orchestrator.records.display import evaluation
from orchestrator.records.folder import RunFolder
from orchestrator.rollouts import verdicts
from orchestrator.rollouts.functions import Outcome, Problem, verdicts_of
from orchestrator.rollouts.verdicts import Scoring
from orchestrator.values import Call, Episode, Scored, Task, Turn, Unscored
from workloads.base import BaseWorkload

FILE = """
from orchestrator.values import Scored

def length(episodes):
    if "2" in episodes[0].task.id:
        raise ValueError("odd")
    return [Scored(len(e.text) / 10, {"even": 1.0} if e.sample % 2 else {}) for e in episodes]

def gold(episodes):
    return [0.25 for e in episodes]
"""


class Tasks(BaseWorkload):
    def tasks(self, split: str) -> Sequence[Task]:
        return [Task(f"{split}-{number}", ({"role": "user", "content": "?"},)) for number in range(4)]


class PoolInPlace:
    """Stands in for `Pool`: calls the function here."""

    closed = 0

    def __init__(self, function: Any, processes: int, deadline_s: float) -> None:
        self._function = function.load()

    def run(self, jobs: Sequence[Sequence[Episode]], may_be_lost: int) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for job in jobs:
            try:
                outcomes.append(verdicts_of(self._function(job), len(job)))
            except ValueError as error:
                outcomes.append(Problem(str(error), "Traceback: here"))
        return outcomes

    def close(self) -> None:
        PoolInPlace.closed += 1


@pytest.fixture
def director(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Director:
    """Scored by length, a tenth a character; the policy says as many as the sample's number plus one."""
    (tmp_path / "r.py").write_text(FILE)
    monkeypatch.setattr(verdicts, "Pool", PoolInPlace)
    config = RunConfig(
        workload="tasks",
        reward=RewardConfig(name=f"{tmp_path}/r.py:length", gold=f"{tmp_path}/r.py:gold"),
        judge=JudgeConfig(max_unscored_share=0.5, name="http://localhost:1/v1"),
        rollout=RolloutConfig(prompts_per_step=4, samples_per_prompt=4),
    )
    config.eval.samples_per_task, config.eval.best_of = 2, 2
    director = Director(config, Tasks(config), RunFolder.create(tmp_path, "tasks", "x", config).path, {})

    def say(call: Call, attempt: int) -> Turn:
        sample = int(call.key.split("/")[-2])
        return Turn("policy", (1,), (2,), (-0.1,), "x" * (sample + 1), "stop", 1.0, 0, 0)

    assert not director.fleets, "no connection to a judge that nothing asks"
    director.fleets = {"policy": FakeAnswerer(say)}
    return director


def test_a_step_is_scored_by_the_function_as_soon_as_it_is_played(director: Director) -> None:
    """Rewards 0.1 to 0.4 for three tasks; train-2 is unscored, with its reason, and the run goes on. Odd samples have a part."""
    assert director.play(1) == []
    assert len(director._played.verdicts) == 16
    assert director.batch(1, []) is not None
    director.close_step(1, {})
    (row,) = metrics.read(director.folder.metrics_log)
    assert row["reward/mean"] == pytest.approx(0.25)
    assert (row["reward/even"], row["faults/unscored"]) == (1.0, 4)
    assert row["time/judge_s"] >= 0
    stored = {line["id"]: line for line in episode_files.read(director.folder, "train").to_pylist()}
    assert stored["1/train-2/0"]["unscored"] == "r.py:length, task train-2: odd"
    assert stored["1/train-1/3"]["reward"] == pytest.approx(0.4)
    # The gold function is asked of held-out episodes alone.
    assert {line["gold"] for line in stored.values()} == {None}
    (event,) = [event for event in metrics.Follower(director.folder.events).new() if event["kind"] == "announce"]
    assert event["text"] == "no score for 1 of 4 tasks; the first: r.py:length, task train-2: odd"
    assert event["detail"] == "Traceback: here"


def test_an_evaluation_without_a_judge_speaks_of_the_reward(director: Director) -> None:
    """Two samples of 0.1 and 0.2 for three tasks: 0.15, gold 0.25, the gap -0.1; the best of two is 0.2."""
    director.play(0, "eval")
    director.evaluate(0, [], "eval")
    director.close_step(0, {})
    (row,) = metrics.read(director.folder.metrics_log)
    assert row["eval/reward"] == pytest.approx(0.15)
    assert row["eval/oracle"] == row["eval/best_of_n"] == 0.25
    assert row["judge/gold_gap"] == pytest.approx(-0.1)
    assert row["eval/best_of_n_reward"] == pytest.approx(0.2)
    assert not [name for name in row if name.startswith("eval/") and "judge" in name]
    assert evaluation(row).startswith("0.150 (oracle 0.250")


def test_what_ends_a_run_stays_in_its_events_and_no_process_does(director: Director) -> None:
    def fail() -> None:
        with director:
            try:
                raise KeyError("the cause")
            except KeyError as error:
                raise RunError("it went wrong") from error

    before = PoolInPlace.closed
    with pytest.raises(RunError, match="it went wrong"):
        fail()
    assert PoolInPlace.closed == before + 2
    event = list(metrics.Follower(director.folder.events).new())[-1]
    assert event["text"] == "the run cannot go on (RunError)"
    assert "KeyError: 'the cause'" in event["detail"]


class Halves:
    """A reward of the workload's own that asks nobody, and forgets one episode."""

    def calls(self, episode: Episode) -> tuple[()]:
        return ()

    def queries(self, episode: Episode) -> tuple[()]:
        return ()

    def score(self, episodes: Sequence[Episode], answers: Any, logits: Any) -> list[Scored]:
        if episodes[0].task.id == "fails":
            raise KeyError("answer")
        return [Scored(0.5) for _ in episodes[1:]]


class WithReward(Tasks):
    def reward(self) -> Any:
        return Halves()


def test_a_workloads_own_reward_is_held_to_its_form() -> None:
    config = RunConfig()
    by_itself = Scoring(config, WithReward(config), lambda *words: None)
    with pytest.raises(RunError, match=r"Halves.score\(\) returned 1 verdicts for 2 episodes"):
        by_itself.judge([Episode(Task("a", ()), 1, number, ()) for number in (0, 1)], {})
    with pytest.raises(RunError, match=r"the reward's score\(\): KeyError: 'answer' \(.*test_verdicts.py:\d+\)"):
        by_itself.judge([Episode(Task("fails", ()), 1, 0, ())], {})


def test_what_was_lost_is_never_judged_and_stays_in_its_group() -> None:
    """Three attempts, the second lost: the reward is given two."""

    class All(Halves):
        def score(self, episodes: Sequence[Episode], answers: Any, logits: Any) -> list[Scored]:
            assert len(episodes) == len(answers) == len(logits) == 2
            return [Scored(float(episode.sample)) for episode in episodes]

    class Workload(Tasks):
        def reward(self) -> Any:
            return All()

        def gold(self, episode: Episode) -> float:
            assert not episode.lost
            return 1.0

    config = RunConfig()
    scoring = Scoring(config, Workload(config), lambda *words: None)
    episodes = [Episode(Task("a", ()), 1, number, (), "gone" if number == 1 else "") for number in range(3)]
    played = scoring.judge(episodes, {})
    assert played.verdicts == [Scored(0.0), Unscored("gone"), Scored(2.0)]
    (group,) = scoring.groups(played, ())
    assert [episode.sample for episode in group.episodes] == [0, 1, 2]
    assert scoring.gold(episodes, "eval") == {"1/a/0": 1.0, "1/a/1": None, "1/a/2": 1.0}


def test_a_workloads_own_functions_score_where_no_setting_names_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three characters: 0.3 by the workload's own function, and 0.25 where a setting names the other."""
    (tmp_path / "r.py").write_text(FILE)
    monkeypatch.setattr(verdicts, "Pool", PoolInPlace)

    class WithFunction(Tasks):
        def functions(self) -> dict[str, str]:
            return {"reward": f"{tmp_path}/r.py:length"}

    episode = Episode(Task("a", ()), 1, 0, (Turn("policy", (1,), (2,), (-0.1,), "xyz", "stop", 1.0, 0, 0),))
    for settings, expected in ((RewardConfig(), 0.3), (RewardConfig(name=f"{tmp_path}/r.py:gold"), 0.25)):
        config = RunConfig(reward=settings)
        scoring = Scoring(config, WithFunction(config), lambda *words: None)
        assert scoring.judge([episode], {}).verdicts == [Scored(pytest.approx(expected))]
        # no gold is named, and the workload knows none
        assert scoring.gold([episode], "eval") == {episode.id: None}
    with pytest.raises(ConfigError, match="this workload has no reward"):
        Tasks(RunConfig())


def test_rlvr_with_a_function_has_its_oracle_and_no_numbers_of_a_judge() -> None:
    """The oracle stays the gold; nothing is said of verdicts on criteria, of which there are none."""
    from orchestrator.config.compose import compose
    from orchestrator.values import Group

    config = compose("rlvr", ["data.train_groups=4", "data.eval_groups=2"])
    config.reward.name = "somewhere/r.py:f"
    workload: Any = find_workload("rlvr").workload(config)
    turn = Turn("policy", (1,), (2,), (-0.1,), "there is more than one way to see this .", "stop", 1.0, 0, 0)
    episode = Episode(workload.tasks("eval")[0], 0, 0, (turn,))
    assert 0 <= workload.gold(episode) <= 1
    assert workload.metrics([Group((episode,), (Scored(0.3),))]) == {}
    assert workload.metrics([Group((episode,), (Unscored("gone"),))]) == {}
