"""`orchestrate sweep --dry-run` and `orchestrate train TARGET seed=0..4 --dry-run`: the plan on the terminal, without Ray."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli

ROOT = Path(__file__).parents[2]
GPUS = """
about: On GPUs
target: rlvr
settings: {hardware: 8x80GB, cluster.inventory: 2x8x80GB, steps: 10}
runs:
  policy:
    arms: {grpo: {algorithm: grpo}, rloo: {algorithm: rloo}}
    search: {learner.learning_rate: {grid: [1.0e-6, 2.0e-6]}}
    tuning: {searcher: grid}
  test: {settings: {model: "node:policy", steps: 0, data.seed: 7}, arms: {grpo: {}, rloo: {}}, seeds: 0..2}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpus.yaml").write_text(GPUS)
    return tmp_path


def orchestrate(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, list(words))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout, done.stderr


def test_the_graph_the_runs_and_what_fits() -> None:
    status, out, err = orchestrate("sweep", "rlvr_quick", "cluster.inventory=1x24GB", "--dry-run")
    assert (status, err) == (0, "")
    assert re.search(r"^sweep rlvr_quick: \w", out)
    assert re.search(r"^ +teach +1 +1.6 +0 +1 *$", out, re.MULTILINE)
    # 8 CPUs: a judge of 0.4 for all and 0.8 a run would be nine; the sweep says two at once.
    trials = (
        r"^ +policy search +4 trials \(optuna, asha\) +teach +learner.learning_rate 5e-05…0.002 \(log\) +1.2 +0 +2 *$"
    )
    assert re.search(trials, out, re.MULTILINE)
    assert re.search(r"^ +teach +0 +teach-[0-9a-f]{10} +to do *$", out, re.MULTILINE)
    assert "everything runs on the CPU" in out
    assert "It fits" in out
    assert "Nothing was started." in out


def test_the_runs_of_a_search_with_several_seeds_a_point_are_counted() -> None:
    out = orchestrate("sweep", "social_r1_search", "--dry-run")[1]
    # Twelve points with two seeds each, and the winner with three of its own.
    assert re.search(r"policy search +24 trials \(optuna, 2 seeds a point\)", out)
    assert re.search(r"^ +policy +3 ", out, re.MULTILINE)


def test_what_is_stored_already_is_said(folder: Path) -> None:
    out = orchestrate("train", "rlvr", "seed=0..2", "--dry-run")[1]
    names = re.findall(r"mini-s\d-[0-9a-f]{10}", out)
    assert [name[5:7] for name in names] == ["s0", "s1", "s2"]
    assert out.count("to do") == 3
    for name, status in zip(names, ("finished", "stopped"), strict=False):
        (folder / "kept/rlvr" / name).mkdir(parents=True)
        (folder / "kept/rlvr" / name / "config.yaml").touch()
        (folder / "kept/rlvr" / name / "summary.json").write_text(json.dumps({"status": status}))
    for given in (["--storage", "kept"], ["storage=kept"]):
        out = orchestrate("train", "rlvr", "seed=0..2", *given, "--dry-run")[1]
        assert re.search(rf"{names[0]} +done already", out)
        assert re.search(rf"{names[1]} +begun", out)
        assert re.search(rf"{names[2]} +to do", out)
        assert re.search(r"mini +3, 1 done already", out)


def test_gpus_are_counted_and_the_cost_is_bounded() -> None:
    status, out, err = orchestrate("sweep", "gpus.yaml", "--dry-run")
    assert (status, err) == (0, "")
    # A run has 8 GPUs to itself: two on two nodes of 8.
    assert re.search(r"policy grpo search +2 trials \(grid\) +learner.learning_rate 1e-06, 2e-06 +\d+ +8 +2 ", out)
    assert len(re.findall(r"policy-(?:grpo|rloo)-[0-9a-f]{10} +to do", out)) == 4
    assert "its settings come from a search" in out
    bounds = dict(re.findall(r"^  ([\w -]+): ([\d,]+)$", out, re.MULTILINE))
    assert bounds.keys() == {"policy grpo search", "policy rloo search", "test"}
    total = re.search(r"at most about ([\d,]+) GPU-hours", out)
    assert total
    assert abs(int(total[1]) - sum(map(int, bounds.values()))) <= 2
    assert all(int(bound) > 0 for bound in bounds.values())
    # A budget bounds it where it is less: no further trial begins after it, and two may be in flight.
    searched = GPUS.replace("searcher: grid", "searcher: random, trials: 100, gpu_hours: 1")
    Path("gpus.yaml").write_text(searched)
    capped = dict(
        re.findall(r"^  ([\w -]+): ([\d,]+)$", orchestrate("sweep", "gpus.yaml", "--dry-run")[1], re.MULTILINE)
    )
    # Two trials cost what they did, and the budget is one more.
    assert abs(int(capped["policy grpo search"]) - int(bounds["policy grpo search"]) - 1) <= 1


def test_what_can_never_fit_names_the_stage() -> None:
    status, _, err = orchestrate("sweep", "gpus.yaml", "cluster.inventory=1x80GB", "--dry-run")
    assert status == 2
    assert err.startswith("orchestrate: stage policy grpo search: The run can never be placed: ")


def test_a_cluster_that_is_not_stated_is_not_compared() -> None:
    out = orchestrate("sweep", "rlvr_quick", "cluster.address=auto", "--dry-run")[1]
    assert "Not compared with the cluster at auto" in out


def test_many_runs_are_counted_not_listed() -> None:
    out = orchestrate("train", "rlvr", "seed=0..99", "--dry-run")[1]
    assert out.count("to do") == 40
    assert "and 60 more" in out


def test_mistakes_are_messages() -> None:
    assert orchestrate("sweep", "rlvr_quick", "stepz=3", "--dry-run")[::2] == (
        2,
        "orchestrate: stepz (command line): there is no such key. Did you mean steps?\n",
    )
    assert "Did you mean rlvr_quick?" in orchestrate("sweep", "rlvr_quik", "--dry-run")[2]
    assert "runs.mini, seeds=[]" in orchestrate("train", "rlvr", "seed=3..1", "--dry-run")[2]


@pytest.mark.parametrize("words", [["sweep", "rlvr_algorithms"], ["train", "rlvr", "seed=0..4"]])
def test_the_program_plans_a_sweep_quickly_without_frameworks(words: list[str]) -> None:
    began = time.monotonic()
    command = [sys.executable, "-X", "importtime", "-m", "orchestrator", *words, "--dry-run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & {"torch", "ray", "vllm", "transformers", "optuna", "wandb", "pyarrow", "numpy"}
    assert time.monotonic() - began < 10  # 1.1 s on an idle core; the bound leaves room for a busy machine
