"""Batches for tests of objectives: groups through the real selection and layout, with everything that is awkward in them."""

from __future__ import annotations

import random

import torch
from torch import nn

from orchestrator.config.layers import CORE_PRESETS, read_yaml
from orchestrator.config.schema import AlgorithmConfig
from orchestrator.learning.batch import Batch, make_batch, select
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.parts import Columns, columns_of
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored, Verdict

CAP = 9


def preset(name: str, **changes: object) -> AlgorithmConfig:
    """The published settings of an objective, with some of them changed."""
    published = read_yaml(CORE_PRESETS / "algorithm" / f"{name}.yaml")["algorithm"]
    settings: dict[str, object] = {"name": name, **published, **changes}
    return AlgorithmConfig(**settings)  # type: ignore[arg-type]


def invented_groups(vocabulary: int, seed: int = 7) -> list[Group]:
    """Three groups of four. The first has an episode of two turns and an unscored one, the second an empty completion, the
    third no differences."""
    generator = random.Random(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(generator.randrange(1, vocabulary) for _ in range(length))

    def turn(prompt: tuple[int, ...], length: int) -> Turn:
        logprobs = tuple(generator.uniform(-5, -2) for _ in range(length))
        return Turn("policy", prompt, ids(length), logprobs, "", "stop", 1.0, 0, 0)

    groups = []
    for number in range(3):
        prompt = ids(2 + number)
        episodes, verdicts = [], []
        for sample in range(4):
            turns = [turn(prompt, 0 if (number, sample) == (1, 2) else 1 + (3 * number + 2 * sample) % 6)]
            if (number, sample) == (0, 1):
                turns.append(turn(prompt + turns[0].completion_ids + ids(2), 4))
            episodes.append(Episode(Task(f"task-{number}", ()), 1, sample, tuple(turns)))
            verdict: Verdict = Scored(0.5 if number == 2 else generator.random())
            verdicts.append(Unscored("no answer") if (number, sample) == (0, 3) else verdict)
        groups.append(Group(tuple(episodes), tuple(verdicts)))
    return groups


def invented_batch(algorithm: AlgorithmConfig, vocabulary: int) -> Batch:
    batch = make_batch(select(invented_groups(vocabulary), algorithm, CAP), algorithm, CAP)
    assert batch is not None
    return batch


def invented_columns(
    batch: Batch, algorithm: AlgorithmConfig, now_T: torch.Tensor, reference_T: torch.Tensor
) -> Columns:
    """The columns of a batch whose old policy stood a little off the present one, so that some ratios leave the clip."""
    draws = torch.Generator().manual_seed(3)
    old_T = now_T + 0.3 * torch.randn(batch.total, generator=draws, dtype=torch.float64)
    values_T = torch.rand(batch.total, generator=draws, dtype=torch.float64)
    objective = OBJECTIVES[algorithm.name]
    return columns_of(batch, objective, algorithm, old_T, reference_T, values_T if objective.critic else None)


def flat_gradient(module: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    """Over all parameters of the module that the loss reaches, zeros elsewhere."""
    parameters = list(module.parameters())
    parts = torch.autograd.grad(loss, parameters, allow_unused=True)
    return torch.cat(
        [
            torch.zeros_like(parameter).flatten() if part is None else part.flatten()
            for parameter, part in zip(parameters, parts, strict=True)
        ]
    )
