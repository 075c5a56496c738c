"""What the tests of the engine and of ZeRO need several ranks for, run in one start of two processes.

Each case writes tensors or plain numbers to a file of its name; what they should be stands in the tests.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from invented import invented_batch, preset
from rated import answered

from orchestrator.config.schema import AlgorithmConfig, LearnerConfig
from orchestrator.errors import RunError
from orchestrator.learning.batch import Batch
from orchestrator.learning.model import DTYPES, TokenScorer, build, load, served_weights
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.rows import Row

if TYPE_CHECKING:
    from orchestrator.learning.policy import PolicyLearner

LEARNING_RATE = 1e-2
MAX_GRAD_NORM = 0.5
STEPS = 2
CHUNK = 3 * 48
"""Elements of logits at once under the option `chunks`: those of three targets."""


class Case(NamedTuple):
    """Ranks, ZeRO stage, tokens a microbatch, and options: settings of the learner that are on, `chunks`, `frozen`."""

    ranks: int
    stage: int
    tokens: int
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return "-".join(map(str, (self.ranks, self.stage, self.tokens, *self.options)))


OFFLOADED = ("offload_optimizer", "offload_parameters")
RECOMPUTED = ("gradient_checkpointing", "chunks")

# Each trains alike; then fresh engines go on from the state of the case beside them.
TWO_RANKS = [Case(2, 0, 10**6), Case(2, 1, 10**6), Case(2, 2, 10**6), Case(2, 2, 32), Case(2, 3, 32)]
TWO_RANKS += [Case(2, 2, 32, (*RECOMPUTED, "offload_optimizer")), Case(2, 3, 32, OFFLOADED), Case(2, 3, 32, RECOMPUTED)]
TWO_RANKS_RESUMES = [
    *((case, case) for case in TWO_RANKS[:-1]),
    (Case(2, 0, 10**6), Case(2, 3, 32)), (Case(2, 3, 32), Case(2, 2, 32)), (Case(2, 2, 32), Case(2, 0, 10**6)),
]  # fmt: skip
ONE_RANK = [Case(1, 0, 24), Case(1, 2, 10**6)]
ONE_RANK_RESUMES = [
    (Case(1, 2, 10**6), Case(2, 3, 32)), (Case(1, 0, 24), Case(2, 2, 32)), (Case(1, 3, 24), Case(2, 1, 10**6)),
    (Case(1, 2, 10**6), Case(1, 2, 10**6)), (Case(1, 2, 10**6), Case(2, 3, 32, OFFLOADED)),
    (Case(1, 3, 24, OFFLOADED), Case(2, 2, 32)),
]  # fmt: skip
FROZEN = [Case(2, 2, 32, ("frozen",)), Case(2, 3, 32, ("frozen",))]

OBJECTIVES_ON_RANKS = {
    # Several optimizer steps, so that ratios move and Adam sees each step's gradient.
    "gspo": preset("gspo", clip_low=0.02, clip_high=0.02, minibatches=3),
    "ppo": preset("ppo", minibatches=2, critic_learning_rate=LEARNING_RATE),
    "flowrl": preset("flowrl", minibatches=2, flow_dropout=0.0, beta=1),
}
OBJECTIVES_CASES = [Case(2, 2, 32), Case(2, 3, 32), Case(1, 2, 10**6)]


def tiny_model(tied: bool = True) -> TokenScorer:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=48, hidden_size=15, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=0.2, attn_implementation="sdpa",
    )  # fmt: skip
    return TokenScorer(Qwen3ForCausalLM(config))


def freeze_all_but_the_last_layer(model: TokenScorer) -> TokenScorer:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".layers.1." in name)
    return model


def tiny_batch() -> Batch:
    """Nine episodes of unequal lengths in three groups, with log-probabilities that put some ratios outside the clip."""
    generator = torch.Generator().manual_seed(1)
    rows, episodes = [], []
    for episode in range(9):
        prompt = torch.randint(3, 48, (4 + episode // 3,), generator=generator).tolist()
        completion = torch.randint(3, 48, (2 + (5 * episode) % 7,), generator=generator).tolist()
        rows.append(Row(tuple(prompt), (tuple(completion),), (len(completion),)))
        episodes += [episode] * len(completion)
    rewards = torch.rand(9, generator=generator, dtype=torch.float64)
    behaviour = -3.9 + 0.3 * torch.randn(len(episodes), generator=generator, dtype=torch.float64)
    versions, lengths = torch.zeros(len(episodes), dtype=torch.int64), torch.tensor([row.targets for row in rows])
    return Batch(
        tuple(rows), torch.arange(9), behaviour, versions, rewards, torch.arange(9) // 3, lengths, 8, 1.0
    )  # fmt: skip


def settings(case: Case) -> LearnerConfig:
    on = dict.fromkeys(set(case.options) - {"chunks", "frozen"}, True)
    return LearnerConfig(
        ranks=case.ranks, zero_stage=case.stage, learning_rate=LEARNING_RATE, tokens_per_microbatch=case.tokens,
        max_grad_norm=MAX_GRAD_NORM, **on,
    )  # fmt: skip


def learner(rank: int, case: Case, algorithm: AlgorithmConfig | None = None) -> PolicyLearner:
    from orchestrator.learning.policy import PolicyLearner

    algorithm = algorithm or AlgorithmConfig(kl_weight=0.1)
    policy, reference = tiny_model(), tiny_model()
    if "chunks" in case.options:
        policy.logits_at_once = reference.logits_at_once = CHUNK
    if "frozen" in case.options:
        freeze_all_but_the_last_layer(policy)
    return PolicyLearner(
        policy, reference, settings(case), algorithm,
        dtype="float32", rank=rank, pad_id=0, max_logprob_gap=100.0, steps=STEPS + 1,
        critic=tiny_model() if OBJECTIVES[algorithm.name].critic else None,
    )  # fmt: skip


def snapshot(policy: PolicyLearner) -> dict[str, torch.Tensor]:
    buckets = policy.engine.weights(served_weights(policy.engine.module), 4096)
    weights = {name: tensor.clone() for bucket in buckets for name, tensor in bucket.items()}
    return weights | {f"{name}.{key}": tensor for name, slots in policy.engine.state() for key, tensor in slots.items()}


def train(rank: int, case: Case, folder: Path) -> None:
    """Writes weights and state after two updates, and after the third; the norms of all; runs of a layer in the third."""
    policy = learner(rank, case)
    updates = [policy.update(tiny_batch(), 0) for _ in range(STEPS)]
    results: dict[str, Any] = {"second": snapshot(policy), "state": dict(policy.engine.state())}
    runs: list[bool] = []
    layer: Any = policy.engine.module.get_submodule("language_model.model.layers.0.self_attn")
    layer.register_forward_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    updates.append(policy.update(tiny_batch(), 0))
    results |= {"third": snapshot(policy), "norms": [update["policy/grad_norm"] for update in updates]}
    results |= {"kl": [update["policy/kl"] for update in updates], "runs": len(runs)}
    if rank == 0:
        torch.save(results, folder / f"{case.name}.pt")
    torch.distributed.barrier()


def resume(rank: int, case: Case, source: Case, folder: Path) -> None:
    """A fresh engine takes over the state of `source` and makes the third update."""
    policy = learner(rank, case)
    state = torch.load(folder / f"{source.name}.pt")["state"]
    policy.engine.load_state(reversed(state.items()), STEPS)
    loaded = snapshot(policy)
    policy.update(tiny_batch(), 0)
    results = {"loaded": loaded, "third": snapshot(policy)}
    if rank == 0:
        torch.save(results, folder / f"{case.name}-after-{source.name}.pt")


def update_with(rank: int, case: Case, name: str, folder: Path) -> None:
    """One update of an objective from groups with several turns, an empty completion and equal rewards; its whole state, which
    a fresh learner then takes over."""
    algorithm = OBJECTIVES_ON_RANKS[name]
    policy = learner(rank, case, algorithm)
    metrics = policy.update(invented_batch(algorithm, 48), 0)
    state = dict(policy.state())
    fresh = learner(rank, case, algorithm)
    fresh.load_state(state.items, policy.optimizer_steps)
    again = dict(fresh.state())
    if rank == 0:
        served = [parameter for parameter, _ in served_weights(policy.engine.module)]
        results = {"metrics": metrics, "state": state, "again": again, "served": served}
        torch.save(results, folder / f"{name}-{case.name}.pt")
    torch.distributed.barrier()


def bad_states(folder: Path) -> None:
    """What `load_state` refuses, with the words it is to use."""
    policy = learner(0, Case(1, 2, 10**6))
    state = torch.load(folder / "2-2-32.pt")["state"]
    name = next(iter(state))
    wrong_shape = {key: tensor[:1] for key, tensor in state[name].items()}
    cases: list[tuple[str, dict[str, dict[str, torch.Tensor]], int]] = [
        ("lacks", {other: slots for other, slots in state.items() if other != name}, STEPS),
        ("another model", state | {"extra": state[name]}, STEPS),
        ("shape", state | {name: wrong_shape}, STEPS),
        ("expected", state | {name: {"master": state[name]["master"]}}, STEPS),
        ("expected", state, 0),
    ]
    for words, broken, steps in cases:
        with pytest.raises(RunError, match=words):
            policy.engine.load_state(broken.items(), steps)


def before_the_first_step() -> None:
    """State without moments is saved and loaded too, on every stage."""
    for case in [*(Case(1, stage, 10**6) for stage in range(4)), Case(1, 3, 10**6, OFFLOADED)]:
        fresh = dict(learner(0, case).engine.state())
        assert all(slots.keys() == {"master"} for slots in fresh.values())
        halved = {name: {"master": slots["master"] / 2} for name, slots in fresh.items()}
        policy = learner(0, case)
        policy.engine.load_state(halved.items(), 0)
        for name, slots in policy.engine.state():
            assert torch.equal(slots["master"], halved[name]["master"])


def sharded_models(rank: int, folder: Path) -> None:
    """Models that are read or built under ZeRO-3 beside plain ones: what this rank holds, and whether they are equal."""
    import deepspeed

    results: dict[str, Any] = {}
    for dtype, options in (("float32", ()), ("bfloat16", OFFLOADED)):
        config = settings(Case(2, 3, 32, options))
        source = folder / f"{dtype}-model"
        if rank == 0:
            tiny_model(tied=dtype == "float32").language_model.to(DTYPES[dtype]).save_pretrained(source)
        torch.distributed.barrier()
        pairs = {
            "load": (load(source, dtype), load(source, dtype, config)),
            "build": (build(source, 7, dtype), build(source, 7, dtype, config)),
        }
        for how, (plain, sharded) in pairs.items():
            whole, shards = dict(plain.named_parameters()), dict(sharded.named_parameters())
            held: dict[str, Any] = {
                name: (part.ds_numel, part.ds_tensor.numel(), part.numel()) for name, part in shards.items()
            }
            with deepspeed.zero.GatheredParameters(list(shards.values())):
                gathered = {name: parameter.detach().clone() for name, parameter in shards.items()}
            results[f"{how}-{dtype}"] = {
                "held": held,
                "sizes": {name: parameter.numel() for name, parameter in whole.items()},
                "weights": (whole, gathered),
                "buffers": (dict(plain.named_buffers()), dict(sharded.named_buffers())),
            }
    torch.save(results, folder / f"sharded-{rank}.pt")
    torch.distributed.barrier()


def references(rank: int, folder: Path) -> None:
    """Log-probabilities of a frozen model, plain and under ZeRO-3, twice; and what this rank holds afterwards."""
    from orchestrator.learning.engine import frozen
    from orchestrator.learning.rows import pack

    source, device = folder / "float32-model", torch.device("cpu")
    rows = tiny_batch().rows
    results: dict[str, Any] = {}
    for name, case in {"plain": Case(2, 2, 32), "sharded": Case(2, 3, 32), "host": Case(2, 3, 32, OFFLOADED)}.items():
        config = settings(case)
        model = frozen(load(source, "float32", config), config, "float32", device)
        with torch.no_grad():
            passes = [[model(part, 1.0)[0] for part in pack(rows, rank, 2, 32, 0)] for _ in range(2)]
        parameters: Any = list(model.parameters())
        results[name] = {
            "logprobs": passes,
            "held": sum(part.numel() for part in parameters),
            "shards": sum(part.ds_tensor.numel() for part in parameters) if case.stage == 3 else 0,
            "trainable": any(part.requires_grad for part in parameters),
        }
    torch.save(results, folder / f"references-{rank}.pt")
    torch.distributed.barrier()


def logit_queries(rank: int, folder: Path) -> None:
    """The answers of both ranks, under ZeRO 2 and 3."""
    results = {stage: answered(folder, rank, settings(Case(2, stage, 32))) for stage in (2, 3)}
    torch.save(results, folder / f"logits-{rank}.pt")
    torch.distributed.barrier()


def join(rank: int, ranks: int, port: int) -> None:
    from orchestrator.learning.engine import start_deepspeed

    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    start_deepspeed()


def work(rank: int, ports: tuple[int, int], folder: Path) -> None:
    """First with two ranks, then, in the same process, with one."""
    import deepspeed

    from orchestrator.learning import zero

    torch.set_num_threads(1)
    # Else all of so small a model stays whole, and nothing is ever gathered.
    zero.PERSISTENT_ELEMENTS = 0
    join(rank, 2, ports[0])
    for case in (*TWO_RANKS, *FROZEN):
        train(rank, case, folder)
    for case, source in (*TWO_RANKS_RESUMES, *((case, case) for case in FROZEN)):
        resume(rank, case, source, folder)
    for name in OBJECTIVES_ON_RANKS:
        for case in OBJECTIVES_CASES[:2]:
            update_with(rank, case, name, folder)
    sharded_models(rank, folder)
    references(rank, folder)
    logit_queries(rank, folder)
    deepspeed.comm.destroy_process_group()
    if rank == 0:
        join(0, 1, ports[1])
        for case in ONE_RANK:
            train(0, case, folder)
        for case, source in ONE_RANK_RESUMES:
            resume(0, case, source, folder)
        for name in OBJECTIVES_ON_RANKS:
            update_with(0, OBJECTIVES_CASES[2], name, folder)
        before_the_first_step()
        bad_states(folder)
        deepspeed.comm.destroy_process_group()
