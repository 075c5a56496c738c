"""The study's sizes, small and paper: every method fits the machines that they are for, and is given the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cluster.cost import cost_of
from orchestrator.cluster.needs import needs_of
from orchestrator.cluster.plan import make_plan
from orchestrator.cluster.preflight import check_fit, check_memory, inventory
from orchestrator.config.compose import compose
from orchestrator.config.keys import values_of
from orchestrator.config.schema import RunConfig
from orchestrator.tables import Column
from workloads.rlvr.table1 import TABLE1

METHODS = ("ppo", "grpo", "reinforce_pp", "dapo", "flowrl")
LLAMA = "model=hf:meta-llama/Llama-3.1-8B-Instruct"


@pytest.fixture
def composed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").touch()
    return lambda *settings: compose("rlvr", ["data.path=d.csv", *settings])


def checked(config: RunConfig) -> float:
    """GPU-hours of a run that fits the machine that it plans for."""
    nodes = inventory(str(config.cluster.inventory))
    memory = nodes[0].gpu_memory_gb
    assert memory
    plan = make_plan(config)
    check_fit(plan, nodes)
    assert plan.gpus == sum(node.gpus for node in nodes)
    needs = needs_of(config, memory)
    check_memory(needs)
    assert needs.unknown == ()
    cost = cost_of(config, memory)
    assert cost
    return cost.gpu_hours


@pytest.mark.parametrize("model", [(), (LLAMA,)], ids=["qwen", "llama"])
@pytest.mark.parametrize("method", METHODS)
def test_the_published_size_fits_eight_gpus_of_80_gb(composed, method: str, model: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    config = composed("preset=paper", f"algorithm={method}", *model)
    assert config.cluster.inventory == "8x80GB"
    assert config.model.name == (model[0].removeprefix("model=") if model else "hf:Qwen/Qwen2.5-7B")
    # 51,200 answers; ppo's critic makes it the dearest
    assert 15 < checked(config) < 60
    # that the machine is named changes nothing
    named = composed("preset=paper", f"algorithm={method}", "hardware=8x80GB", *model)
    assert values_of(named) == values_of(config)


def test_every_method_is_given_the_same() -> None:
    """But for what its own preset says of the objective."""
    given = [
        {
            key: value
            for key, value in values_of(
                compose("rlvr", ["preset=paper", "data.path=hf:a/b", f"algorithm={name}"])
            ).items()
            if not key.startswith("algorithm.") or key == "algorithm.minibatches"
        }
        for name in METHODS
    ]
    assert all(other == given[0] for other in given)
    # several updates a batch: with one no clip would ever act
    assert given[0]["algorithm.minibatches"] == 4
    assert given[0]["rollout.prompts_per_step"] * given[0]["rollout.samples_per_prompt"] * given[0]["steps"] == 51200


@pytest.mark.parametrize(
    ("settings", "machine", "hours"),
    [((), "1x24GB", 2), (("hardware=1x80GB",), "1x80GB", 2), (("hardware=1x80GB", "algorithm=ppo"), "1x80GB", 2)],
)
def test_the_small_size_fits_one_gpu_for_at_most_two_hours(  # type: ignore[no-untyped-def]
    composed, settings: tuple[str, ...], machine: str, hours: float
) -> None:
    config = composed("preset=small", *settings)
    assert config.cluster.inventory == machine
    assert (config.model.name, config.learner.lora_rank) == ("hf:Qwen/Qwen3-1.7B", 16)
    assert (config.data.source, config.splits()) == ("morebench", ("train", "eval", "test"))
    assert config.eval.test_samples_per_task == 8
    assert checked(config) <= hours


@pytest.mark.parametrize("preset", ["study", "small", "paper"])
def test_as_many_answers_are_sampled_as_table_1_is_of(preset: str) -> None:
    """At step 0, where the best of 8 is taken, on validation too; on test dilemmas always."""
    others = ["judge.shared=false"] if preset == "study" else ["data.path=hf:a/b"]
    config = compose("rlvr", [f"preset={preset}", *others])
    best = max(row.best_of or 1 for row in TABLE1.rows)
    assert config.eval.best_of >= best == 8
    assert config.eval.test_samples_per_task >= max(
        best, *(column.samples or 1 for column in TABLE1.columns if isinstance(column, Column))
    )
