"""Episodes -> answers to what a reward asks. A fault is retried and stays a fault.

One that passes never becomes a number. One that the call itself caused is not retried: it is the episode's doing, unless the
judge fails its control question too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.config.own_code import own_code
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Answerer
from orchestrator.values import Answer, Call, Episode, Fault


def ask(
    episodes: Sequence[Episode], reward: Any, fleets: Mapping[str, Answerer], retries: Mapping[str, int]
) -> tuple[list[list[Answer]], int]:
    """One answer a call of `reward.calls`, by episode; and how many calls had to be retried. retries: see `insist`.

    An answer that looks broken is settled by its control question: a judge that fails there too is at fault, otherwise the
    episode broke the judge by its own doing and `reward.score` makes it pay.
    """
    with own_code("the reward's calls()", reward):
        calls = [list(reward.calls(episode)) for episode in episodes]
    asked = [(episode, call) for episode, mine in zip(episodes, calls, strict=True) for call in mine]
    answers, retried = insist([call for _, call in asked], fleets, retries)
    retried += _settle(asked, answers, reward, fleets, retries)
    remaining = iter(answers)
    return [[next(remaining) for _ in mine] for mine in calls], retried


def _settle(
    asked: Sequence[tuple[Episode, Call]],
    answers: list[Answer],
    reward: Any,
    fleets: Mapping[str, Answerer],
    retries: Mapping[str, int],
) -> int:
    """Turn broken answers whose control question fails too into faults. Returns how many controls had to be retried."""
    controls = {}
    for index, (episode, call) in enumerate(asked):
        with own_code("the reward's control()", reward):
            control = reward.control(episode, call, answers[index])
        if control is not None:
            controls[index] = control
    settled, retried = insist(list(controls.values()), fleets, retries)
    for index, answer in zip(controls, settled, strict=True):
        # By the measure of the question itself: given to it, this answer would look broken too.
        if isinstance(answer, Fault) or reward.control(*asked[index], answer) is not None:
            first = answers[index]
            told = first.reason if isinstance(first, Fault) else "no verdict"
            answers[index] = Fault(f"the judge failed ({told}), and it failed the control question too")
    return retried


def insist(
    calls: Sequence[Call], fleets: Mapping[str, Answerer], retries: Mapping[str, int]
) -> tuple[list[Answer], int]:
    """Answers, after asking again where a fault may pass; and how many calls were asked again.

    retries: how often, by role; a role that is not named is asked once. A fleet that needs a moment (`retry_delay_s`) is given it
    before each new attempt, twice as long every time.
    """
    answers = _complete(calls, fleets)
    retried = 0
    for attempt in range(max(retries.values(), default=0)):
        failed = [
            index
            for index, (call, answer) in enumerate(zip(calls, answers, strict=True))
            if isinstance(answer, Fault) and not answer.lasting and attempt < retries.get(call.role, 0)
        ]
        if not failed:
            break
        retried += len(failed)
        time.sleep(2**attempt * max(fleets[calls[index].role].retry_delay_s for index in failed))
        for index, answer in zip(failed, _complete([calls[index] for index in failed], fleets), strict=True):
            answers[index] = answer
    return answers, retried


def _complete(calls: Sequence[Call], fleets: Mapping[str, Answerer]) -> list[Answer]:
    """One batch a fleet, also where it answers for two roles; different fleets work at the same time."""
    for role in sorted({call.role for call in calls}):
        if role not in fleets:
            raise RunError(
                f"the reward calls the role {role!r}, but the run has fleets only for {', '.join(sorted(fleets))}"
            )
    asked: dict[int, Answerer] = {id(fleets[call.role]): fleets[call.role] for call in calls}
    shares: dict[int, list[int]] = {fleet: [] for fleet in asked}
    for index, call in enumerate(calls):
        shares[id(fleets[call.role])].append(index)

    def complete(fleet: int) -> list[Answer]:
        return asked[fleet].complete([calls[index] for index in shares[fleet]])

    answers: list[Answer] = [Fault("not asked")] * len(calls)
    with ThreadPoolExecutor(len(shares) or 1, thread_name_prefix="fleets") as pool:
        for fleet, given in zip(shares, pool.map(complete, shares), strict=True):
            for index, answer in zip(shares[fleet], given, strict=True):
                answers[index] = answer
    return answers
