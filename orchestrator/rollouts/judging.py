"""Episodes -> answers to what a reward asks. A fault is retried and stays a fault; it never becomes a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Answerer
from orchestrator.values import Answer, Call, Episode, Fault


def ask(
    episodes: Sequence[Episode], reward: Any, fleets: Mapping[str, Answerer], retries: int
) -> tuple[list[list[Answer]], int]:
    """One answer a call of `reward.calls`, by episode; and how many calls had to be retried.

    An answer that looks broken is settled by its control question: a judge that fails there too is at fault, otherwise the
    episode broke the judge by its own doing and `reward.score` makes it pay.
    """
    calls = [list(reward.calls(episode)) for episode in episodes]
    flat = [call for mine in calls for call in mine]
    answers = _complete(flat, fleets)
    retried = 0
    for _ in range(retries):
        failed = [index for index, answer in enumerate(answers) if isinstance(answer, Fault)]
        if not failed:
            break
        retried += len(failed)
        for index, answer in zip(failed, _complete([flat[index] for index in failed], fleets), strict=True):
            answers[index] = answer
    _settle(flat, answers, reward, fleets)
    remaining = iter(answers)
    return [[next(remaining) for _ in mine] for mine in calls], retried


def _settle(calls: Sequence[Call], answers: list[Answer], reward: Any, fleets: Mapping[str, Answerer]) -> None:
    """Turn broken answers whose control question fails too into faults."""
    controls = [
        (index, reward.control(call, answer)) for index, (call, answer) in enumerate(zip(calls, answers, strict=True))
    ]
    doubtful = [(index, control) for index, control in controls if control is not None]
    for (index, control), answer in zip(doubtful, _complete([control for _, control in doubtful], fleets), strict=True):
        if reward.control(control, answer) is not None or isinstance(answer, Fault):
            answers[index] = Fault("the judge gave no verdict, nor did it answer the control question")


def _complete(calls: Sequence[Call], fleets: Mapping[str, Answerer]) -> list[Answer]:
    answers: list[Answer] = [Fault("not asked")] * len(calls)
    for role in sorted({call.role for call in calls}):
        if role not in fleets:
            raise RunError(
                f"the reward calls the role {role!r}, but the run has fleets only for {', '.join(sorted(fleets))}"
            )
        mine = [index for index, call in enumerate(calls) if call.role == role]
        for index, answer in zip(mine, fleets[role].complete([calls[index] for index in mine]), strict=True):
            answers[index] = answer
    return answers
