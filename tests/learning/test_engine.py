"""The update must be the same whatever the microbatches, ranks and ZeRO stage; and the same as plain PyTorch's."""

from __future__ import annotations

import itertools
import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as multiprocessing

from orchestrator.config.schema import AlgorithmConfig, LearnerConfig
from orchestrator.learning.batch import Batch
from orchestrator.learning.model import TokenScorer
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.rows import Row

LEARNING_RATE = 1e-2
STEPS = 2


def tiny_model(tied: bool = True) -> TokenScorer:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=48, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
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
    episode_T = torch.tensor(episodes)
    objective = OBJECTIVES["grpo"]
    rewards = torch.rand(9, generator=generator, dtype=torch.float64)
    advantages = objective.advantage(rewards, torch.arange(9) // 3)
    behaviour = -3.9 + 0.3 * torch.randn(len(episodes), generator=generator, dtype=torch.float64)
    return Batch(tuple(rows), behaviour, advantages[episode_T], episode_T, objective.aggregation(episode_T), 1.0)


def train(rank: int, ranks: int, stage: int, tokens: int, algorithm: AlgorithmConfig) -> dict[str, torch.Tensor]:
    from orchestrator.learning.policy import PolicyLearner

    learner = LearnerConfig(
        ranks=ranks, zero_stage=stage, learning_rate=LEARNING_RATE, tokens_per_microbatch=tokens, max_grad_norm=0.5
    )
    policy = PolicyLearner(
        tiny_model(), tiny_model(), learner, algorithm, dtype="float32", rank=rank, pad_id=0, max_logprob_gap=100.0
    )
    for _ in range(STEPS):
        metrics = policy.update(tiny_batch())
    assert metrics["policy/grad_norm"] > 0
    weights = {
        name: tensor
        for bucket in policy.engine.weights(policy.engine.parameters(), 4096)
        for name, tensor in bucket.items()
    }
    state = {f"{name}.{key}": tensor for name, slots in policy.engine.state() for key, tensor in slots.items()}
    return weights | state


def worker(rank: int, ranks: int, port: int, cases: list[tuple[int, int]], folder: str) -> None:
    os.environ.update(
        RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=ranks)
    from orchestrator.learning.engine import start_deepspeed

    start_deepspeed()
    for stage, tokens in cases:
        result = train(rank, ranks, stage, tokens, AlgorithmConfig(kl_weight=0.1))
        if rank == 0:
            torch.save(result, Path(folder) / f"{ranks}-{stage}-{tokens}.pt")
    torch.distributed.destroy_process_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def plain_pytorch() -> dict[str, torch.Tensor]:
    """The same two GRPO updates with autograd, torch.optim.AdamW and nothing of ours but the token scores, one row at a time."""
    from orchestrator.learning.rows import collate

    model, reference, batch = tiny_model(), tiny_model(), tiny_batch()
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
            surrogate = torch.exp(logprobs - logprobs.detach()) * batch.advantages_T[here].float()
            loss = loss + (-surrogate + 0.1 * kl).mean() / len(batch.rows)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.stack
def test_updates_agree_over_ranks_stages_and_microbatches_and_with_plain_pytorch(tmp_path: Path) -> None:
    two_rank_cases = [(0, 10**6), (2, 10**6), (2, 32), (3, 32)]
    multiprocessing.spawn(worker, (2, free_port(), two_rank_cases, str(tmp_path)), nprocs=2)
    multiprocessing.spawn(worker, (1, free_port(), [(0, 24), (2, 10**6)], str(tmp_path)), nprocs=1)
    results = {path.stem: torch.load(path) for path in sorted(tmp_path.glob("*.pt"))}
    assert len(results) == 6
    for left, right in itertools.combinations(results, 2):
        assert results[left].keys() == results[right].keys()
        for name, tensor in results[left].items():
            torch.testing.assert_close(
                tensor, results[right][name], rtol=1e-5, atol=2e-6, msg=f"{name}: {left} against {right}"
            )
    plain = plain_pytorch()
    for name, tensor in plain.items():
        torch.testing.assert_close(results["2-2-32"][name], tensor, rtol=1e-5, atol=5e-6, msg=name)
