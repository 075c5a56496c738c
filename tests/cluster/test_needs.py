"""Tables of memory, refusals, and the presets of hardware, whose dry runs must fit."""

from __future__ import annotations

import pytest

from orchestrator.cluster.cost import cost_of
from orchestrator.cluster.memory import GB
from orchestrator.cluster.needs import HEADROOM, REMEDIES, MemoryNeed, memory_rows, needs_of
from orchestrator.cluster.plan import make_plan
from orchestrator.cluster.preflight import check_fit, check_memory, inventory
from orchestrator.config.compose import compose
from orchestrator.config.keys import keys_of
from orchestrator.config.layers import CORE_PRESETS
from orchestrator.config.schema import RunConfig
from orchestrator.errors import PreflightError

HARDWARE = sorted(path.stem for path in (CORE_PRESETS / "hardware").glob("*.yaml"))


def test_there_are_presets_for_four_machines() -> None:
    assert HARDWARE == ["1x24GB", "1x80GB", "2x8x80GB", "8x80GB"]


@pytest.mark.parametrize("name", HARDWARE)
def test_a_machines_settings_fit_it(name: str) -> None:
    config = compose("rlvr", [f"hardware={name}"])
    assert config.cluster.inventory == name
    nodes = inventory(name)
    memory = nodes[0].gpu_memory_gb
    assert memory
    plan = make_plan(config)
    check_fit(plan, nodes)
    # The whole machine is used.
    assert plan.gpus == sum(node.gpus for node in nodes)
    needs = needs_of(config, memory)
    check_memory(needs)
    assert needs.unknown == ()
    assert [column.device for column in needs.columns] == ["learner rank", "learner rank"]
    # A model that is taken in a smaller size would leave most of the memory unused.
    assert max(column.total for column in needs.columns) > 0.85 * memory * GB
    cost = cost_of(config, memory)
    assert cost
    assert cost.gpu_hours == pytest.approx(cost.hours * plan.gpus)
    # A server never spans nodes.
    for role in config.roles().values():
        assert nodes[0].gpus % role.fleet.gpus_per_server == 0


def test_a_split_run_has_devices_for_each() -> None:
    gpus = ["placement=split", "rollout.fleet.servers=2", "judge.fleet.servers=1", "learner.ranks=4"]
    config = compose("rlvr", ["hardware=8x80GB", *gpus, "rollout.fleet.gpu_memory_share=0.9"])
    needs = needs_of(config, 80)
    assert [column.device for column in needs.columns] == ["learner rank", "policy server", "judge server"]
    # 0.9 x 80.
    assert needs.columns[1].total == pytest.approx(72 * GB)
    assert all("asleep" not in part and "sleeping" not in part for column in needs.columns for part in column.parts)
    check_memory(needs)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["rollout.fleet.gpu_memory_share=0.6"], "Largest is KV cache"),
        (
            ["learner.gradient_checkpointing=false", "learner.tokens_per_microbatch=65536"],
            "gradient_checkpointing=true",
        ),
        (["learner.zero_stage=2", "judge.fleet.gpu_memory_share=0.3"], "servers awake"),
        (["rollout.fleet.gpu_memory_share=0.2"], "policy server's cache holds 0 tokens"),
    ],
)
def test_what_does_not_fit_names_the_largest_part(overrides: list[str], words: str) -> None:
    with pytest.raises(PreflightError, match="does not fit") as caught:
        check_memory(needs_of(compose("rlvr", ["hardware=8x80GB", *overrides]), 80))
    assert words in str(caught.value)


def test_remedies_name_settings_that_exist() -> None:
    import re

    keys = keys_of(RunConfig)
    for remedy in REMEDIES.values():
        named = re.findall(r"\b[a-z]+\.[a-z_]+", remedy)
        assert named or "lower" in remedy
        assert set(named) <= set(keys)


def test_what_an_objective_keeps_beside_the_policy() -> None:
    """GRPO with its KL penalty a frozen copy, without it none; FlowRL one whatever the weight is, unless its prior is another;
    PPO a critic with its optimizer, and that is what is largest.
    """

    def parts(*overrides: str) -> dict[str, int]:
        (column,) = (
            column
            for column in needs_of(compose("rlvr", ["hardware=8x80GB", *overrides]), 80).columns
            if column.phase.startswith("learning")
        )
        return {name: size for name, size in column.parts.items() if name in ("reference model", "critic", "weights")}

    plain = parts("algorithm.kl_weight=0")
    assert plain.keys() == {"weights"}
    with_reference = plain | {"reference model": plain["weights"]}
    assert parts("algorithm.kl_weight=0.1") == with_reference
    assert parts("algorithm=flowrl") == with_reference
    assert parts("algorithm=flowrl", "algorithm.flow_prior=old") == plain
    critic = parts("algorithm=ppo", "algorithm.kl_weight=0")["critic"]
    # 2 bytes of weights, 12 of the optimizer and 4 of the resting gradient, of which eight ranks hold an eighth.
    assert critic > 4 * plain["weights"]
    with pytest.raises(PreflightError, match="does not fit"):
        check_memory(needs_of(compose("rlvr", ["hardware=8x80GB", "algorithm=ppo"]), 80))


def test_mini_needs_megabytes() -> None:
    needs = needs_of(compose("rlvr"), None)
    assert [(column.device, column.phase.split(" (")[0]) for column in needs.columns] == [
        ("learner rank", "teaching the policy"),
        ("learner rank", "teaching the judge"),
        ("learner rank", "learning"),
        ("policy server", "answering"),
        ("judge server", "answering"),
    ]
    assert all(column.capacity is None and column.fits for column in needs.columns)
    assert needs.columns[2].total < GB
    assert cost_of(compose("rlvr"), 80) is None


def test_an_unknown_shape_is_said() -> None:
    needs = needs_of(compose("rlvr", ["hardware=8x80GB", "judge=hf:someone/else"]), 80)
    assert "hf:someone/else (judge) is not known here" in needs.unknown[0]
    assert cost_of(compose("rlvr", ["hardware=8x80GB", "judge=hf:someone/else"]), 80) is None


def test_rows() -> None:
    # 100 GB with 6 % free: 94 may be used.
    columns = [
        MemoryNeed("a", "x", {"weights": 90 * GB, "logits": 5 * GB}, 100 * GB),
        MemoryNeed("b", "y", {"logits": 1}, None),
    ]
    assert HEADROOM == 0.06
    assert memory_rows(columns) == [
        ("weights", "90.00", ""),
        ("logits", "5.00", "0.00"),
        ("in all", "95.00", "0.00"),
        ("may use (94%)", "94.00", ""),
    ]
    assert [column.fits for column in columns] == [False, True]
    assert columns[0].remedy.startswith("Largest is weights, 90.0 GB: shard them")


def test_a_policy_that_gets_adapters_alone_sleeps_in_the_hosts_memory_too() -> None:
    """Qwen3-0.6B has 0.596 billion parameters of 2 bytes. The judge keeps its 1.19 GB on the host while it sleeps; a policy that
    gets its merged weights anew drops its own, one that gets adapters keeps them: 2.4 GB. What is offloaded adds 0.12."""
    told = {}
    for form in ("merged", "adapter"):
        config = compose("rlvr", ["hardware=1x24GB", "learner.lora_rank=16", f"sync.lora={form}"])
        told[form] = next(fact for fact in needs_of(config, 24).facts if fact.startswith("host memory"))
    assert told == {
        form: f"host memory of all nodes: {size} GB for what is offloaded or sleeps"
        for form, size in (("merged", 1), ("adapter", 3))
    }


def test_the_servers_of_a_shared_judge_are_not_on_the_learners_gpus() -> None:
    """1x24GB is colocated: policy and judge lie beside the learner, a shared judge has a GPU of its own."""
    own, shared = (
        needs_of(compose("rlvr", ["hardware=1x24GB", "judge=hf:Qwen/Qwen3-0.6B", *more]), 24).columns
        for more in ([], ["judge.shared=true"])
    )
    awake = [next(column for column in columns if column.phase == "servers awake") for columns in (own, shared)]
    (judge,) = (column for column in shared if column.device == "judge server")
    assert not [column for column in own if column.device == "judge server"]
    assert awake[0].total - awake[1].total == judge.total
    assert judge.capacity == 24 * GB
