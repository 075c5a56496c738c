"""Two hundred simulations at once with served models: what they hold stays steady, and a killed engine costs none of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.values import Episode, Scored, Turn

pytestmark = [pytest.mark.stack, pytest.mark.long]
AT_ONCE, PLAYED = 200, 600
# Without a defence the sender alone is asked. It is hardly taught: its acts are valid because they are held to a form.
SETTINGS = [
    "defence=none", "steps=0", "data.eval_groups=200", "eval.samples_per_task=3", f"rollout.at_once={AT_ONCE}",
    "data.train_groups=16", "warmup.steps=1", "sender.training.steps=60", "data.test_groups=0",
]  # fmt: skip
LEARNER, ENGINE, ANSWERING = "ray::RayTrainWorker", "ray::VllmServer", "ray::VllmServer.complete"


def titled(process: psutil.Popen, title: str) -> list[psutil.Process]:
    """Processes of a run whose title begins so."""
    found: list[psutil.Process] = []
    for child in process.children(recursive=True):
        try:
            found += [child] if " ".join(child.cmdline()).startswith(title) else []
        except psutil.NoSuchProcess:
            continue  # it has ended meanwhile
    return found


def played(storage: Path, name: str, watch: Callable[[psutil.Popen], None]) -> list[Episode]:
    """The simulations of a run that was watched, twice a second from where its sender has passed its exam."""
    words = ["train", "cdi", f"name={name}", f"storage={storage}", *SETTINGS]
    output = storage / f"{name}.log"
    with output.open("w") as log:
        process = psutil.Popen([sys.executable, "-m", "orchestrator", *words], stdout=log, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 900
            while process.poll() is None:
                assert time.monotonic() < deadline, output.read_text()
                if (storage / "cdi" / name / "sender.json").exists():
                    watch(process)
                time.sleep(0.5)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)
    assert process.returncode == 0, output.read_text()
    found: list[Episode] = []
    for group in episodes.read_groups(RunFolder(storage / "cdi" / name), "eval", 0):
        assert all(isinstance(verdict, Scored) for verdict in group.verdicts)
        found += group.episodes
    return found


def words(episode: Episode) -> tuple[str, list[Turn]]:
    """All but the version of the weights: the run that has just taught its sender pushed it, the next one served it from disk."""
    return episode.id, [replace(turn, weight_version=0) for turn in episode.turns]


def test_a_killed_engine_costs_no_simulation_and_memory_is_steady(tmp_path: Path) -> None:
    """A restarted engine is given its batches of the step again, so that both runs end with the same episodes to the letter.

    Three waves of 200 at once, more or less: what the learner, who plays them, and the engines hold in the second half of the time is
    what they held in the first, but for the finished episodes (a few KB each) and a tenth for allocators.
    """
    held: list[int] = []
    killed: list[int] = []

    def weigh(process: psutil.Popen) -> None:
        held.append(sum(one.memory_info().rss for one in titled(process, LEARNER) + titled(process, ENGINE)))

    def kill(process: psutil.Popen) -> None:
        begun.append(time.monotonic())
        # A few seconds after the first call.
        if not killed and time.monotonic() - begun[0] > 4:
            for engine in titled(process, ANSWERING)[:1]:
                engine.kill()
                killed.append(engine.pid)

    begun: list[float] = []
    undisturbed = played(tmp_path, "undisturbed", weigh)
    disturbed = played(tmp_path, "killed", kill)

    assert len(killed) == 1
    assert len(undisturbed) == PLAYED
    assert [words(episode) for episode in disturbed] == [words(episode) for episode in undisturbed]
    assert not any(episode.lost for episode in disturbed)
    summary = json.loads((tmp_path / "cdi" / "killed" / "summary.json").read_text())
    assert summary["faults"]["lost"] == 1  # servers, not simulations
    early, late = max(held[: len(held) // 2]), max(held[len(held) // 2 :])
    print(
        f"{PLAYED} simulations, {AT_ONCE} at once; held at most {early / 2**20:,.0f} MiB, later {late / 2**20:,.0f} MiB"
    )
    assert late < 1.1 * early
