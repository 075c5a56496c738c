"""Supervised fine-tuning: what a lesson teaches before RL begins (the policy's warm-up, the judge)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from orchestrator.config.schema import LearnerConfig, ModelConfig, SftConfig
from orchestrator.errors import ConfigError
from orchestrator.learning.engine import Engine
from orchestrator.learning.model import TokenScorer, TokenScores
from orchestrator.learning.rows import Microbatch, Row, common_prefix, pack

Progress = Callable[[int, float], None]
"""Called on every rank after each step with (steps done, mean loss in nats a target token)."""


def row_of(example: Any, tokenizer: Any, end_token: bool, model: ModelConfig) -> Row:
    """Tokenise an example exactly as a server would render it: what is asked is what was trained.

    example: `workloads.base.Example`. Branches share the longest common beginning of their prompts. Raises ConfigError where
    it is longer than the model's context.
    """
    messages = [list(branch.messages) for branch in example.branches]
    rendered = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_dict=True, enable_thinking=model.thinking
    )
    prompts = [tuple(ids) for ids in rendered["input_ids"]]
    ending = (tokenizer.eos_token_id,) if end_token else ()
    texts = [branch.target for branch in example.branches]
    targets = [(*ids, *ending) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    longest = max(len(prompt) + len(target) for prompt, target in zip(prompts, targets, strict=True))
    if longest > model.context_tokens:
        raise ConfigError(
            f"an example of {example.group!r} has {longest} tokens, more than its model's context_tokens={model.context_tokens}: "
            "cut it, or raise context_tokens."
        )
    shared = min(
        common_prefix([prompt + target for prompt, target in zip(prompts, targets, strict=True)]), *map(len, prompts)
    )
    branches = tuple(prompt[shared:] + target for prompt, target in zip(prompts, targets, strict=True))
    return Row(prompts[0][:shared], branches, tuple(map(len, targets)))


def learning_rate_at(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over the first tenth, then a cosine down to a tenth of the peak. step counts from 0."""
    warmup = max(1, steps // 10)
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (0.55 + 0.45 * math.cos(math.pi * progress))


def order_of(examples: int, training: SftConfig) -> Iterator[list[int]]:
    """Indices of each step's examples: seeded permutations of all examples, one after the other."""
    generator = torch.Generator().manual_seed(training.seed)
    stream: list[int] = []
    for _ in range(training.steps):
        while len(stream) < training.examples_per_step:
            stream += torch.randperm(examples, generator=generator).tolist()
        yield stream[: training.examples_per_step]
        del stream[: training.examples_per_step]


def teach(
    model: TokenScorer,
    rows: Sequence[Row],
    training: SftConfig,
    learner: LearnerConfig,
    *,
    dtype: str,
    rank: int,
    pad_id: int,
    progress: Progress,
) -> Engine:
    """Minimise the mean negative log-likelihood of the target tokens. Collective; returns the engine that holds the weights."""
    engine = Engine(model, replace(learner, weight_decay=training.weight_decay), training.learning_rate, dtype)
    for step, indices in enumerate(order_of(len(rows), training)):
        chosen = [rows[index] for index in indices]
        total = sum(row.targets for row in chosen)

        def loss(scores: TokenScores, microbatch: Microbatch, total: int = total) -> torch.Tensor:
            return -(scores.logprobs * (microbatch.flat >= 0)).sum() / total

        microbatches = pack(chosen, rank, engine.ranks, learner.tokens_per_microbatch, pad_id)
        scores = engine.score(microbatches, total, loss=loss)
        engine.step(learning_rate_at(step, training.steps, training.learning_rate))
        progress(step + 1, -float(scores.logprobs.mean()))
    return engine
