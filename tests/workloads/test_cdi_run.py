"""Simulations for real: two models served, a few steps of RL, and everything that was stored can be played and judged again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.config.compose import compose
from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.values import POLICY, Scored
from workloads import cdi
from workloads.cdi.replay import replay

pytestmark = [pytest.mark.stack, pytest.mark.long]
# Too short to learn the world: the sender's acts are valid because they are held to a form, and little that they say is sensible.
SETTINGS = [
    "data.train_groups=16", "data.eval_groups=4", "warmup.steps=30", "sender.training.steps=60", "eval.samples_per_task=2",
    "rollout.prompts_per_step=4", "rollout.samples_per_prompt=4", "attack.cycles=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps on whole simulations."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["train", "cdi", "name=short", "steps=2", *SETTINGS, f"storage={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *words], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(
    ("split", "step", "count"), [("eval", 0, 8), ("train", 1, 16), ("train", 2, 16), ("eval", 2, 8)]
)
def test_what_was_stored_is_played_and_judged_again(storage: Path, split: str, step: int, count: int) -> None:
    workload = cdi.Workload(compose("cdi", SETTINGS))
    reward = workload.reward()
    pairs = [
        pair
        for group in episodes.read_groups(RunFolder(storage / "cdi" / "short"), split, step)
        for pair in zip(group.episodes, group.verdicts, strict=True)
    ]
    assert len(pairs) == count
    for episode, verdict in pairs:
        outcome = replay(episode)
        assert outcome.ended
        assert outcome.invalid == 0
        assert {turn.role for turn in episode.turns} <= {POLICY, "sender"}
        assert isinstance(verdict, Scored)
        (again,) = reward.score([episode], [()], [()])
        assert isinstance(again, Scored)
        assert again.reward == pytest.approx(verdict.reward)
