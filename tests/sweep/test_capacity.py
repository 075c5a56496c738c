"""How many runs fit side by side, and that planning many on a large cluster is quick."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.cluster.plan import Bundle, Plan, make_plan
from orchestrator.cluster.preflight import Node, PreflightError, inventory
from orchestrator.config.schema import RunConfig
from orchestrator.sweep.capacity import at_once, largest
from orchestrator.sweep.graph import plan_of, runs_of, stages
from orchestrator.sweep.reading import read_sweep
from orchestrator.sweep.spec import Stage


def run_of(gpus: float, cpus: float = 1, judge: Bundle | None = None) -> Plan:
    return Plan((Bundle("policy", 1, cpus, gpus, ""), *([judge] if judge else [])))


def test_four_gpus_a_run_on_eight() -> None:
    assert at_once(run_of(4), inventory("8x80GB")) == 2
    assert at_once(run_of(4), inventory("8x80GB"), most=1) == 1
    assert at_once(run_of(4), inventory("8x80GB"), most=9) == 2
    with pytest.raises(PreflightError, match="no node has the 1 CPUs and 16 GPUs"):
        at_once(run_of(16), inventory("2x8x80GB"))


def test_what_no_node_has_room_for_is_not_counted() -> None:
    # 3 GPUs a server: two on a node of 8, four on both, though 16 / 3 = 5 by their sum.
    assert at_once(run_of(3), inventory("2x8x80GB")) == 4
    # By CPUs: 64 a node, 20 a server: three a node.
    assert at_once(run_of(1, cpus=20), inventory("2x8x80GB")) == 6


def test_what_is_shared_is_there_once() -> None:
    # 2 CPUs: two runs of 0.8 and one judge of 0.4. Were the judge of each run's own, 2 x 1.2 = 2.4 would not fit.
    judge = Bundle("judge", 1, 0.4, 0, "", shared=True)
    here = [Node("a", 2, 0)]
    assert at_once(run_of(0, 0.8, judge), here) == 2
    assert at_once(run_of(0, 0.8, Bundle("judge", 1, 0.4, 0, "")), here) == 1


def test_fractions_of_a_cpu_add_up() -> None:
    # 0.3 / 0.1 is 2.9999999999999996 in floats, and three runs.
    assert at_once(run_of(0, 0.1), [Node("a", 0.3, 0)]) == 3


def test_a_run_that_takes_nothing_is_bounded_by_what_is_asked() -> None:
    assert at_once(run_of(0, 0), [Node("a", 1, 0)], most=7) == 7


def test_the_largest_of_several_plans_has_room_for_any_of_them() -> None:
    config = RunConfig()
    config.learner.ranks = 1
    small = make_plan(config)
    config.rollout.fleet.gpus_per_server, config.judge.shared = 2, True
    wide = make_plan(config)
    plan = largest([small, wide, make_plan(RunConfig())])
    # Two ranks of the defaults, the policy's 2 GPUs, and a judge that is not everybody's.
    assert [(item.role, item.count, item.gpus, item.shared) for item in plan.bundles] == [
        ("driver", 1, 0, False),
        ("learner", 2, 0, False),
        ("policy", 1, 2, False),
        ("judge", 1, 0, False),
    ]
    assert largest([wide, wide]).bundles[3].shared
    assert not largest([wide, wide], apart=["judge"]).bundles[3].shared


def test_a_thousand_runs_on_64_nodes_are_planned_in_seconds(tmp_path: Path) -> None:
    # 4 GPUs: 3 ranks and a server; 8: 6 ranks and a server of 2; 16 on two nodes: 8 ranks and 4 servers of 2. Of any of them: 8 ranks,
    # and 4 servers of 2 GPUs: 16 GPUs, 512 / 16 = 32 runs at once. Of the first alone 128.
    path = tmp_path / "large.yaml"
    path.write_text("""
target: rlvr
settings: {judge: "http://localhost:8000/v1", learner.gpus_per_rank: 1, cluster.inventory: 64x8x80GB}
runs:
  policy:
    seeds: 0..333
    arms:
      four: {learner.ranks: 3, rollout.fleet.gpus_per_server: 1}
      eight: {learner.ranks: 6, rollout.fleet.gpus_per_server: 2}
      sixteen: {learner.ranks: 8, rollout.fleet: {servers: 4, gpus_per_server: 2}}
""")
    began = time.process_time()
    sweep = read_sweep(str(path))
    (stage,) = stages(sweep)
    runs = runs_of(sweep, stage, [], tmp_path / "runs")
    nodes = inventory("64x8x80GB")
    assert len({run.key for run in runs}) == 1002
    assert at_once(plan_of(sweep, stage, tmp_path), nodes) == 32
    assert at_once(plan_of(sweep, Stage(stage.node, "four"), tmp_path), nodes) == 128
    # 2.1 s of one idle core, 0.2 s of them for reading and fitting; a processor's second is longer on a busy machine.
    assert time.process_time() - began < 12


def test_nodes_of_different_sizes_and_roles_of_different_needs() -> None:
    # A run: a server of 4 GPUs and two ranks of 1. The node of 4 holds one server; that of 8 a server and 4 ranks, or two servers: two
    # runs need 2 x 4 + 4 x 1 = 12 GPUs, which is all. The node without a GPU holds the judges.
    nodes = [Node("small", 32, 4), Node("large", 64, 8), Node("cpu", 4, 0)]
    plan = Plan((Bundle("policy", 1, 1, 4, ""), Bundle("learner", 2, 1, 1, ""), Bundle("judge", 1, 2, 0, "")))
    assert at_once(plan, nodes) == 2
