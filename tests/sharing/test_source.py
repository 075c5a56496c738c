"""What a target names."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.records.folder import write_json
from orchestrator.sharing.source import Source, best_of, find_source
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.journal import EARLY, FAILED, FINISHED
from tests.fakes.models import model_folder, run_with_checkpoints
from tests.fakes.sweeps import sweep_of


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A run `rlvr/one` with checkpoints of steps 4 and 6, and its judge."""
    run = run_with_checkpoints(tmp_path, "one", (4, 6))
    model_folder(tmp_path / ".cache" / "judge")
    write_json(run.models, {"policy": "Qwen/Qwen3-0.6B", "judge": ".cache/judge"})
    return tmp_path


def best_run(folder: SweepFolder) -> str | None:
    best = best_of(folder)
    return best.tried.run if best else None


def test_a_run_is_its_newest_checkpoint_or_the_one_asked_for(storage: Path) -> None:
    run = storage / "rlvr" / "one"
    newest = Source("run:rlvr/one@6", str(run / "checkpoints" / "step-000006" / "hf"), "policy", run, 6)
    assert find_source("one", storage) == find_source("run:one", storage) == find_source(str(run), storage) == newest
    older = find_source("rlvr/one@4", storage)
    assert (older.reference, older.folder, older.step) == (
        "run:rlvr/one@4", str(run / "checkpoints" / "step-000004" / "hf"), 4,
    )  # fmt: skip


def test_a_role_is_the_model_that_the_run_began_with(storage: Path) -> None:
    run = storage / "rlvr" / "one"
    assert find_source("one@judge", storage) == Source(
        "run:rlvr/one@judge", str(storage / ".cache" / "judge"), "judge", run, None
    )
    assert find_source("one@policy", storage).folder == "Qwen/Qwen3-0.6B"


def test_a_model_of_no_run(storage: Path) -> None:
    folder = model_folder(storage / "elsewhere")
    assert find_source(f"path:{folder}", storage) == Source(f"path:{folder}", str(folder), "", None, None)
    assert find_source("hf:Qwen/Qwen3-0.6B", storage) == Source("hf:Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B", "", None, None)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("two", "No run 'two'"),
        ("one@5", "Steps that do: @4, @6"),
        ("one@critic", "Roles that it has: @policy, @judge"),
        ("mini", "names no weights"),
        ("http://localhost:8000/v1", "names no weights"),
        ("{storage}/elsewhere", "write path:"),
    ],
)
def test_what_is_not_there_is_told(storage: Path, target: str, said: str) -> None:
    model_folder(storage / "elsewhere")
    with pytest.raises(ConfigError, match=said):
        find_source(target.format(storage=storage), storage)


def test_a_sweep_is_its_best_run(storage: Path) -> None:
    sweep_of(storage, [("policy", "", "two", FINISHED, 0.3), ("policy", "", "one", FINISHED, 0.4)])
    assert find_source("mine", storage) == find_source("one", storage)
    run_with_checkpoints(storage, "mine", (4,))
    with pytest.raises(ConfigError, match=r"both a run and a sweep\. Name the run as rlvr/mine"):
        find_source("mine", storage)
    assert find_source("rlvr/mine", storage).reference == "run:rlvr/mine@4"
    assert find_source(str(storage / "sweeps" / "mine"), storage).reference == "run:rlvr/one@6"


# Means: a (0.9 + 0.1) / 2 = 0.5, b (0.6 + 0.5) / 2 = 0.55. So b, though the best single run is a's; of b's runs b0 has 0.6.
def test_the_best_is_of_the_arm_with_the_best_mean(tmp_path: Path) -> None:
    runs = [("policy", arm, name, FINISHED, score) for arm, name, score in (
        ("a", "a0", 0.9), ("a", "a1", 0.1), ("b", "b0", 0.6), ("b", "b1", 0.5),
    )]  # fmt: skip
    best = best_of(sweep_of(tmp_path, [*runs, ("policy", "b", "b2", FAILED, 1.0)]))
    assert best is not None
    assert (best.sweep, best.metric, best.tried.run, best.of, best.runs) == ("mine", "eval/oracle", "rlvr/b0", 4, 2)
    assert best.mean.mean == pytest.approx(0.55)
    # Student's t of two runs: 12.706 times their standard error, |0.6 - 0.5| / 2
    assert (best.mean.low, best.mean.high) == pytest.approx((0.55 - 0.6353, 0.55 + 0.6353), abs=1e-4)


def test_the_last_node_counts_that_has_a_finished_run(tmp_path: Path) -> None:
    first = [("judge", "", "j", FINISHED, 0.9), ("policy", "", "p", FINISHED, 0.2), ("test", "", "t", EARLY, 0.8)]
    assert best_run(sweep_of(tmp_path, first, ("judge", "policy", "test"))) == "rlvr/p"


# Of each search its winner: s1 of a, s2 of b (0.5). Where the runs by seed are there, they are what the search was for.
def test_a_search_without_runs_is_its_winner(tmp_path: Path) -> None:
    searched = [
        ("policy a search", "a", "s0", FINISHED, 0.3), ("policy a search", "a", "s1", FINISHED, 0.4),
        ("policy b search", "b", "s2", FINISHED, 0.5), ("policy b search", "b", "s3", EARLY, 0.9),
    ]  # fmt: skip
    assert best_run(sweep_of(tmp_path / "1", searched)) == "rlvr/s2"
    assert best_run(sweep_of(tmp_path / "2", searched, mode="min")) == "rlvr/s0"
    assert best_run(sweep_of(tmp_path / "3", [*searched, ("policy", "a", "run", FINISHED, 0.1)])) == "rlvr/run"


def test_a_sweep_without_a_finished_run_has_no_best(tmp_path: Path) -> None:
    folder = sweep_of(tmp_path, [("policy", "", "p", FAILED, 0.2), ("policy", "", "q", FINISHED, float("nan"))])
    assert best_of(folder) is None
    with pytest.raises(ConfigError, match="No run of the sweep mine has finished with a score"):
        find_source("mine", tmp_path)
