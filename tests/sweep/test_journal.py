"""What was tried is read again as it was; hours count only while the sweep goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sweep.journal import EARLY, FAILED, FINISHED, Journal, Tried, best_point, spent_by, winner_of


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("orchestrator.sweep.journal.time.time", lambda: now[0])
    return now


def spent(seconds: float) -> dict[str, float]:
    return {"seconds": seconds, "cpu_seconds": 2 * seconds, "gpu_seconds": 4 * seconds}


def test_a_trial_is_read_as_it_was_written(tmp_path: Path, clock: list[float]) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    journal.open("policy")
    tried = journal.begin(Tried("policy", 0, "grpo", 7, {"lr": 0.1}, "rlvr/a"))
    clock[0] = 3600.0
    journal.row(tried, 5, 0.25, spent(10.0))
    journal.row(tried, 5, 0.25, spent(10.0))  # told again after a restart
    clock[0] = 7200.0
    journal.row(tried, 10, 0.5, spent(20.0))
    journal.end(tried, EARLY)
    (again,) = Journal(tmp_path / "trials.jsonl").of("policy")
    assert again == tried
    # An hour to each evaluation.
    assert again.scores == [(5, 0.25, 1.0), (10, 0.5, 2.0)]
    assert (again.seconds, again.cpu_seconds, again.gpu_seconds) == (20.0, 40.0, 80.0)
    assert (again.outcome, again.arm, again.seed, again.runs) == (EARLY, "grpo", 7, ["rlvr/a"])


def test_hours_between_two_starts_are_not_spent(tmp_path: Path, clock: list[float]) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    journal.open("policy")
    tried = journal.begin(Tried("policy", 0, "", 0, {}, "rlvr/a"))
    clock[0] = 1800.0
    journal.row(tried, 1, 0.0, spent(1.0))
    clock[0] = 36000.0
    again = Journal(tmp_path / "trials.jsonl")
    assert again.spent_h("policy") == 0.5
    again.open("policy")
    clock[0] = 36900.0
    # Half an hour before the break and a quarter since.
    assert again.spent_h("policy") == 0.75


def test_a_member_that_copies_goes_on_from_the_donors_step(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    journal.open("policy")
    tried = journal.begin(Tried("policy", 0, "", 0, {"lr": 0.1}, "rlvr/a"))
    for step in (0, 5, 10, 15):
        journal.row(tried, step, step / 100, spent(step))
    journal.begin(Tried("policy", 0, "", 0, {"lr": 0.2}, "rlvr/b", ("rlvr/c", 10)))
    journal.row(tried, 15, 0.9, spent(5.0))
    # Its own step 15 is no part of its course any more, but was paid for: 15 s of the first run and 5 s of the second.
    assert [(step, score) for step, score, _ in tried.scores] == [(0, 0.0), (5, 0.05), (10, 0.1), (15, 0.9)]
    assert tried.seconds == 20.0
    assert tried.runs == ["rlvr/a", "rlvr/b"]
    assert tried.origin == ("rlvr/c", 10)


def test_what_came_after_the_last_evaluation_is_paid_for_too(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    tried = journal.begin(Tried("policy", 0, "", 0, {}, "rlvr/a"))
    journal.row(tried, 5, 0.1, spent(10.0))
    journal.end(tried, FAILED, "a rank was lost", spent(17.0))
    (again,) = Journal(tmp_path / "trials.jsonl").of("policy")
    assert (again.seconds, again.gpu_seconds, again.reason) == (17.0, 68.0, "a rank was lost")
    # One that failed before it began has nothing to add.
    journal.end(journal.begin(Tried("policy", 1, "", 0, {}, "rlvr/b")), FAILED, "no room")
    assert spent_by(journal.all()) == {"seconds": 17.0, "cpu_seconds": 34.0, "gpu_seconds": 68.0}


def test_a_run_that_trials_share_is_paid_for_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    for number, run, seconds in ((0, "rlvr/a", 10.0), (1, "rlvr/b", 5.0), (2, "rlvr/a", 0.0)):
        tried = journal.begin(Tried("policy", number, "", 0, {}, run))
        journal.row(tried, 5, 0.1, spent(seconds))
    # 10 s of run a, which two trials have, and 5 s of run b.
    assert spent_by(journal.of("policy"))["gpu_seconds"] == 60.0


def test_pools_are_booked_a_stage(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    journal.open("policy")
    assert journal.pool_of("policy") == {}
    journal.pool("policy", spent(10.0))
    journal.pool("policy", spent(20.0))  # after a restart
    found = Journal(tmp_path / "trials.jsonl")
    assert found.pool_of("policy") == {"seconds": 30.0, "cpu_seconds": 60.0, "gpu_seconds": 120.0}
    assert (found.pool_of("test"), found.all()) == ({}, [])


def test_a_trial_in_another_run_without_a_fork_begins_anew(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "trials.jsonl")
    tried = journal.begin(Tried("policy", 0, "", 0, {}, "rlvr/a"))
    journal.row(tried, 5, 0.9, spent(10.0))
    journal.end(tried, FINISHED)
    journal.begin(Tried("policy", 0, "", 0, {}, "rlvr/b"))
    assert (tried.outcome, tried.scores, tried.run) == ("", [], "rlvr/b")
    journal.row(tried, 0, 0.1, spent(3.0))
    assert (tried.step, tried.seconds) == (0, 13.0)


def test_a_reader_leaves_the_line_that_another_process_is_at(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    writer = Journal(path)
    tried = writer.begin(Tried("policy", 0, "", 0, {}, "rlvr/a"))
    with path.open("a") as file:
        file.write('{"time": 1.0, "kind": "en')
    before = path.read_bytes()
    reader = Journal(path)
    assert [one.run for one in reader.all()] == ["rlvr/a"]
    assert path.read_bytes() == before
    # The sweep that goes on after a crash cuts it off.
    reader.end(tried, FINISHED)
    assert [one.outcome for one in Journal(path).all()] == [FINISHED]


def test_looking_at_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    assert Journal(tmp_path / "gone" / "trials.jsonl").all() == []
    assert not (tmp_path / "gone").exists()


def test_the_winner_ran_to_its_end() -> None:
    def trial(number: int, score: float, outcome: str) -> Tried:
        return Tried("policy", number, "", 0, {}, "", scores=[(8, score, 0.0)], outcome=outcome)

    tried = [trial(0, 0.9, EARLY), trial(1, 0.5, FINISHED), trial(2, 0.6, FINISHED), trial(3, float("nan"), FINISHED)]
    best, least = winner_of(tried, "max"), winner_of(tried, "min")
    assert best is not None
    assert least is not None
    assert (best.number, least.number) == (2, 1)
    assert winner_of(tried[:1], "max") is None


def test_a_point_wins_by_its_mean_and_only_whole() -> None:
    def trial(number: int, rate: float, seed: int, score: float, outcome: str = FINISHED) -> Tried:
        return Tried("policy", number, "", seed, {"rate": rate}, "", scores=[(8, score, 0.0)], outcome=outcome)

    # Means 0.5 and 0.6; the best single run is of the first point, the best of all of one whose other seed failed.
    tried = [
        *(trial(0, 0.1, 1000, 0.8), trial(1, 0.1, 1001, 0.2)),
        *(trial(2, 0.2, 1000, 0.6), trial(3, 0.2, 1001, 0.6)),
        *(trial(4, 0.3, 1000, 0.9), trial(5, 0.3, 1001, 0.9, FAILED)),
    ]
    assert [one.number for one in best_point(tried, "max")] == [2, 3]
    assert [one.number for one in best_point(tried, "min")] == [0, 1]
    # One seed each: the best trial.
    assert [one.number for one in best_point(tried[::2], "max")] == [4]
    assert best_point([], "max") == []
