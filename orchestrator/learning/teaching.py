"""What a lesson teaches before RL begins, whatever its kind: one loop of optimizer steps over rows, and a look at held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from orchestrator.config.schema import LearnerConfig, ModelConfig, SftConfig
from orchestrator.errors import ConfigError
from orchestrator.learning.engine import Engine
from orchestrator.learning.rows import Microbatch, Row, pack

Progress = Callable[[int, float], None]
"""Called on every rank after each step with (steps done, mean loss of a target)."""

Criterion = Callable[[Any, torch.Tensor], torch.Tensor]
"""(the model's scores, [T] each; the targets, [T], in row and branch order) -> loss of each target, [T]."""

Right = Callable[[Any, torch.Tensor], torch.Tensor]
"""(scores, targets) -> how right each example is, 0 to 1."""

Told = Callable[[Any], dict[str, float]]
"""(scores of held-out examples) -> further numbers of the report, which config.json is to say too."""


def tokenised(
    group: str, branches: Sequence[Any], tokenizer: Any, end_token: bool, model: ModelConfig
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """(prompts, targets) of `workloads.base.Branch`es exactly as a server would render them: what is asked is what was trained.

    Raises ConfigError, naming the group, where a branch is longer than the model's context.
    """
    rendered = tokenizer.apply_chat_template(
        [list(branch.messages) for branch in branches],
        add_generation_prompt=True,
        return_dict=True,
        enable_thinking=model.thinking,
    )
    prompts = [tuple(ids) for ids in rendered["input_ids"]]
    ending = (tokenizer.eos_token_id,) if end_token else ()
    texts = [branch.target for branch in branches]
    targets = [(*ids, *ending) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    longest = max(len(prompt) + len(target) for prompt, target in zip(prompts, targets, strict=True))
    if longest > model.context_tokens:
        raise ConfigError(
            f"an example of {group!r} has {longest} tokens, more than its model's context_tokens={model.context_tokens}: "
            "cut it, or raise context_tokens."
        )
    return prompts, targets


def lesson_rate_at(step: int, steps: int, peak: float) -> float:
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
    model: Any,
    rows: Sequence[Row],
    criterion: Criterion,
    training: SftConfig,
    learner: LearnerConfig,
    *,
    dtype: str,
    rank: int,
    pad_id: int,
    progress: Progress,
) -> Engine:
    """Minimise the mean of the targets' losses. Collective; returns the engine that holds the weights."""
    engine = Engine(model, replace(learner, weight_decay=training.weight_decay), training.learning_rate, dtype)
    for step, indices in enumerate(order_of(len(rows), training)):
        chosen = [rows[index] for index in indices]
        target_T = targets_of(chosen)

        def loss(scores: Any, microbatch: Microbatch, total: int = len(target_T)) -> torch.Tensor:
            return (criterion(scores, microbatch.target) * (microbatch.flat >= 0)).sum() / total

        microbatches = pack(chosen, rank, engine.ranks, learner.tokens_per_microbatch, pad_id)
        scores = engine.score(microbatches, len(target_T), loss=loss)
        engine.step(lesson_rate_at(step, training.steps, training.learning_rate))
        progress(step + 1, float(criterion(scores, target_T).mean()))
    return engine


def targets_of(rows: Sequence[Row]) -> torch.Tensor:
    """The targets of all rows, [T], in row and branch order."""
    return torch.tensor(
        [
            target
            for row in rows
            for branch, learned in zip(row.branches, row.learned, strict=True)
            for target in branch[-learned:]
        ]
    )


def held_out(
    engine: Engine,
    rows: Sequence[Row],
    groups: Sequence[str],
    criterion: Criterion,
    right: Right,
    told: Told | None = None,
    *,
    tokens: int,
    rank: int,
    pad_id: int,
) -> dict[str, float]:
    """loss; accuracy with the ends of its 95 % interval over groups, the number of examples (`_n`) and of groups; and what else
    `told` says. Collective.

    groups: what is not independent of one another, one a row. tokens: of a microbatch.
    """
    from orchestrator.sweep.statistics import mean_interval  # imports scipy

    target_T = targets_of(rows)
    scores = engine.score(pack(rows, rank, engine.ranks, tokens, pad_id), len(target_T))
    shares = right(scores, target_T).tolist()
    interval = mean_interval(shares, groups)
    return {
        "loss": float(criterion(scores, target_T).mean()),
        "accuracy": interval.mean,
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "accuracy_n": len(shares),
        "groups": interval.n,
        **(told(scores) if told else {}),
    }


def in_words(report: Mapping[str, float]) -> str:
    """A report of `held_out` on one line."""
    return (
        f"accuracy {report['accuracy']:.3f} ({report['accuracy_low']:.3f} to {report['accuracy_high']:.3f}) on "
        f"{report['accuracy_n']:.0f} examples of {report['groups']:.0f} groups, loss {report['loss']:.3f}"
    )
