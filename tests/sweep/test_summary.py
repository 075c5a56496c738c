"""What a sweep cost and gained, from runs that are written by hand."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.config.schema import FleetConfig
from orchestrator.records import jsonl
from orchestrator.records.folder import RunFolder
from orchestrator.sweep import driver
from orchestrator.sweep.course import Course
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.graph import stages
from orchestrator.sweep.journal import EARLY, FAILED, FINISHED, Journal, Tried
from orchestrator.sweep.pictures import expected_best
from orchestrator.sweep.spec import Node, Range, Sweep, Tuning
from orchestrator.sweep.standing import to_mend
from orchestrator.sweep.summary import summarise

SEEDS = Node("policy", "rlvr", {}, {"": {}}, (0, 1, 2, 3, 4))
SEARCH = Node("policy", "rlvr", {}, {"": {}}, (), (Range("learner.learning_rate", "grid", (0.1, 0.2)),), Tuning())


def write(storage: Path, name: str, scores: list[float], seconds: float, first: int = 0) -> None:
    """A run whose evaluations are 10 steps apart and that held two GPUs for so many seconds after each, and so many at the end."""
    run = RunFolder(storage / "rlvr" / name)
    log, ledger = jsonl.LineLog(run.metrics_log), jsonl.LineLog(run.ledger_log)
    for number, score in enumerate(scores):
        log.append({"step": first + 10 * number, "eval/oracle": score})
        ledger.append({"phase": "learn", "seconds": seconds, "cpu_seconds": 0.0, "gpu_seconds": 2 * seconds})


def tell(journal: Journal, tried: Tried, scores: list[float], outcome: str, first: int = 0) -> None:
    tried = journal.begin(tried)
    for number, score in enumerate(scores):
        journal.row(tried, first + 10 * number, score, {"seconds": 0.0, "cpu_seconds": 0.0, "gpu_seconds": 0.0})
    journal.end(tried, outcome)


def begun(tmp_path: Path, node: Node) -> tuple[Sweep, SweepFolder, Journal]:
    folder = SweepFolder(tmp_path / "sweeps" / "s")
    return Sweep("s", (node,)), folder, Journal(folder.journal)


def test_a_point_costs_the_same_on_one_seed_as_on_five(tmp_path: Path) -> None:
    sweep, folder, journal = begun(tmp_path, SEEDS)
    costs = []
    for seed in range(5):
        write(tmp_path, f"s{seed}", [0.2, 0.4], 50.0)
        tell(journal, Tried("policy", seed, "", seed, {}, f"rlvr/s{seed}"), [0.2, 0.4], FINISHED)
        (arm,) = summarise(sweep, folder, journal, {})["arms"]
        costs.append(arm["cost_of_a_point"])
    # Each took 2 x 50 s x 2 GPUs = 200 GPU-s to gain 0.2, which are 20 points.
    assert costs == pytest.approx([10.0] * 5)
    assert arm["gpu_seconds"] == 1000.0


def test_a_search_pays_for_every_trial_and_for_a_shared_run_once(tmp_path: Path) -> None:
    sweep, folder, journal = begun(tmp_path, SEARCH)
    (stage,) = stages(sweep)
    for name, scores in (("a", [0.2, 0.4]), ("b", [0.2])):
        write(tmp_path, name, scores, 50.0)
    tell(journal, Tried(stage.name, 0, "", 1000, {}, "rlvr/a"), [0.2, 0.4], FINISHED)
    tell(journal, Tried(stage.name, 1, "", 1000, {}, "rlvr/b"), [0.2], EARLY)
    tell(journal, Tried(stage.name, 2, "", 1000, {}, "rlvr/a"), [0.2, 0.4], FINISHED)
    (arm,) = summarise(sweep, folder, journal, {})["arms"]
    # 200 GPU-s of run a, which two trials have, and 100 of run b, of which the journal was told nothing; 20 points.
    assert (arm["gpu_seconds"], arm["runs"]) == (300.0, 3)
    assert arm["cost_of_a_point"] == pytest.approx(15.0)


def test_a_member_of_a_population_gains_from_its_first_score_on(tmp_path: Path) -> None:
    sweep, folder, journal = begun(tmp_path, SEARCH)
    (stage,) = stages(sweep)
    write(tmp_path, "a", [0.1, 0.2], 25.0)
    write(tmp_path, "b", [0.5], 50.0, first=20)
    tell(journal, Tried(stage.name, 0, "", 1000, {}, "rlvr/a"), [0.1, 0.2], EARLY)
    tell(journal, Tried(stage.name, 0, "", 1000, {}, "rlvr/b", ("rlvr/c", 10)), [0.5], FINISHED, first=20)
    (arm,) = summarise(sweep, folder, journal, {})["arms"]
    # From 0.1 to 0.5 in two runs that took 100 GPU-s each: the second one alone would have gained nothing.
    assert arm["gain"] == pytest.approx(0.4)
    assert arm["cost_of_a_point"] == pytest.approx(5.0)


def test_shared_raters_are_told_of_a_stage(tmp_path: Path) -> None:
    sweep, folder, journal = begun(tmp_path, SEEDS)
    assert summarise(sweep, folder, journal, {})["shared_raters"] == []
    # Two servers of 1.5 CPUs and half a GPU for 100 s.
    took = driver.pools_took([FleetConfig(servers=2, cpus_per_server=1.5, gpus_per_server=0.5)], 100.0)
    journal.pool("policy", took)
    (judge,) = summarise(sweep, folder, journal, {})["shared_raters"]
    assert judge == {"stage": "policy", "seconds": 100.0, "cpu_seconds": 300.0, "gpu_seconds": 100.0}


def test_a_closed_stage_has_nothing_left_to_try(tmp_path: Path) -> None:
    sweep, folder, journal = begun(tmp_path, SEARCH)
    (stage,) = stages(sweep)
    write(tmp_path, "a", [0.2], 10.0)
    tell(journal, Tried(stage.name, 0, "", 1000, {}, "rlvr/a"), [0.2], FINISHED)
    tell(journal, Tried(stage.name, 1, "", 1000, {}, "rlvr/b"), [], FAILED)
    assert [one.number for one in to_mend(folder, journal.all())] == [1]
    folder.close(stage, [])
    assert to_mend(folder, journal.all()) == []
    # It is still told.
    assert [one["trial"] for one in summarise(sweep, folder, journal, {})["failed"]] == [1]


def test_a_trial_whose_files_changed_begins_in_another_run(tmp_path: Path) -> None:
    reward = tmp_path / "mine.py"
    reward.write_text("def score(episodes):\n    return [0] * len(episodes)\n")
    node = Node(
        "policy", "rlvr", {"reward.name": f"{reward}:score"}, {"": {}}, (), SEARCH.search, Tuning(searcher="grid")
    )
    sweep, folder, _ = begun(tmp_path, node)
    (stage,) = stages(sweep)

    def first() -> tuple[Tried, Any]:
        found = Course(sweep, stage, folder, Journal(folder.journal), [], 1).next()
        assert found is not None
        return found

    before, again = first()[0], first()[0]
    assert (again.run, again.runs) == (before.run, [before.run])
    reward.write_text("def score(episodes):\n    return [1] * len(episodes)\n")
    after, work = first()
    assert after.run != before.run
    assert work.run.endswith(after.run)
    assert after.runs == [before.run, after.run]


def test_the_lease_of_a_pool_is_booked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, folder, journal = begun(tmp_path, SEEDS)
    config = compose("rlvr", ["judge=hf:none/judge", "judge.shared=true", "judge.fleet.gpus_per_server=1"])
    monkeypatch.setattr(driver, "starting_model", lambda *given: None)
    monkeypatch.setattr(driver, "lease", lambda *given: nullcontext())
    ticks = iter((100.0, 160.0))
    monkeypatch.setattr(driver.time, "monotonic", lambda: next(ticks))
    course: Any = SimpleNamespace(
        configs=lambda: [config], folder=folder, journal=journal, sweep=SimpleNamespace(name="s"),
        stage=SimpleNamespace(name="policy"),
    )  # fmt: skip
    with driver._holding_pools(course):
        assert journal.pool_of("policy") == {}
    # A minute of one server with one GPU.
    assert journal.pool_of("policy")["gpu_seconds"] == 60.0


def test_a_stage_holds_what_its_later_arms_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcome rewards ask no rater, the arms after it a judge, and two of them each a content model of its own."""
    judged = {"judge.name": "hf:none/judge", "judge.shared": True, "content.shared": True}
    arms = {
        "outcome": {"reward.variant": "outcome"},
        "full": {"content.name": "hf:none/one"},
        "other": {"content.name": "hf:none/other"},
    }
    sweep, folder, journal = begun(tmp_path, Node("policy", "social_r1", judged, arms, (0, 1)))
    course = Course(sweep, stages(sweep)[0], folder, journal, [], 1)
    assert [list(config.raters()) for config in course.configs()] == [[]] * 2 + [["judge", "content"]] * 4
    held: list[tuple[str, str]] = []
    monkeypatch.setattr(driver, "starting_model", lambda name, role, *given: (name, role.name))
    monkeypatch.setattr(driver, "lease", lambda config, model, holder: held.append(model) or nullcontext())
    with driver._holding_pools(course):
        assert held == [("judge", "hf:none/judge")]
    assert journal.pool_of("policy")["seconds"] >= 0


def test_a_search_holds_what_any_of_its_points_shares(tmp_path: Path) -> None:
    ranges = (Range("reward.variant", "choice", ("outcome", "no_content")),)
    settings = {"reward.variant": "outcome", "judge.name": "hf:none/judge", "judge.shared": True}
    sweep, folder, journal = begun(tmp_path, Node("policy", "social_r1", settings, {"": {}}, (), ranges, Tuning()))
    course = Course(sweep, stages(sweep)[0], folder, journal, [], 1)
    assert list(driver.shared_by(course.configs())) == ["judge"]


def test_a_point_is_tried_with_all_of_its_seeds(tmp_path: Path) -> None:
    """Points 0 and 1 with two seeds each; the search is told their means, and the summary of both runs of the better one."""
    ranges = (Range("learner.learning_rate", "loguniform", low=1e-5, high=1e-3),)
    node = Node("policy", "rlvr", {}, {"": {}}, (0, 1), ranges, Tuning(trials=2, seed=1000, repeats=2))
    sweep, folder, journal = begun(tmp_path, node)
    (stage, _) = stages(sweep)
    course = Course(sweep, stage, folder, journal, [], 1)
    found = [course.next() for _ in range(5)]
    assert found.pop() is None
    trials = [one[0] for one in found if one]
    assert [one.seed for one in trials] == [1000, 1001, 1000, 1001]
    assert trials[0].point == trials[1].point != trials[2].point == trials[3].point
    assert len({one.run for one in trials}) == 4
    told: list[tuple[int, float]] = []
    assert course._points is not None
    course._points.tell = lambda number, score: told.append((number, score))  # type: ignore[method-assign]
    for one, score in zip(trials, (0.8, 0.2, 0.5, 0.7), strict=True):
        write(tmp_path, one.run.removeprefix("rlvr/"), [0.1, score], 1.0)
        tell(journal, one, [0.1, score], FINISHED)
        course.tell(one.number, score)
    assert told == [(0, 0.5), (1, pytest.approx(0.6))]
    (arm,) = summarise(sweep, folder, journal, {})["arms"]
    assert (arm["winner"]["run"], arm["winner"]["score"]) == (trials[2].run, pytest.approx(0.6))
    assert (arm["score"]["mean"], arm["score"]["n"]) == (pytest.approx(0.6), 2)
    (done,) = driver._done(course)
    assert (done.run, done.winner, done.point) == (trials[2].run, True, trials[2].point)
    # Gone on with, every trial has the point and the run that it had.
    again = Course(sweep, stage, folder, Journal(folder.journal), [], 1)
    assert [one[0].run for one in (again.next() for _ in range(4)) if one] == [one.run for one in trials]


def test_the_expected_best_of_fewer_trials() -> None:
    """Of 1, 2 and 3: one of them 2, the best of the pairs 2, 3 and 3, of all 3; where less is better 1, 1 and 2."""
    assert [expected_best([3.0, 1.0, 2.0], trials, "max") for trials in (1, 2, 3)] == pytest.approx([2, 8 / 3, 3])
    assert expected_best([3.0, 1.0, 2.0], 2, "min") == pytest.approx(4 / 3)
