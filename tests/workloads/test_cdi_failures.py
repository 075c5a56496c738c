"""Leaks become environments: which leak, where the context is cut, and who is held out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fakes.simulations import conversation, scenario_of

from orchestrator.errors import DataError
from orchestrator.values import Message, Task
from workloads.cdi.failures import Context, Failure, Trace, failure_of, leaking, split, words
from workloads.cdi.judged import ItemsShared
from workloads.cdi.scenario import Scenario


def items(shareable: set[int], sensitive: set[int]) -> ItemsShared:
    return ItemsShared(frozenset(shareable), frozenset(sensitive))


CLEAN, HELPS, LEAKS, BOTH = items(set(), set()), items({0}, set()), items(set(), {1}), items({0}, {1})


# AD mode: a shareable fact must have been shared by the first leak; a later leak is no substitute.
@pytest.mark.parametrize(
    ("verdicts", "pp", "ad"),
    [
        ((), None, None),
        ((CLEAN, HELPS), None, None),
        ((LEAKS, HELPS), 0, None),
        ((LEAKS, BOTH), 0, None),
        ((HELPS, CLEAN, LEAKS, LEAKS), 2, 2),
        ((CLEAN, BOTH), 1, 1),
    ],
)
def test_which_action_is_the_failure(verdicts: tuple[ItemsShared, ...], pp: int | None, ad: int | None) -> None:
    assert (leaking(verdicts, "pp"), leaking(verdicts, "ad")) == (pp, ad)


# Two action cycles. A trigger (1), a read (2, 3), the instructor (4), the first message (5, 6); a trigger (7), a read (8, 9), the
# instructor (10), a thought (11), the second message (12). Activities 3 and 5 are done by the calls at 5 and 12.
ROLES = [
    "system",
    "user",
    "assistant",
    "tool",
    "user",
    "assistant",
    "tool",
    "user",
    "assistant",
    "tool",
    "user",
    "assistant",
    "assistant",
    "tool",
]
CONTEXT = tuple({"role": role, "content": str(number)} for number, role in enumerate(ROLES))


def prompt(scenario: Scenario, context: Context) -> tuple[Message, ...]:
    return ({"role": "user", "content": " ".join(str(message["content"]) for message in context)},)


def trace(*verdicts: ItemsShared, context: Context = CONTEXT) -> Trace:
    return Trace(scenario_of(), conversation("one", "two"), context, {3: 5, 5: 12}, verdicts)


def test_the_context_ends_where_the_instructor_spoke() -> None:
    found = failure_of(trace(HELPS, BOTH), "ad", prompt)
    assert found is not None
    assert (len(found.context), found.context[-1]["role"]) == (10, "tool")
    assert [one.index for one in found.before] == [1, 2, 3, 4]
    assert (found.leak, found.expected) == ("two", 2)
    assert found.prompt == ({"role": "user", "content": "0 1 2 3 4 5 6 7 8 9"},)


def test_the_first_leak_is_cut_at_its_own_cycle() -> None:
    found = failure_of(trace(LEAKS, LEAKS), "pp", prompt)
    assert found is not None
    assert (len(found.context), found.leak, found.expected) == (4, "one", 1)
    assert failure_of(trace(LEAKS, LEAKS), "ad", prompt) is None


def test_without_an_instructor_the_context_ends_before_the_trigger() -> None:
    bare = tuple(
        {**one, "role": "tool"} if one["role"] == "user" and number != 7 else one for number, one in enumerate(CONTEXT)
    )
    found = failure_of(trace(HELPS, LEAKS, context=bare), "pp", prompt)
    assert found is not None
    assert len(found.context) == 7
    assert failure_of(trace(LEAKS, HELPS, context=bare), "pp", prompt) is None


def test_an_environment_as_a_task_and_back() -> None:
    found = failure_of(trace(HELPS, BOTH), "ad", prompt)
    assert found is not None
    task = found.task("f/1")
    stored: dict[str, Any] = json.loads(json.dumps(dict(task.reference)))
    assert (task.messages, stored["expected"], stored["scenario"]) == (found.prompt, 2, "example_1")
    assert Failure.of(Task(task.id, task.messages, stored)) == found


def failures(counts: dict[str, int], size: int = 10) -> list[Failure]:
    one = failure_of(trace(HELPS, BOTH), "ad", prompt)
    assert one is not None
    long: tuple[Message, ...] = ({"role": "user", "content": "w " * size},)
    return [
        replace(one, scenario=scenario_of(id=name), prompt=long, leak=f"{name}/{number}")
        for name, count in counts.items()
        for number in range(count)
    ]


def test_no_config_is_on_both_sides() -> None:
    """Ten configs of four: two are held out, whole, eight failures; another seed holds out others."""
    every = failures({f"c{number}": 4 for number in range(10)})
    train, test = split(every)
    assert (len(train), len(test)) == (32, 8)
    assert len({one.scenario.id for one in test}) == 2
    assert not {one.scenario.id for one in train} & {one.scenario.id for one in test}
    assert split(every) == (train, test)
    others = {tuple(sorted({one.scenario.id for one in split(every, seed)[1]})) for seed in range(8)}
    assert len(others) > 1


def test_held_out_failures_are_bounded_and_the_rest_not_trained_on() -> None:
    train, test = split(failures({"a": 50, "b": 50}))
    assert (len(train), len(test)) == (50, 30)
    assert len({one.leak for one in test}) == 30


# A prompt of 3,000 words stays, one of 3,001 does not.
def test_long_prompts_are_dropped() -> None:
    fits, beyond = failures({"a": 2, "b": 2}, 3000), failures({"c": 2, "d": 2}, 3001)
    assert (words(fits[0].prompt), words(beyond[0].prompt)) == (3000, 3001)
    train, test = split(fits + beyond)
    assert {one.scenario.id for one in train + test} == {"a", "b"}
    with pytest.raises(DataError, match="4 failures, 0 of them with a prompt of at most 3,000 words, are of 0 configs"):
        split(beyond)
    with pytest.raises(DataError, match="none can be held out"):
        split(failures({"a": 9}))
