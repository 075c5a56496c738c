"""What the tests of LoRA need DeepSpeed for, run in one start of two processes: two ranks first, then one.

What the results should be stands in test_lora.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from invented import invented_batch, preset
from two_ranks import join, tiny_model

from orchestrator.config.schema import AlgorithmConfig, LearnerConfig
from orchestrator.learning.batch import Batch
from orchestrator.learning.model import DTYPES, TokenScorer, load, save_folder, served_weights
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.rows import pack

if TYPE_CHECKING:
    from orchestrator.learning.engine import Engine
    from orchestrator.learning.policy import PolicyLearner

VOCABULARY = 48
LORA = {"lora_rank": 3, "lora_alpha": 6.0}
LEARNING_RATE = 3e-2
STEPS = 2
BUCKET = 4096
MICROBATCH = 64


class Case(NamedTuple):
    """Ranks, ZeRO stage, precision, and settings of the learner that are on."""

    ranks: int
    stage: int
    dtype: str = "float32"
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join(map(str, (self.ranks, self.stage, self.dtype, *self.options)))


OPTIONS = ("offload_optimizer", "offload_parameters", "gradient_checkpointing")
TWO_RANKS = [Case(2, 0), Case(2, 2), Case(2, 3), Case(2, 3, "float32", OPTIONS), Case(2, 3, "bfloat16")]
ONE_RANK = [Case(1, 1), Case(1, 3), Case(1, 2, "bfloat16")]
RESUMES = [
    (Case(2, 3), Case(2, 3)), (Case(2, 3, "bfloat16"), Case(2, 3, "bfloat16")), (Case(2, 3), Case(2, 0)),
    (Case(2, 2), Case(2, 3, "float32", OPTIONS)),
]  # fmt: skip
ONE_RANK_RESUMES = [
    (Case(1, 1), Case(1, 1)),
    (Case(2, 3), Case(1, 2)),
    (Case(2, 3, "bfloat16"), Case(1, 2, "bfloat16")),
]
REFERENCES = [("grpo", Case(2, 2)), ("grpo", Case(2, 3, "bfloat16")), ("flowrl", Case(2, 3))]
ON_TWO_RANKS = ("ppo", "flowrl")
"""Objectives that are tried under ZeRO-3 on two ranks: one with a second model, one with a head."""


def settings(case: Case, **changes: object) -> LearnerConfig:
    chosen: dict[str, Any] = {**LORA, **dict.fromkeys(case.options, True), **changes}
    return LearnerConfig(
        ranks=case.ranks, zero_stage=case.stage, learning_rate=LEARNING_RATE, tokens_per_microbatch=MICROBATCH, **chosen
    )


def algorithm_of(name: str = "grpo") -> AlgorithmConfig:
    return preset(
        name, kl_weight=0.1, critic_learning_rate=LEARNING_RATE, overlong_share=0.0, dynamic_sampling=False, minibatches=1,
        flow_dropout=0.0,
    )  # fmt: skip


def batch_of(name: str = "grpo") -> Batch:
    return invented_batch(algorithm_of(name), VOCABULARY)


def learner(
    rank: int, case: Case, folder: Path, objective: str = "grpo", separate: bool = False, **changes: object
) -> PolicyLearner:
    """Models of all stages are read from a folder, under ZeRO-3 sharded from their birth. separate: with a reference of its own."""
    from orchestrator.learning.policy import PolicyLearner

    config = settings(case, **changes)

    def start() -> TokenScorer:
        return load(folder / case.dtype, case.dtype, config)

    return PolicyLearner(
        start(), start() if separate else None, config, algorithm_of(objective),
        dtype=case.dtype, rank=rank, pad_id=0, max_logprob_gap=100.0, steps=9,
        critic=start() if OBJECTIVES[objective].critic else None,
    )  # fmt: skip


def served(engine: Engine) -> dict[str, torch.Tensor]:
    """The weights that servers get, with the sizes of their buckets kept below the limit."""
    weights: dict[str, torch.Tensor] = {}
    for bucket in engine.weights(served_weights(engine.module), BUCKET):
        assert len(bucket) == 1 or sum(tensor.nbytes for tensor in bucket.values()) <= BUCKET
        weights |= {name: tensor.clone() for name, tensor in bucket.items()}
    return weights


def frozen_weights(engine: Engine) -> dict[str, torch.Tensor]:
    chosen = [(name, weight) for name, weight in engine.module.named_parameters() if not weight.requires_grad]
    return {name: tensor.clone() for bucket in engine.weights(chosen, BUCKET) for name, tensor in bucket.items()}


def scores(policy: PolicyLearner, batch: Batch) -> Any:
    return policy.engine.score(policy._pack(batch.rows), batch.total)


def plain_scores(model: TokenScorer, batch: Batch, rank: int, ranks: int) -> Any:
    """Without any engine, on the same microbatches."""
    flat = torch.zeros((3, batch.total), dtype=torch.float64)
    with torch.no_grad():
        for microbatch in pack(batch.rows, rank, ranks, MICROBATCH, 0):
            real = microbatch.flat >= 0
            for column, values in zip(flat, model.eval()(microbatch), strict=True):
                column[microbatch.flat[real]] = values[real].double()
    torch.distributed.all_reduce(flat)
    return model.scores(*flat)


def train(rank: int, case: Case, folder: Path) -> dict[str, Any]:
    """Before any update, after two, and after the third; the folder of the second read by transformers."""
    batch, start = batch_of(), load(folder / case.dtype, case.dtype)
    policy = learner(rank, case, folder)
    base = scores(policy, batch).logprobs
    results: dict[str, Any] = {"starts": torch.equal(base, plain_scores(start, batch, rank, case.ranks).logprobs)}
    results["serves the start"] = served(policy.engine)
    updates = [policy.update(batch, 0) for _ in range(STEPS)]
    results |= {"state": dict(policy.state()), "second": served(policy.engine), "frozen": frozen_weights(policy.engine)}
    merged = folder / f"{case.name}-merged"
    if rank == 0:
        save_folder(results["second"], folder / case.dtype, merged)
    torch.distributed.barrier()
    with_adapters, loaded = scores(policy, batch), plain_scores(load(merged, case.dtype), batch, rank, case.ranks)
    results["gap"] = {
        name: float((getattr(with_adapters, name) - getattr(loaded, name)).abs().max())
        for name in ("logits", "logprobs")
    }
    results["moved"] = float((with_adapters.logprobs - base).abs().max())
    updates.append(policy.update(batch, 0))
    results |= {"third": dict(policy.state()), "norms": [update["policy/grad_norm"] for update in updates]}
    results["kl"] = [update["policy/kl"] for update in updates]
    return results


def resume(rank: int, case: Case, state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A fresh engine takes over the state of two updates, makes the third, and ends with this state."""
    policy = learner(rank, case, folder)
    policy.load_state(lambda: reversed(state.items()), STEPS)
    loaded, weights = dict(policy.state()), served(policy.engine)
    policy.update(batch_of(), 0)
    return {"loaded": loaded, "served": weights, "third": dict(policy.state())}


def references(rank: int, name: str, case: Case, folder: Path) -> dict[str, Any]:
    """The same updates with the model without adapters as reference, and with a second model."""
    found: dict[str, Any] = {}
    for separate in (False, True):
        policy = learner(rank, case, folder, name, separate)
        updates = [policy.update(batch_of(name), 0) for _ in range(STEPS)]
        found[str(separate)] = {
            "kl": [update["policy/kl"] for update in updates],
            "second model": policy.reference is not None,
            "state": dict(policy.state()),
        }
    return found


def objective(rank: int, name: str, case: Case, folder: Path) -> dict[str, Any]:
    """Two updates of an objective; a fresh learner takes over its state, and gives it back."""
    policy = learner(rank, case, folder, name)
    before = served(policy.engine)
    updates = [policy.update(batch_of(name), 0) for _ in range(STEPS)]
    state, after = dict(policy.state()), served(policy.engine)
    fresh = learner(rank, case, folder, name)
    fresh.load_state(lambda: iter(state.items()), policy.optimizer_steps)
    taken_over = dict(fresh.state())
    return {
        "names": sorted(state),
        "same names": before.keys() == after.keys(),
        "changed": sorted(key for key in before if not torch.equal(before[key], after[key])),
        "taken over": all(torch.equal(state[key][slot], taken_over[key][slot]) for key in state for slot in state[key]),
        "served alike": all(torch.equal(after[key], tensor) for key, tensor in served(fresh.engine).items()),
        "metrics": updates[-1],
    }


def work(rank: int, ports: tuple[int, int], folder: Path) -> None:
    """Rank 0 saves all results."""
    import deepspeed

    from orchestrator.learning import zero

    torch.set_num_threads(1)
    # Else all of so small a model stays whole, and nothing is ever gathered.
    zero.PERSISTENT_ELEMENTS = 0
    join(rank, 2, ports[0])
    if rank == 0:
        for dtype in ("float32", "bfloat16"):
            tiny_model().language_model.to(DTYPES[dtype]).save_pretrained(folder / dtype)
    torch.distributed.barrier()
    trained = {case.name: train(rank, case, folder) for case in TWO_RANKS}
    resumed = {
        f"{source.name} to {case.name}": resume(rank, case, trained[source.name]["state"], folder)
        for source, case in RESUMES
    }
    compared = {f"{name} {case.name}": references(rank, name, case, folder) for name, case in REFERENCES}
    objectives = {f"{name} 2": objective(rank, name, Case(2, 3), folder) for name in ON_TWO_RANKS}
    deepspeed.comm.destroy_process_group()
    if rank:
        return
    join(0, 1, ports[1])
    trained |= {case.name: train(0, case, folder) for case in ONE_RANK}
    resumed |= {
        f"{source.name} to {case.name}": resume(0, case, trained[source.name]["state"], folder)
        for source, case in ONE_RANK_RESUMES
    }
    objectives |= {f"{name} 1": objective(0, name, Case(1, 2), folder) for name in OBJECTIVES}
    deepspeed.comm.destroy_process_group()
    start = {
        dtype: dict(load(folder / dtype, dtype).language_model.named_parameters()) for dtype in ("float32", "bfloat16")
    }
    results = {"start": start, "trained": trained, "resumed": resumed, "references": compared, "objectives": objectives}
    torch.save(results, folder / "results.pt")
