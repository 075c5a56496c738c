"""Runs with stored answers that are made up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.records import episodes
from orchestrator.records.folder import RunFolder
from orchestrator.values import Episode, Group, Scored, Task, Turn, Unscored

Said = tuple[str, float | None]
"""A text and its reward; None: unscored."""


def store(
    storage: Path, name: str, said: Mapping[str, Sequence[Said]], step: int = 3, restricted: Sequence[str] = ()
) -> RunFolder:
    """A run whose test episodes of one step are these answers, by task; an answer has as many tokens as bytes."""
    folder = RunFolder.create(storage, "rlvr", name, {"workload": "rlvr", "steps": step})
    groups = []
    for task, answers in said.items():
        asked = Task(task, ({"role": "user", "content": f"what of {task} ?"},), restricted=task in restricted)
        made = [
            Episode(asked, step, number, (Turn("policy", (1,), tuple(text.encode()), (), text, "stop", 1.0, 0, 0),))
            for number, (text, _) in enumerate(answers)
        ]
        verdicts = [Unscored("timed out") if reward is None else Scored(reward, {}) for _, reward in answers]
        groups.append(Group(tuple(made), tuple(verdicts)))
    episodes.write_step(folder, step, groups, {}, "test")
    return folder


def say(n: int, about: str, low: float = 0.0) -> list[Said]:
    """n different answers of rising rewards, from low on in steps of a hundredth."""
    return [(f"{about} goes {'on and ' * (number % 4)}by way {number}", low + number / 100) for number in range(n)]
