"""The story of `orchestrate sample`: the policy of a checkpoint answers prompts, as it does in training."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.compose import compose
from orchestrator.config.references import ModelReference, find_run, resolve
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError, RunError
from orchestrator.fleets.alone import serving
from orchestrator.fleets.specs import ServerSpec
from orchestrator.values import POLICY, Call, Episode, Fault, Sampling, Task, Turn, stable_hash


@dataclass(frozen=True, slots=True)
class Asked:
    """Where samples come from. run: NAME, WORKLOAD/NAME or a folder, with @STEP; without it the newest checkpoint.

    prompts: one user message each. tasks: ids of held-out tasks. temperature, max_tokens: None as in the run's rollouts.
    """

    run: str
    prompts: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    samples: int = 1
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Sampled:
    """One task and its answers. gold: of each answer, where the truth is known."""

    task: Task
    answers: tuple[Turn, ...]
    gold: tuple[float | None, ...]


def sample(asked: Asked, storage: Path) -> tuple[Path, list[Sampled]]:
    """(the weights that answered, the answers of every prompt and task). Raises RunError for what is not there or cannot be asked."""
    reference = ModelReference.parse(f"run:{asked.run.removeprefix('run:')}")
    folder = find_run(reference.value, storage)
    weights = resolve(reference, storage)
    assert isinstance(weights, Path)
    config = compose(str(folder / "config.yaml"), [f"storage={folder.parent.parent}", "placement=split"])
    workload: Any = find_workload(config.workload).workload(config)
    tasks = [
        *(
            Task(f"prompt-{number}", ({"role": "user", "content": text},))
            for number, text in enumerate(asked.prompts, 1)
        ),
        *_held_out(workload, asked.tasks),
    ]
    if not tasks:
        raise ConfigError("nothing to answer: give a prompt, - for prompts from standard input, or --task ID.")
    rollout = config.rollout
    sampling = Sampling(
        asked.max_tokens if asked.max_tokens is not None else rollout.max_completion_tokens,
        asked.temperature if asked.temperature is not None else rollout.temperature,
    )
    calls = [_call(task, number, sampling, asked.seed) for task in tasks for number in range(asked.samples)]
    role = config.roles()[POLICY]
    with serving(config, [ServerSpec(POLICY, 0, str(weights), True, role.model, role.fleet)]) as fleet:
        answers = fleet.complete(calls)
    turns = []
    for call, answer in zip(calls, answers, strict=True):
        if isinstance(answer, Fault):
            raise RunError(f"{call.key}: {answer.reason}")
        assert isinstance(answer, Turn)
        turns.append(answer)
    mine = [turns[number * asked.samples : (number + 1) * asked.samples] for number in range(len(tasks))]
    return weights, [_sampled(task, found, workload) for task, found in zip(tasks, mine, strict=True)]


def _held_out(workload: Any, ids: Sequence[str]) -> list[Task]:
    known = {task.id: task for task in workload.tasks("eval")} if ids else {}
    for name in ids:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3) or list(known)[:3]
            raise ConfigError(f"no held-out task is {name!r}. There are {len(known)}, such as {', '.join(near)}.")
    return [known[name] for name in ids]


def _call(task: Task, number: int, sampling: Sampling, seed: int) -> Call:
    key = f"sample/{task.id}/{number}"
    return Call(key, POLICY, task.messages, sampling, seed=stable_hash(seed, key), route=f"sample/{task.id}")


def _sampled(task: Task, answers: Sequence[Turn], workload: Any) -> Sampled:
    # A prompt of one's own has no reference, which the truth is computed from.
    known = bool(task.reference)
    gold = tuple(
        workload.gold(Episode(task, 0, number, (turn,))) if known else None for number, turn in enumerate(answers)
    )
    return Sampled(task, tuple(answers), gold)
