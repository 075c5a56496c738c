"""Models that write for other models to learn from: their answers to tasks, asked before anything is taught."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

from orchestrator.config.schema import RolloutConfig, RunConfig, ServedConfig
from orchestrator.errors import RunError
from orchestrator.values import Answer, Call, Fault, Sampling, Task, Turn, stable_hash


def named(writers: str) -> list[str]:
    """The names in a setting with commas."""
    return [name.strip() for name in writers.split(",")]


def served(
    writers: Sequence[str], no_models: Iterable[str], config: RunConfig, retries: int
) -> dict[str, ServedConfig]:
    """The writers that are models, by role ("writer-0", ...): each has the shape of `model` and the servers of `rollout`."""
    return {
        role_of(number): ServedConfig(name, config.model, config.rollout.fleet, retries=retries)
        for number, name in enumerate(writers)
        if name not in no_models
    }


def role_of(number: int) -> str:
    """The role of a writer, by its place among the writers."""
    return f"writer-{number}"


def written(
    number: int, name: str, tasks: Sequence[Task], each: int, rollout: RolloutConfig, seed: int
) -> Generator[Sequence[Call], Sequence[Answer], list[tuple[Task, str]]]:
    """What a writer says to each task, so many times. Raises RunError where it cannot."""
    sampling = Sampling(rollout.max_completion_tokens, rollout.temperature)
    asked = [(f"write/{task.id}/{attempt}", task) for task in tasks for attempt in range(each)]
    said = yield [
        Call(key, role_of(number), task.messages, sampling, seed=stable_hash(seed, key), route=task.id)
        for key, task in asked
    ]
    for answer in said:
        if isinstance(answer, Fault):
            raise RunError(f"answers.writers: {name} could not answer: {answer.reason}")
    return [(task, answer.text) for (_, task), answer in zip(asked, said, strict=True) if isinstance(answer, Turn)]
