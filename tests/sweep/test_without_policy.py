"""A sweep whose first node teaches a judge and has no policy: no score is asked of it, and what it taught is found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import ConfigError
from orchestrator.records import jsonl
from orchestrator.sweep.driver import run_sweep
from orchestrator.sweep.folder import SweepFolder
from orchestrator.sweep.graph import configs_of
from orchestrator.sweep.journal import FINISHED, Journal
from orchestrator.sweep.spec import Node, Sweep
from orchestrator.sweep.summary import summarise


def sweep_of(name: str, judge: str = "node:judge@judge") -> Sweep:
    """A judge, and a policy that asks it."""
    light = {"learner.ranks": 1, "learner.cpus_per_rank": 0.1, "judge.fleet.cpus_per_server": 0.1}
    policy = {**light, "steps": 1, "rollout.fleet.cpus_per_server": 0.1, "judge.name": judge}
    return Sweep(
        name,
        (
            Node("judge", "rlvr.judge", light, {"": {}}, (0,)),
            Node("policy", "rlvr", policy, {"": {}}, (0,), inputs=("judge",)),
        ),
    )


def test_a_judge_of_its_own_is_a_node_like_any_other(ray_cluster: Any, tmp_path: Path) -> None:
    """The judge's run writes no eval/oracle, which the sweep goes by. Another sweep with the same runs starts none."""

    # Inside the test: a trial's process cannot import what lies beside it.
    def body(config: Any, checkpoint: Path | None, folder: Any) -> int:
        from orchestrator.config.compose import to_values
        from orchestrator.records import jsonl
        from orchestrator.records.folder import RunFolder, write_json
        from orchestrator.records.metrics import MetricsLog

        storage = Path(config.storage)
        run = RunFolder.create(storage, config.workload, str(config.name), to_values(config))
        taught = storage / ".cache" / "taught" / "one"
        taught.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            (taught / name).write_text("{}")
        write_json(run.models, {"judge": str(taught.relative_to(storage))})
        score = {"judge/accuracy": 0.9} if config.workload == "rlvr.judge" else {"eval/oracle": 0.5}
        MetricsLog(run.metrics_log).append(config.steps, score)
        jsonl.LineLog(storage / "begun.jsonl").append({"run": run.name, "judge": config.judge.name})
        write_json(run.summary, {"status": "finished"})
        return 0

    assert run_sweep(sweep_of("first"), tmp_path, False, "again", body) == 0
    begun = jsonl.read(tmp_path / "begun.jsonl")
    assert [line["judge"] for line in begun] == ["mini", f"run:rlvr.judge/{begun[0]['run']}@judge"]
    assert run_sweep(sweep_of("second"), tmp_path, False, "again", body) == 0
    assert len(jsonl.read(tmp_path / "begun.jsonl")) == 2
    for name in ("first", "second"):
        folder = SweepFolder(tmp_path / "sweeps" / name)
        journal = Journal(folder.journal)
        assert [(one.stage, one.outcome, len(one.scores)) for one in journal.all()] == [
            ("judge", FINISHED, 0),
            ("policy", FINISHED, 1),
        ]
        taught, trained = summarise(sweep_of(name), folder, journal, {})["arms"]
        assert (taught["finished"], "score" in taught) == (1, False)
        assert trained["score"]["mean"] == 0.5


def test_what_has_no_policy_is_named_with_a_role(tmp_path: Path) -> None:
    assert configs_of(sweep_of("x"), tmp_path)["policy"][""].judge.name == "mini"
    with pytest.raises(ConfigError, match=r"the runs of judge have no policy\. Name a role: node:judge@judge"):
        configs_of(sweep_of("x", "node:judge"), tmp_path)
