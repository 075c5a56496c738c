"""The driver's part that needs neither Ray nor an engine: signals and failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from fakes.rated import RatedConfig
from ray.exceptions import ActorDiedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from orchestrator import experiment, following
from orchestrator.config.compose import compose, to_values
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError, RunError
from orchestrator.learning.starting import StartingModel
from orchestrator.records import report
from orchestrator.records.display import Display
from orchestrator.records.folder import RunFolder
from orchestrator.records.metrics import MetricsLog


class Learner:
    """Stands in for Ray Train: writes a row a poll, receives the signals that a test planned, ends as told."""

    def __init__(self, folder: RunFolder, signals: dict[int, int], stops: bool = True, failure: str = "") -> None:
        self.folder, self.signals, self.stops, self.failure = folder, signals, stops, failure
        self.polls = 0

    def __call__(self, config: Any, payload: Any) -> Learner:
        return self

    def start(self) -> None:
        self.log = MetricsLog(self.folder.metrics_log)

    def running(self, wait_s: float) -> bool:
        self.log.append(self.polls, {"reward/mean": 0.5})
        if self.polls in self.signals:
            os.kill(os.getpid(), self.signals[self.polls])
        self.polls += 1
        return not (self.stops and self.folder.stop.exists()) and self.polls <= 5

    def raise_failure(self) -> None:
        if self.failure:
            raise RunError(self.failure)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    config = compose("rlvr", ["steps=5", "tracking.mode=disabled"])
    return RunFolder.create(tmp_path, "rlvr", "x", to_values(config))


def follow(monkeypatch: pytest.MonkeyPatch, folder: RunFolder, learner: Learner) -> str:
    monkeypatch.setattr(following, "Outcome", learner)
    monkeypatch.setattr(following, "POLL_S", 0.0)
    config = compose("rlvr", ["steps=5", "tracking.mode=disabled"])
    with Display("x", 5, terminal=False) as display:
        return following.follow(config, folder, {}, following.News(config, folder, display))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_the_learner_to_stop(
    monkeypatch: pytest.MonkeyPatch, folder: RunFolder, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    assert follow(monkeypatch, folder, Learner(folder, {2: number})) == "stopped"
    assert folder.stop.exists()
    assert signal.getsignal(number) is before


def test_the_second_signal_ends_everything_at_once(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    learner = Learner(folder, {1: signal.SIGINT, 3: signal.SIGINT}, stops=False)
    with pytest.raises(KeyboardInterrupt):
        follow(monkeypatch, folder, learner)
    assert learner.polls == 3


def test_a_stop_that_comes_after_the_last_step_is_too_late(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    assert follow(monkeypatch, folder, Learner(folder, {5: signal.SIGINT})) == "finished"


def test_a_learners_failure_is_raised_in_its_own_words(monkeypatch: pytest.MonkeyPatch, folder: RunFolder) -> None:
    with pytest.raises(RunError, match=r"sync/logprob_gap_max is 0\.5"):
        follow(monkeypatch, folder, Learner(folder, {}, failure="sync/logprob_gap_max is 0.5"))


def test_a_failed_run_is_on_record(folder: RunFolder) -> None:
    MetricsLog(folder.metrics_log).append(0, {"eval/judge": 0.4, "eval/n": 3})
    experiment.record(folder, "failed", "the judge went away")
    summary = folder.summary.read_text()
    assert "the judge went away" in summary
    assert '"failed"' in summary
    assert folder.metrics_parquet.is_file()
    assert "the judge went away" in folder.report.read_text()
    assert (folder.plots / "run.png").is_file()


def test_a_run_that_failed_before_its_first_row_has_no_page(folder: RunFolder) -> None:
    experiment.record(folder, "failed", "no server came up")
    assert folder.summary.is_file()
    assert not folder.report.exists()


def test_a_report_that_fails_is_a_warning_and_hides_nothing(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(*_: Any) -> None:
        raise ValueError("not JSON compliant")

    monkeypatch.setattr(report, "render", failing)
    MetricsLog(folder.metrics_log).append(0, {"eval/judge": 0.4})
    experiment.record(folder, "failed", "the judge went away")
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "ValueError: not JSON compliant" in warning
    assert f"orchestrate report {folder.path}" in warning


def test_the_words_of_the_rank_that_failed_are_found() -> None:
    class TrainingFailed(Exception):
        worker_failures = {1: ConnectionError("peer closed"), 0: RunError("faults/unscored: 9 of 9")}  # noqa: RUF012

    assert following.explain_failure(TrainingFailed("two ranks failed")) == "faults/unscored: 9 of 9"
    assert "peer closed" in following.explain_failure(ConnectionError("peer closed"))


def test_a_resume_names_what_it_lacks(folder: RunFolder) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        experiment.resume(folder.path, [])
    with pytest.raises(ConfigError, match="--from x seed=1"):
        experiment.resume(folder.path, ["seed=1"])
    with pytest.raises(RunError, match="there: none"):
        experiment.fork(folder.path, 3, [])


def checkpointed(folder: RunFolder, step: int) -> Path:
    """A run whose newest checkpoint is of `step`; nothing in it is read here."""
    checkpoint = folder.checkpoints / f"step-{step:06d}"
    checkpoint.mkdir()
    (folder.checkpoints / "LATEST").write_text(checkpoint.name)
    return checkpoint


def test_a_finished_run_is_neither_resumed_nor_forked_without_more_steps(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = checkpointed(folder, 5)
    started: list[tuple[Any, ...]] = []
    monkeypatch.setattr(experiment, "run", lambda *arguments: started.append(arguments) or 0)
    for again in (lambda: experiment.resume(folder.path, []), lambda: experiment.fork(folder.path, None, ["seed=1"])):
        with pytest.raises(RunError, match="steps=10"):
            again()
    assert not started
    experiment.fork(folder.path, 5, ["seed=1", "steps=7", "name=y"])
    config, start = started.pop()
    assert (config.seed, config.steps, config.name, start) == (1, 7, "y", checkpoint)
    assert config.storage == str(folder.path.parent.parent)
    # More steps are remembered: the next --resume knows them.
    experiment.resume(folder.path, ["steps=9"])
    assert folder.settings()["steps"] == 9


def test_a_run_that_goes_on_is_not_taken_over(folder: RunFolder) -> None:
    """Another process holds the folder's lock; what a former end left there is cleared when the run begins anew."""
    folder.stop.touch()
    folder.summary.write_text("{}")
    hold = (
        f"import fcntl, time; lock = open({str(folder.path / '.lock')!r}, 'w'); fcntl.flock(lock, fcntl.LOCK_EX); "
        "print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            with pytest.raises(RunError, match="another process"):
                folder.begin()
            assert folder.stop.exists()
        finally:
            other.kill()
    folder.begin()
    assert not folder.stop.exists()
    assert not folder.summary.exists()


class Failure(Exception):
    """What Ray Train raises: an exception by rank."""

    def __init__(self, failures: dict[int, BaseException]) -> None:
        super().__init__("Training failed")
        self.worker_failures = failures


def test_a_rank_whose_process_died_is_told_from_one_that_failed() -> None:
    died = ActorDiedError()
    wrapped = WorkerHealthCheckFailedError("rank 1", failure=ActorDiedError())
    collateral = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.3]:9097")
    assert following.lost_ranks(Failure({0: collateral, 1: wrapped, 2: died})).startswith("learner rank 1, 2 died")
    # Ray may learn of a node's end later than its peers.
    assert "rank 0 lost its connection" in following.lost_ranks(Failure({0: collateral}))
    # A rank's own words are the reason, whatever died with it.
    assert following.lost_ranks(Failure({0: RunError("the judge failed its exam"), 1: died})) == ""
    assert following.lost_ranks(Failure({0: collateral, 1: ValueError("a bug")})) == ""
    assert following.lost_ranks(ConnectionError("no ranks at all")) == ""


def test_a_lost_rank_is_followed_by_another_attempt_from_the_newest_checkpoint(
    monkeypatch: pytest.MonkeyPatch, folder: RunFolder
) -> None:
    attempts: list[Any] = []

    def follow(config: Any, folder: RunFolder, payload: Any, news: Any) -> str:
        attempts.append(payload["checkpoint"])
        if len(attempts) == 2:
            (folder.checkpoints / "step-000003").mkdir()
            (folder.checkpoints / "LATEST").write_text("step-000003")
        if len(attempts) < 3:
            raise following.RankLostError("rank 1 died")
        return "finished"

    waited: list[float] = []
    monkeypatch.setattr(following, "follow", follow)
    monkeypatch.setattr(following, "wait_for_room", lambda plan, deadline_s, tell: waited.append(plan.cpus))
    config = compose("rlvr", ["learner.max_restarts=2", "tracking.mode=disabled"])
    with Display("x", 5, terminal=False) as display:
        assert following.follow_through(config, folder, {"checkpoint": None}, display) == "finished"
    newest = str((folder.checkpoints / "step-000003").resolve())
    assert attempts == [None, None, newest]
    assert waited == [1.0, 1.0]  # two ranks of half a CPU; the fleets are there

    attempts.clear()
    config = compose("rlvr", ["learner.max_restarts=0", "tracking.mode=disabled"])
    with Display("x", 5, terminal=False) as display, pytest.raises(RunError, match="rank 1 died"):
        following.follow_through(config, folder, {"checkpoint": None}, display)
    assert len(attempts) == 1


def test_the_driver_holds_the_pools_of_shared_roles_and_none_of_a_runs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    leased: list[Any] = []

    def lease(config: RunConfig, model: StartingModel, holder: str) -> AbstractContextManager[str]:
        leased.append((model.role, holder))
        return nullcontext("the pool")

    monkeypatch.setattr(experiment, "lease", lease)
    config = RatedConfig()
    models = [StartingModel(role, "folder", True, None, False) for role in ("policy", "judge", "content")]
    with experiment.holding_pools(config, models, "a test") as pools:
        assert pools == ()
    config.judge.shared = config.content.shared = True
    with experiment.holding_pools(config, models, "a test") as pools:
        assert pools == ("the pool", "the pool")
    assert leased == [("judge", "a test"), ("content", "a test")]
