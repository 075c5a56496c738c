"""The update must be the same whatever the microbatches, ranks and ZeRO stage; and the same as plain PyTorch's."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import torch.multiprocessing as multiprocessing
from invented import invented_batch, preset

from orchestrator.config.schema import AlgorithmConfig, LearnerConfig
from orchestrator.errors import RunError
from orchestrator.learning.batch import Batch
from orchestrator.learning.model import TokenScorer, served_weights
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.rows import Row

if TYPE_CHECKING:
    from orchestrator.learning.policy import PolicyLearner

LEARNING_RATE = 1e-2
STEPS = 2

# ZeRO stage, tokens a microbatch, and the case whose state is taken over, named "ranks-stage-tokens".
TWO_RANKS = [(0, 10**6), (1, 10**6), (2, 10**6), (2, 32), (3, 32)]
TWO_RANKS_RESUMES = [
    *((stage, tokens, f"2-{stage}-{tokens}") for stage, tokens in TWO_RANKS),
    (0, 10**6, "2-3-32"), (3, 32, "2-2-32"), (2, 32, "2-0-1000000"),
]  # fmt: skip
ONE_RANK = [(0, 24), (2, 10**6)]
ONE_RANK_RESUMES = [(2, 10**6, "2-3-32"), (0, 24, "2-2-32"), (3, 24, "2-1-1000000"), (2, 10**6, "1-2-1000000")]


OBJECTIVES_ON_RANKS = {
    # Several optimizer steps, so that ratios move and Adam sees each step's gradient.
    "gspo": preset("gspo", clip_low=0.02, clip_high=0.02, minibatches=3),
    "ppo": preset("ppo", minibatches=2, critic_learning_rate=LEARNING_RATE),
    "flowrl": preset("flowrl", minibatches=2, flow_dropout=0.0, beta=1),
}


def tiny_model(tied: bool = True) -> TokenScorer:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=48, hidden_size=15, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, max_position_embeddings=64, tie_word_embeddings=tied, initializer_range=0.2, attn_implementation="sdpa",
    )  # fmt: skip
    return TokenScorer(Qwen3ForCausalLM(config))


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
    lengths = torch.tensor([row.targets for row in rows])
    return Batch(tuple(rows), torch.arange(9), behaviour, rewards, torch.arange(9) // 3, lengths, 8, 1.0)


def learner(rank: int, ranks: int, stage: int, tokens: int, algorithm: AlgorithmConfig | None = None) -> PolicyLearner:
    from orchestrator.learning.policy import PolicyLearner

    config = LearnerConfig(
        ranks=ranks, zero_stage=stage, learning_rate=LEARNING_RATE, tokens_per_microbatch=tokens, max_grad_norm=0.5
    )
    algorithm = algorithm or AlgorithmConfig(kl_weight=0.1)
    return PolicyLearner(
        tiny_model(), tiny_model(), config, algorithm, dtype="float32", rank=rank, pad_id=0, max_logprob_gap=100.0,
        critic=tiny_model() if OBJECTIVES[algorithm.name].critic else None,
    )  # fmt: skip


def update_with(rank: int, ranks: int, stage: int, tokens: int, name: str, folder: Path) -> None:
    """One update of an objective from groups with several turns, an empty completion and equal rewards; its whole state, which
    a fresh learner then takes over."""
    algorithm = OBJECTIVES_ON_RANKS[name]
    policy = learner(rank, ranks, stage, tokens, algorithm)
    metrics = policy.update(invented_batch(algorithm, 48))
    state = dict(policy.state())
    fresh = learner(rank, ranks, stage, tokens, algorithm)
    fresh.load_state(state.items, policy.optimizer_steps)
    again = dict(fresh.state())
    if rank == 0:
        served = [name for name, _ in served_weights(policy.engine.module)]
        torch.save(
            {"metrics": metrics, "state": state, "again": again, "served": served},
            folder / f"{name}-{ranks}-{stage}.of",
        )
    torch.distributed.barrier()


def snapshot(policy: PolicyLearner) -> dict[str, torch.Tensor]:
    parameters = policy.engine.parameters()
    weights = {name: tensor for bucket in policy.engine.weights(parameters, 4096) for name, tensor in bucket.items()}
    return weights | {f"{name}.{key}": tensor for name, slots in policy.engine.state() for key, tensor in slots.items()}


def train(rank: int, ranks: int, stage: int, tokens: int, folder: Path) -> None:
    """Writes weights and state after two updates, and after the third."""
    policy = learner(rank, ranks, stage, tokens)
    for _ in range(STEPS):
        assert policy.update(tiny_batch())["policy/grad_norm"] > 0
    results = {"second": snapshot(policy), "state": dict(policy.engine.state())}
    policy.update(tiny_batch())
    results["third"] = snapshot(policy)
    if rank == 0:
        torch.save(results, folder / f"{ranks}-{stage}-{tokens}.pt")
    torch.distributed.barrier()


def resume(rank: int, ranks: int, stage: int, tokens: int, source: str, folder: Path) -> None:
    """A fresh engine takes over the state of `source` and makes the third update."""
    policy = learner(rank, ranks, stage, tokens)
    state = torch.load(folder / f"{source}.pt")["state"]
    policy.engine.load_state(reversed(state.items()), STEPS)
    loaded = snapshot(policy)
    policy.update(tiny_batch())
    results = {"loaded": loaded, "third": snapshot(policy)}
    if rank == 0:
        torch.save(results, folder / f"{ranks}-{stage}-{tokens}-after-{source}.pt")


def bad_states(folder: Path) -> None:
    """What `load_state` refuses, with the words it is to use."""
    policy = learner(0, 1, 2, 10**6)
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
    for stage in range(4):
        fresh = dict(learner(0, 1, stage, 10**6).engine.state())
        assert all(slots.keys() == {"master"} for slots in fresh.values())
        halved = {name: {"master": slots["master"] / 2} for name, slots in fresh.items()}
        policy = learner(0, 1, stage, 10**6)
        policy.engine.load_state(halved.items(), 0)
        for name, tensor in snapshot(policy).items():
            assert torch.equal(tensor, halved[name.removesuffix(".master")]["master"])


def join(rank: int, ranks: int, port: int) -> None:
    from orchestrator.learning.engine import start_deepspeed

    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    start_deepspeed()


def worker(rank: int, ports: tuple[int, int], folder: Path) -> None:
    """First with two ranks, then, in the same process, with one."""
    import deepspeed

    torch.set_num_threads(1)
    join(rank, 2, ports[0])
    for stage, tokens in TWO_RANKS:
        train(rank, 2, stage, tokens, folder)
    for stage, tokens, source in TWO_RANKS_RESUMES:
        resume(rank, 2, stage, tokens, source, folder)
    for name in OBJECTIVES_ON_RANKS:
        for stage in (2, 3):
            update_with(rank, 2, stage, 32, name, folder)
    deepspeed.comm.destroy_process_group()
    if rank == 0:
        join(0, 1, ports[1])
        for stage, tokens in ONE_RANK:
            train(0, 1, stage, tokens, folder)
        for stage, tokens, source in ONE_RANK_RESUMES:
            resume(0, 1, stage, tokens, source, folder)
        for name in OBJECTIVES_ON_RANKS:
            update_with(0, 1, 2, 10**6, name, folder)
        before_the_first_step()
        bad_states(folder)
        deepspeed.comm.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_pytorch() -> dict[str, torch.Tensor]:
    """The same two GRPO updates with autograd, torch.optim.AdamW and nothing of ours but the token scores, one row at a time."""
    from orchestrator.learning.rows import collate

    model, reference, batch = tiny_model(), tiny_model(), tiny_batch()
    advantages_T = OBJECTIVES["grpo"].relative(batch.rewards_E, batch.group_E)[batch.episode_T]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    for _ in range(STEPS):
        loss = torch.zeros(())
        start = 0
        for row in batch.rows:
            microbatch = collate([row], [0], pad_id=0)
            here = slice(start, start + row.targets)
            start += row.targets
            logprobs = model(microbatch).logprobs
            with torch.no_grad():
                difference = reference(microbatch).logprobs - logprobs
            difference = (difference + logprobs.detach() - logprobs).float()
            kl = torch.exp(difference) - difference - 1
            surrogate = torch.exp(logprobs - logprobs.detach()) * advantages_T[here].float()
            loss = loss + (-surrogate + 0.1 * kl).mean() / len(batch.rows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    """Everything that needs processes of its own, in one start of two."""
    folder = tmp_path_factory.mktemp("engine")
    multiprocessing.spawn(worker, ((free_port(), free_port()), folder), nprocs=2)
    return {path.stem: torch.load(path) for path in sorted([*folder.glob("*.pt"), *folder.glob("*.of")])}


@pytest.mark.stack
def test_updates_agree_over_ranks_stages_and_microbatches_and_with_plain_pytorch(
    results: dict[str, dict[str, dict[str, torch.Tensor]]],
) -> None:
    updates = {name: result["second"] for name, result in results.items() if "second" in result}
    assert len(updates) == 7
    for left, right in itertools.combinations(updates, 2):
        assert updates[left].keys() == updates[right].keys()
        for name, tensor in updates[left].items():
            torch.testing.assert_close(
                tensor, updates[right][name], rtol=1e-5, atol=2e-6, msg=f"{name}: {left} against {right}"
            )
    for name, tensor in plain_pytorch().items():
        torch.testing.assert_close(updates["2-2-32"][name], tensor, rtol=1e-5, atol=5e-6, msg=name)


@pytest.mark.stack
def test_a_fresh_engine_goes_on_from_saved_state(results: dict[str, dict[str, dict[str, torch.Tensor]]]) -> None:
    """To the bit on the same ranks, stage and microbatches; on others as closely as those agree without a restart.

    Some parameters have 15 elements, which two ranks do not divide.
    """
    resumed = {name: result for name, result in results.items() if "after" in name}
    assert len(resumed) == 12
    for case, result in resumed.items():
        here, _, source = case.partition("-after-")
        for name, tensor in results[source]["second"].items():
            assert torch.equal(result["loaded"][name], tensor), f"{case}: {name}"
        for name, tensor in results[source]["third"].items():
            if here == source:
                assert torch.equal(result["third"][name], tensor), f"{case}: {name}"
            torch.testing.assert_close(result["third"][name], tensor, rtol=1e-6, atol=1e-6, msg=f"{case}: {name}")


@pytest.mark.stack
@pytest.mark.parametrize("name", OBJECTIVES_ON_RANKS)
def test_an_objectives_update_is_the_same_on_one_rank_and_on_two(
    results: dict[str, dict[str, dict[str, torch.Tensor]]], name: str
) -> None:
    """Sequence ratios, log Z and critic: after several steps, over ranks, ZeRO stages 2 and 3, and microbatches.

    After their last step the float32 gradients' moments agree to 1e-5 of the largest.
    """
    alone = results[f"{name}-1-2"]
    for other in (results[f"{name}-2-2"], results[f"{name}-2-3"]):
        assert other["state"].keys() == alone["state"].keys()
        for parameter, slots in alone["state"].items():
            for slot, tensor in slots.items():
                here = other["state"][parameter][slot]
                bound = 1e-5 * float(tensor.abs().max()) + (2e-5 if slot == "master" else 1e-7)
                assert float((here - tensor).abs().max()) <= bound, f"{parameter} {slot}"
        assert other["metrics"].keys() == alone["metrics"].keys()
        for metric, value in alone["metrics"].items():
            assert other["metrics"][metric] == pytest.approx(value, rel=1e-4, abs=1e-5), metric


@pytest.mark.stack
@pytest.mark.parametrize("name", OBJECTIVES_ON_RANKS)
def test_what_an_objective_adds_is_saved_and_not_served(
    results: dict[str, dict[str, dict[str, torch.Tensor]]], name: str
) -> None:
    """FlowRL's head beside the policy's weights, PPO's critic under names of its own; a fresh learner takes both over."""
    added = {"gspo": [], "ppo": ["critic.head", "critic.language_model"], "flowrl": ["log_partition"]}[name]
    for result in (results[f"{name}-1-2"], results[f"{name}-2-3"]):
        kinds = {".".join(parameter.split(".")[: 1 if name == "flowrl" else 2]) for parameter in result["state"]}
        assert set(added) <= kinds
        assert not any("log_partition" in served or "head" in served for served in result["served"])
        for parameter, slots in result["state"].items():
            for slot, tensor in slots.items():
                assert torch.equal(result["again"][parameter][slot], tensor), f"{parameter} {slot}"
    metrics = results[f"{name}-1-2"]["metrics"]
    assert ("policy/log_z" in metrics) == (name == "flowrl")
    assert ("critic/loss" in metrics) == (name == "ppo")
