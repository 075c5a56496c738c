"""Sweeps of made-up runs on a real Ray with eight GPUs that are not there. A run takes four of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.records import jsonl
from orchestrator.records.folder import RunFolder, read_json
from orchestrator.sweep.journal import EARLY, FAILED, FINISHED, STOPPED, Journal, Tried

PROCESS = Path(__file__).with_name("sweeping.py")
DEADLINE_S = 240.0
pytestmark = [pytest.mark.stack, pytest.mark.long]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """What a driver process needs to join the module's own Ray, which is not the one that other tests share."""
    variables = {
        **os.environ, "PYTHONPATH": str(PROCESS.parents[2]), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_AUTH_MODE": "disabled",
    }  # fmt: skip
    command = [sys.executable, str(PROCESS), "keep"]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True) as ray:
        assert ray.stdout is not None
        address = ray.stdout.readline().strip()
        assert address, "Ray did not start"
        yield {**variables, "RAY_ADDRESS": address}
        ray.terminate()


def start(environment: dict[str, str], storage: Path, *sweeps: str, step_s: float = 0.05) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROCESS), str(storage), *sweeps]
    (storage / "step_s").write_text(str(step_s))
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit status, what it said)"""
    said, _ = process.communicate(timeout=DEADLINE_S)
    return process.returncode, said


def wait_until(true: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(storage: Path, what: str) -> list[dict[str, Any]]:
    return [line for line in jsonl.read(storage / "runs.jsonl") if line["what"] == what]


def tried(storage: Path, sweep: str, stage: str = "policy search") -> list[Tried]:
    return Journal(storage / "sweeps" / sweep / "trials.jsonl").of(stage)


def most_at_once(storage: Path) -> int:
    changes = [(line["time"], 1) for line in runs(storage, "begin")] + [
        (line["time"], -1) for line in runs(storage, "end")
    ]
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


@pytest.fixture(scope="module")
def halved(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The storage after a search whose worse half was stopped early; the GPUs that are free once it has ended are in `after`."""
    storage = tmp_path_factory.mktemp("halved")
    # Long enough that the second run begins before the first one ends.
    status, said = finish(start(environment, storage, "halving", "after", step_s=0.3))
    assert status == 0, said
    return storage


@pytest.fixture(scope="module")
def done(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The storage after sweeps with a budget and with a failure, and what they said."""
    storage = tmp_path_factory.mktemp("done")
    status, said = finish(start(environment, storage, "budget", "failing"))
    assert status == 1, said
    return storage, said


def test_two_runs_of_four_gpus_at_once_and_none_waits_for_gpus(halved: Path) -> None:
    begun = runs(halved, "begin")
    assert len(begun) == 4
    assert "4 run(s), 2 at once" in (halved / "sweeps/halving/log.txt").read_text()
    assert most_at_once(halved) <= 2
    # When a run asks for its four GPUs they are free, no other one waits for its own, and at most one other run's process is
    # there: those of runs that were stopped early are gone.
    assert all(line["free"] >= line["gpus"] == 4 for line in begun)
    assert all((line["others"] <= 1, line["waiting"]) == (True, 0) for line in begun)
    # Afterwards all eight are, and no process or placement of a run is left.
    (after,) = runs(halved, "after")
    assert (after["free"], after["others"], after["groups"]) == (8, 0, 0)


def test_the_worse_half_is_stopped_early(halved: Path) -> None:
    storage = halved
    trials = tried(storage, "halving")
    outcomes = {one.point["learner.learning_rate"]: one.outcome for one in trials}
    # The best one is never below the median; the worst one always, once a better one is known.
    assert outcomes[0.3] == FINISHED
    assert outcomes[0.01] == EARLY
    stopped = next(one for one in trials if one.outcome == EARLY)
    assert read_json(RunFolder(storage / stopped.run).summary)["status"] == "stopped"
    summary = read_json(storage / "sweeps" / "halving" / "summary.json")
    (arm,) = summary["arms"]
    # 8 steps of 0.3.
    assert arm["winner"]["point"] == {"learner.learning_rate": 0.3}
    assert arm["winner"]["score"] == pytest.approx(2.4)
    # Of the GPUs that were held half were at work.
    assert arm["busy_share"] == pytest.approx(0.5)
    assert (storage / "sweeps" / "halving" / "plots" / "score_against_budget.png").stat().st_size > 10_000
    assert (storage / "sweeps" / "halving" / "plots" / "search_policy.png").stat().st_size > 10_000


def test_no_trial_begins_once_the_budget_is_spent(done: tuple[Path, str]) -> None:
    storage, said = done
    trials = tried(storage, "budget")
    assert [one.outcome for one in trials] == [FINISHED, FINISHED]
    # 9 rows x 10 s x 4 GPUs.
    assert [one.gpu_seconds for one in trials] == [360, 360]
    assert "tuning.gpu_hours=0.05 is spent" in said


def test_a_failed_run_ends_what_needs_it_and_nothing_else(done: tuple[Path, str]) -> None:
    storage, said = done
    outcomes = {one.arm: (one.outcome, one.reason) for one in tried(storage, "failing", "policy")}
    assert outcomes["good"] == (FINISHED, "")
    assert outcomes["bad"][0] == FAILED
    assert "the loss is not finite" in outcomes["bad"][1]
    summary = read_json(storage / "sweeps" / "failing" / "summary.json")
    assert [failed["run"] for failed in summary["failed"]] == [f"rlvr/{runs_name(storage, 'policy-bad')}"]
    assert summary["skipped"] == {"test": "runs.test needs policy-bad-s0, which did not finish."}
    assert "test: skipped" in said


def runs_name(storage: Path, prefix: str) -> str:
    return next(line["run"] for line in runs(storage, "begin") if line["run"].startswith(prefix))


def test_a_killed_sweep_goes_on_where_it_was(environment: dict[str, str], tmp_path: Path) -> None:
    process = start(environment, tmp_path, "long", step_s=0.05)
    # Killed once one is finished and the third has a checkpoint.
    wait_until(lambda: len(runs(tmp_path, "begin")) == 3, process)
    third = RunFolder(tmp_path / "rlvr" / runs(tmp_path, "begin")[2]["run"])
    wait_until(lambda: third.newest_checkpoint() is not None, process)
    finished = [one.run for one in tried(tmp_path, "long") if one.outcome == FINISHED]
    assert finished
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = len(runs(tmp_path, "begin"))
    wait_until_free(third)
    status, said = finish(start(environment, tmp_path, "long"))
    assert status == 0, said
    again = runs(tmp_path, "begin")[before:]
    # No finished run is begun again, and none that had a checkpoint from the beginning.
    assert again
    assert not {f"rlvr/{line['run']}" for line in again} & set(finished)
    assert all(line["from"] >= 10 for line in again)
    assert [one.outcome for one in tried(tmp_path, "long")] == [FINISHED] * 3
    assert [round(one.score, 6) for one in tried(tmp_path, "long")] == [12.6, 13.2, 13.8]


def wait_until_free(folder: RunFolder) -> None:
    """A killed driver's runs end with it, a moment later."""
    deadline = time.monotonic() + DEADLINE_S
    while folder.running():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_ctrl_c_ends_every_run_with_a_checkpoint(environment: dict[str, str], tmp_path: Path) -> None:
    process = start(environment, tmp_path, "long", step_s=0.2)
    wait_until(lambda: len(runs(tmp_path, "begin")) == 2, process)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    status, said = finish(process)
    assert status == 130, said
    assert "stopped; go on with: again long" in said
    trials = tried(tmp_path, "long")
    # The third never began.
    assert [one.outcome for one in trials] == [STOPPED, STOPPED]
    assert all(RunFolder(tmp_path / one.run).newest_checkpoint() for one in trials)
    assert not any(RunFolder(tmp_path / one.run).running() for one in trials)


def test_a_member_copies_a_checkpoint_that_would_be_gone(environment: dict[str, str], tmp_path: Path) -> None:
    status, said = finish(start(environment, tmp_path, "population", step_s=0.3))
    assert status == 0, said
    trials = tried(tmp_path, "population")
    copied = [one for one in trials if one.origin]
    assert copied, said
    assert "goes on from" in said
    donors = {one.origin[0] for one in copied if one.origin}
    assert donors <= {run for one in trials for run in one.runs}
    # A copy begins at the step that it was copied at, and with the donor's score.
    begun = {f"rlvr/{line['run']}": line["from"] for line in runs(tmp_path, "begin")}
    assert all(one.origin and begun[one.run] >= one.origin[1] > 0 for one in copied)
    # Nothing is kept that nobody will copy any more.
    assert not list(tmp_path.glob("rlvr/*/checkpoints/step-*/pinned"))
