"""Which steps can be done again, and that their batch is the run's. The update itself: tests/learning/test_replay_terms.py."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.config.compose import compose, to_values
from orchestrator.errors import RunError
from orchestrator.learning.batch import make_batch, select
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.replay import Metric, batch_of, replay, replayable
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored

WORDS = ["data.train_groups=8", "data.eval_groups=2", "rollout.prompts_per_step=2", "name=a"]


def group(task: str, rewards: list[float | None], step: int = 3) -> Group:
    made = []
    for number, reward in enumerate(rewards):
        ids = tuple(range(2, 4 + number))
        turn = Turn("policy", (1, 1), ids, (-0.5,) * len(ids), "x", "stop", 1.0, step - 1, 0)
        verdict = Unscored("lost") if reward is None else Scored(reward)
        made.append((Episode(Task(task, ({"role": "user", "content": "?"},)), step, number, (turn,)), verdict))
    return Group(*map(tuple, zip(*made, strict=True)))


GROUPS = [group("flat", [0.5, 0.5]), group("a", [0.0, 1.0, None]), group("b", [0.25, 0.75]), group("c", [1.0, 0.0])]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Episodes of the steps 1 to 4, of which 4 has nothing to teach; checkpoints of the steps 2 and 3."""
    config = compose("rlvr", [f"storage={tmp_path}", *WORDS, "algorithm.kl_weight=0"])
    folder = RunFolder.create(tmp_path, "rlvr", "a", to_values(config))
    for step in (1, 2, 3, 4):
        flat = [group("flat", [0.5, 0.5], step)]
        episodes.write_step(folder, step, flat if step == 4 else GROUPS, {}, "train")
    episodes.write_step(folder, 3, GROUPS, {}, "eval")
    for step in (2, 3):
        (folder.checkpoints / f"step-{step:06d}").mkdir()
    return folder


def test_the_first_step_and_those_after_a_checkpoint(run: RunFolder) -> None:
    assert replayable(run) == [1, 3, 4]


def test_what_cannot_be_replayed_is_said(run: RunFolder) -> None:
    told = r"step 2 began with the weights of step 1, of which there is no checkpoint. Steps that can be replayed: 1, 3, 4."
    with pytest.raises(
        RunError, match=rf"{told} More are kept with checkpoint.every_steps=1 checkpoint.keep=N \(this run: every"
    ):
        replay(run.path, 2)
    with pytest.raises(RunError, match=r"has no episodes of step 9. Steps that can be replayed: 1, 3, 4"):
        replay(run.path, 9)
    with pytest.raises(RunError, match="step 4 of a learned from nothing"):
        replay(run.path, None)


def test_the_policy_that_it_started_from_is_not_taught_again(run: RunFolder) -> None:
    with pytest.raises(RunError, match=r"the policy that a started from is no longer in .*\.cache"):
        replay(run.path, 3)


@pytest.mark.parametrize("algorithm", ["grpo", "dapo", "dpo", "ppo"])
def test_the_batch_is_the_one_that_was_trained(run: RunFolder, algorithm: str) -> None:
    """With dynamic sampling the first two groups that differ, a and b; their scored episodes, of DPO those that were chosen."""
    config = compose("rlvr", [*WORDS, f"algorithm={algorithm}"])
    batch, ids = batch_of(episodes.read_groups(run, "train", 3), config)
    trained = GROUPS[1:3] if config.algorithm.dynamic_sampling else GROUPS
    cap = config.rollout.max_completion_tokens
    expected = make_batch(select(trained, config.algorithm, cap), config.algorithm, cap)
    assert batch is not None
    assert expected is not None
    assert batch.rows == expected.rows
    for name in ("episode_R", "behaviour_T", "version_T", "rewards_E", "group_E", "lengths_E"):
        assert torch.equal(getattr(batch, name), getattr(expected, name)), name
    assert len(ids) == len(batch.rewards_E)
    assert config.algorithm.dynamic_sampling == (algorithm == "dapo")
    assert "3/a/2" not in ids
    assert ids[-1] == ("3/b/1" if algorithm == "dapo" else "3/c/1")


def test_metrics_agree_but_for_rounding() -> None:
    assert Metric("policy/grad_norm", 0.5, 0.50001).same
    assert Metric("sync/logprob_gap_max", 2e-7, 3e-7).same
    assert not Metric("policy/grad_norm", 0.5, 0.51).same
    assert not Metric("policy/grad_norm", None, 0.51).same


def test_the_option_stands_alone(run: RunFolder) -> None:
    storage = str(run.path.parents[1])
    done = CliRunner().invoke(cli.app, ["train", "rlvr", "--replay", "a@3", "--storage", storage])
    assert (done.exit_code, "stands alone" in done.stderr) == (2, True)
    done = CliRunner().invoke(cli.app, ["train", "--replay", "a@2", "--storage", storage])
    assert (done.exit_code, "there is no checkpoint" in done.stderr) == (2, True)
