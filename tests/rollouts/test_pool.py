"""Functions of one's own in their processes: nothing that they do stops the others, and nothing is left behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.config.functions import FunctionReference
from orchestrator.config.schema import RewardConfig
from orchestrator.errors import RunError
from orchestrator.rollouts.pool import Pool
from orchestrator.rollouts.verdicts import FunctionReward
from orchestrator.values import Episode, Scored, Task, Turn, Unscored

FILE = """
import ctypes, os, subprocess, sys, time
import beside_the_reward

def length(episodes):
    kind = episodes[0].task.reference.get("kind")
    if kind == "sleep": time.sleep(1000)
    if kind == "exit": os._exit(1)
    if kind == "segfault": ctypes.string_at(0)
    if kind == "print": print("x" * 10**7); sys.stderr.write("y" * 10**7)
    if kind == "fork" and os.fork() == 0: time.sleep(0.1)
    if kind == "child": subprocess.Popen(["sleep", "98765"])
    if kind == "recursion": length(episodes)
    if kind == "raise": raise ValueError("太长了\\nmore")
    if kind == "leave": sys.exit("bye")
    if kind == "short": return [1.0]
    return [beside_the_reward.half(len(episode.text)) for episode in episodes]

def process(episodes):
    return [os.getpid()] * len(episodes)
"""


def episodes(task: str, kind: str = "", texts: tuple[str, ...] = ("ab", "是的")) -> list[Episode]:
    turns = [Turn("policy", (1,), (2,), (-0.1,), text, "stop", 1.0, 0, 0) for text in texts]
    return [Episode(Task(task, (), {"kind": kind}), 1, number, (turn,)) for number, turn in enumerate(turns)]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("my rewards")
    (folder / "beside_the_reward.py").write_text("def half(number):\n    return number / 2\n")
    (folder / "reward.py").write_text(FILE)
    return folder / "reward.py"


@pytest.fixture(scope="module")
def reward(ray_cluster: Any, file: Path) -> Iterator[FunctionReward]:
    told.clear()
    reward = FunctionReward(f"{file}:length", RewardConfig(deadline_s=3.0), 1.0, lambda *words: told.append(words))
    yield reward
    reward.close()


told: list[tuple[str, str]] = []


def sleepers() -> set[int]:
    """The processes that a function has started, and that would not end by themselves."""
    there = psutil.process_iter(["cmdline", "pid"])
    return {process.info["pid"] for process in there if process.info["cmdline"] == ["sleep", "98765"]}


def test_what_goes_wrong_with_one_task_is_told_and_touches_no_other(reward: FunctionReward) -> None:
    """Texts of two characters, half of it is 1."""
    kinds = {
        "exit": "its process died",
        "segfault": "its process died",
        "sleep": "it did not return within 3 s (reward.deadline_s)",
        "recursion": "RecursionError: maximum recursion depth exceeded",
        "raise": "ValueError: 太长了 (",
        "leave": "SystemExit: bye (",
        "short": "it returned only 1 verdicts for 2 episodes",
    }
    fine = ["print", "fork", "child", ""]
    played = [episode for kind in (*kinds, *fine) for episode in episodes(f"t-{kind}", kind)]
    # Those of one task need not stand together.
    played = played[::2] + played[1::2]
    verdicts = dict(zip([episode.id for episode in played], reward.score(played), strict=True))
    for kind, words in kinds.items():
        for sample in (0, 1):
            verdict = verdicts[f"1/t-{kind}/{sample}"]
            assert isinstance(verdict, Unscored)
            assert verdict.reason.startswith(f"reward.py:length, task t-{kind}: {words}")
    assert "reward.py:14)" in str(verdicts["1/t-raise/0"])
    assert [verdicts[f"1/t-{kind}/{sample}"] for kind in fine for sample in (0, 1)] == [Scored(1.0)] * 8
    ((line, traceback),) = told
    assert line.startswith("no score for 7 of 11 tasks; the first: reward.py:length, task t-exit: its process died")
    assert traceback == ""
    # The pool is as large as before, and good for the next step.
    assert reward.score(episodes("again")) == [Scored(1.0)] * 2
    assert len(reward._pool._idle) + len(reward._pool._working) == 2


def test_a_traceback_is_kept_beside_the_line(reward: FunctionReward) -> None:
    told.clear()
    reward.score(episodes("t", "raise"))
    assert told[0][0].startswith("no score for 1 of 1 tasks; the first: reward.py:length, task t: ValueError: 太长了")
    assert "Traceback" in told[0][1]
    assert "more" in told[0][1]


def test_nothing_is_left_and_a_run_under_way_ends(ray_cluster: Any, file: Path) -> None:
    """Two functions of one file have processes of their own; those end, and what they have started, with the pool."""
    before = sleepers()
    pools = [Pool(FunctionReference.parse(f"{file}:{name}"), 1, 60.0) for name in ("process", "length")]
    ((verdict, _),) = pools[0].run([episodes("t")], 0)  # type: ignore[misc]
    pools[1].run([episodes("t", "child")], 0)
    assert sleepers() - before
    # Of 6 tasks of 2 episodes 4 episodes may be lost: with the third task it is more, and the rest is not tried.
    outcomes = pools[1].run([episodes(f"t{number}", "raise") for number in range(6)], 4)
    assert ["not tried" in outcome.reason for outcome in outcomes] == [False] * 3 + [True] * 3  # type: ignore[union-attr]
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            pools[1].run([episodes("t", "sleep")], 0)
        except RunError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    for pool in pools:
        pool.close()
    thread.join(10)
    assert not thread.is_alive()
    assert "reward.py:length was still at work when the run ended" in str(ended[0])
    due = time.monotonic() + 10
    while (sleepers() - before or psutil.pid_exists(int(verdict.reward))) and time.monotonic() < due:
        time.sleep(0.1)
    assert not sleepers() - before
    assert not psutil.pid_exists(int(verdict.reward))
    assert os.getpid() != int(verdict.reward)


def test_a_file_that_is_edited_later_is_not_loaded_half_way(ray_cluster: Any, tmp_path: Path) -> None:
    """The second process starts after the edit and after the first has died; it runs what the run began with."""
    path = tmp_path / "edited.py"
    path.write_text("import os\ndef f(e):\n    if e[0].task.id == 'die': os._exit(1)\n    return [1.0] * len(e)\n")
    pool = Pool(FunctionReference.parse(f"{path}:f"), 1, 30.0)
    path.write_text("def f(e):\n    return [2.0] * len(e)\n")
    died, fine = pool.run([episodes("die"), episodes("fine")], 4)
    pool.close()
    assert "its process died" in died.reason  # type: ignore[union-attr]
    assert fine == [Scored(1.0)] * 2


def test_a_file_that_fails_in_its_process_alone_ends_the_run(ray_cluster: Any, tmp_path: Path) -> None:
    path = tmp_path / "here_only.py"
    path.write_text(f"import os\nassert os.getpid() == {os.getpid()}\ndef f(e): return [1.0] * len(e)\n")
    pool = Pool(FunctionReference.parse(f"{path}:f"), 1, 30.0)
    with pytest.raises(
        RunError, match=r"here_only.py:f cannot be used in a process of its own: .*AssertionError .*:2\)"
    ):
        pool.run([episodes("t")], 0)
    pool.close()
