"""Several hosts for real: `make test-cluster`. Each has an address of its own; see two_hosts.py."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from two_hosts import Hosts, lacking

pytestmark = [pytest.mark.cluster]

QUICK = [
    "warmup.steps=60", "judge.training.steps=60", "judge.gate_accuracy=0", "judge.gate_pair_order=0",
    "judge.gate_rank_correlation=0", "judge.gate_injection_flips=1",
    "data.train_groups=32", "data.eval_groups=4", "eval.best_of=0", "eval.every_steps=12",
]  # fmt: skip
"""The miniature with little teaching: what is asked here is where things run, not how well."""
RUN = [
    *QUICK,
    "steps=12",
    "checkpoint.every_steps=4",
    "learner.max_restarts=2",
    "learner.cpus_per_rank=1.1",
    "rollout.fleet.cpus_per_server=0.4",
    "judge.fleet.cpus_per_server=0.4",
]
"""On hosts of 2 CPUs no two ranks go to one host, and a rank fits beside both servers: wherever these are, two hosts do."""
DRIVER, RANK, SERVER = "-m orchestrator train", "RayTrainWorker", "VllmServer"
RUN_S = 540.0


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    """Three workers, of which two can hold a run."""
    if reason := lacking():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder, Hosts([2, 2, 2], Path(folder)) as made:
        yield made


def submit(hosts: Hosts, storage: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "orchestrator", "submit", "--address", hosts.url, "--storage", str(storage)]
    return subprocess.Popen([*command, "--", *words], env=hosts.environment(), stdout=subprocess.PIPE, text=True)


def test_a_verb_runs_on_the_cluster_and_ends_as_it_does_there(hosts: Hosts, tmp_path: Path) -> None:
    for words, status, told in (
        (["doctor", "--quick"], 0, "Python"),
        (["report", "missing"], 2, f"No run 'missing' in {tmp_path}/"),
    ):
        job = submit(hosts, tmp_path, *words)
        out, _ = job.communicate(timeout=120)
        assert (job.returncode, told in out) == (status, True), out


def test_a_run_spreads_over_hosts_and_outlives_one_of_them(hosts: Hosts, tmp_path: Path) -> None:
    """Ranks on two hosts; after the first checkpoint one of these is cut off, and the run ends on the others, all steps done."""
    run = tmp_path / "rlvr/first"
    job = submit(hosts, tmp_path, "train", "rlvr", "name=first", *RUN)
    until = time.monotonic() + RUN_S
    while not (run / "checkpoints/LATEST").exists():
        assert job.poll() is None, job.communicate()[0]
        assert time.monotonic() < until
        time.sleep(1)
    assert not any(hosts.head.runs(what) for what in (DRIVER, RANK, SERVER))
    with_rank = [host for host in hosts.workers if host.runs(RANK)]
    assert len(with_rank) == 2
    next(host for host in with_rank if not host.runs(DRIVER)).kill()
    out, _ = job.communicate(timeout=until - time.monotonic())
    assert job.returncode == 0, out
    assert "restart 1 of 2" in out
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(13))  # the evaluation before the first step, and each step once
    assert json.loads((run / "summary.json").read_text())["status"] == "finished"
