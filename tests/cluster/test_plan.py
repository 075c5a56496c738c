"""What a run needs and whether it fits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.cluster import preflight
from orchestrator.cluster.plan import Bundle, Plan, make_plan, plan_rows
from orchestrator.cluster.preflight import (
    CPUS_PER_GPU,
    KEYS,
    Node,
    PreflightError,
    check_fit,
    inventory,
    keys_for,
    local_node,
)
from orchestrator.config.keys import keys_of
from orchestrator.config.schema import FleetConfig, LearnerConfig, RunConfig
from orchestrator.errors import ConfigError
from orchestrator.values import JUDGE


def test_mini_needs_two_cpus() -> None:
    # 2 ranks x 0.5 + policy 0.5 + judge 0.5 + driver 0 = 2 CPUs.
    plan = make_plan(RunConfig())
    assert [(item.role, item.count, item.cpus, item.gpus) for item in plan.bundles] == [
        ("driver", 1, 0, 0),
        ("learner", 2, 0.5, 0),
        ("policy", 1, 0.5, 0),
        ("judge", 1, 0.5, 0),
    ]
    assert (plan.cpus, plan.gpus) == (2, 0)
    assert plan_rows(plan)[-1] == ("in all", "5", "2", "0", "")
    # 8 tasks x 8 samples = 64 episodes, 60 steps: 3,840; 64 x 64 tokens = 4,096.
    assert plan.facts[0].endswith("3,840 in all")
    assert "4,096" in plan.facts[1]


def test_a_url_needs_nothing_here() -> None:
    config = RunConfig()
    config.judge.name = "http://localhost:8000/v1"
    plan = make_plan(config)
    assert "judge" not in [item.role for item in plan.bundles]
    assert "http://localhost:8000/v1" in plan.facts[-1]


def test_gpus_are_counted_per_server_and_rank() -> None:
    config = RunConfig(learner=LearnerConfig(ranks=4, gpus_per_rank=1, cpus_per_rank=2))
    config.rollout.fleet = FleetConfig(servers=2, gpus_per_server=2, cpus_per_server=1)
    config.judge.fleet = FleetConfig(servers=1, gpus_per_server=1, cpus_per_server=1)
    # 4 x 1 + 2 x 2 + 1 = 9 GPUs; 4 x 2 + 2 x 1 + 1 = 11 CPUs.
    plan = make_plan(config)
    assert (plan.gpus, plan.cpus) == (9, 11)
    assert "tensor-parallel over 2 GPUs" in plan.bundles[2].what


def placed(plan: Plan, nodes: list[Node]) -> dict[str, list[str]]:
    where: dict[str, list[str]] = {}
    placements = check_fit(plan, nodes)
    free = {node.id: [node.cpus, node.gpus] for node in nodes}
    needs = {item.role: item for item in plan.bundles}
    for item in placements:
        where.setdefault(item.role, []).append(item.node)
        free[item.node][0] -= needs[item.role].cpus
        free[item.node][1] -= needs[item.role].gpus
    assert all(cpus > -1e-6 and gpus >= 0 for cpus, gpus in free.values())
    assert {role: len(nodes) for role, nodes in where.items()} == {item.role: item.count for item in plan.bundles}
    return where


def test_two_nodes_of_four_gpus() -> None:
    nodes = [Node("a", 32, 4), Node("b", 32, 4)]
    four = Bundle("policy", 1, 4, 4, "")
    where = placed(Plan((Bundle("learner", 4, 1, 1, ""), four)), nodes)
    assert len(set(where["learner"])) == 1
    assert set(where["learner"]).isdisjoint(where["policy"])
    # The sums fit (3 + 3 + 2 = 8), but two servers of 3 leave 1 + 1, and a server of 2 fits on neither.
    split = Plan((Bundle("policy", 2, 1, 3, ""), Bundle("judge", 1, 1, 2, "")))
    with pytest.raises(PreflightError, match="no split over the nodes fits"):
        check_fit(split, nodes)


def test_an_order_that_greed_by_gpus_would_miss() -> None:
    # Largest GPUs first puts the 2-GPU server beside no one; CPU-heavy judges need the node that ranks would fill.
    nodes = [Node("a", 4, 2), Node("b", 8, 2)]
    plan = Plan((Bundle("learner", 2, 2, 1, ""), Bundle("policy", 1, 8, 2, "")))
    assert placed(plan, nodes) == {"policy": ["b"], "learner": ["a", "a"]}


def test_what_needs_no_gpu_goes_where_there_is_none() -> None:
    nodes = [Node("gpu", 4, 1), Node("cpu", 4, 0)]
    where = placed(Plan((Bundle("judge", 4, 1, 0, ""), Bundle("learner", 1, 4, 1, ""))), nodes)
    assert where == {"learner": ["gpu"], "judge": ["cpu"] * 4}


def test_fractions_add_up() -> None:
    # 10 x 0.1 CPU is exactly one CPU, whatever floats make of it.
    assert len(check_fit(Plan((Bundle("policy", 10, 0.1, 0, ""),)), [Node("a", 1, 0)])) == 10


def test_too_much_names_what_is_short_and_what_to_lower() -> None:
    plan = make_plan(RunConfig(learner=LearnerConfig(ranks=8, gpus_per_rank=1)))
    with pytest.raises(PreflightError) as caught:
        check_fit(plan, [Node("a", 64, 4)])
    message = str(caught.value)
    assert "it asks for 8 GPUs and there are 4. Lower learner.ranks, or use more nodes." in message
    assert "learner" in message.splitlines()[3]
    with pytest.raises(PreflightError, match="it asks for 2 CPUs and there are 1"):
        check_fit(make_plan(RunConfig()), [Node("a", 1, 0)])
    with pytest.raises(PreflightError, match="no node has the"):
        check_fit(Plan((Bundle("policy", 1, 1, 8, ""),)), inventory("2x4x80GB"))
    with pytest.raises(PreflightError, match="there is no node at all"):
        check_fit(make_plan(RunConfig()), [])
    with pytest.raises(PreflightError, match="more than"):
        check_fit(Plan((replace(plan.bundles[1], count=10**9),)), [Node("a", 1, 1)])


def test_keys_in_messages_exist() -> None:
    keys = keys_of(RunConfig)
    assert all(key in keys for role in (*KEYS, JUDGE) for key in keys_for(role))


def test_inventory() -> None:
    assert inventory("1x24GB") == [Node("node-1", CPUS_PER_GPU, 1, 24.0)]
    two = inventory("2x8x80GB")
    assert [(node.id, node.gpus, node.cpus) for node in two] == [("node-1", 8, 64), ("node-2", 8, 64)]
    for text in ("", "8", "8x80", "axb", "0x8x80GB", "-1x80GB", "999999x8x80GB"):
        with pytest.raises(ConfigError, match=r"cluster\.inventory"):
            inventory(text)


def test_this_machine_has_cpus() -> None:
    assert local_node().cpus >= 1


def test_the_gpu_build_of_vllm_cannot_serve_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(RunConfig())
    preflight.check_engines(plan)
    monkeypatch.setattr(preflight, "_installed", lambda package: False)
    with pytest.raises(PreflightError, match=r"rollout\.fleet\.gpus_per_server, judge\.fleet\.gpus_per_server"):
        preflight.check_engines(plan)


def test_colocated_servers_take_nothing_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    config = RunConfig(learner=LearnerConfig(ranks=4, gpus_per_rank=1, cpus_per_rank=2))
    config.placement.name = "colocated"
    config.rollout.fleet = FleetConfig(servers=4, gpus_per_server=1)
    config.judge.fleet = FleetConfig(servers=2, gpus_per_server=2)
    # The learner's 4 GPUs and 8 CPUs, and nothing else.
    plan = make_plan(config)
    assert (plan.gpus, plan.cpus) == (4, 8)
    assert "GPU of the learner's" in plan.bundles[2].what
    assert "tensor-parallel over 2 GPUs of the learner's" in plan.bundles[3].what
    assert check_fit(plan, inventory("4x80GB"))
    # They are not servers on the CPU.
    monkeypatch.setattr(preflight, "_installed", lambda package: False)
    preflight.check_engines(plan)
    config.learner.gpus_per_rank = 0
    with pytest.raises(PreflightError, match="GPU build"):
        preflight.check_engines(make_plan(config))


def test_a_shared_judge_takes_its_own_beside_colocated_servers() -> None:
    """The learner's 4 GPUs, and two servers of 2 GPUs and half a CPU each."""
    config = RunConfig(learner=LearnerConfig(ranks=4, gpus_per_rank=1, cpus_per_rank=2))
    config.placement.name = "colocated"
    config.rollout.fleet = FleetConfig(servers=4, gpus_per_server=1)
    config.judge.fleet = FleetConfig(servers=2, gpus_per_server=2, cpus_per_server=0.5)
    config.judge.shared = True
    plan = make_plan(config)
    assert (plan.gpus, plan.cpus) == (8, 9)
    assert [bundle.role for bundle in plan.bundles if bundle.shared] == ["judge"]
