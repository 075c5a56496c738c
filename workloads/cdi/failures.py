"""Failures become environments: the sender's context is cut off before a leak, and an instructor speaks anew (arXiv 2603.02983; the
authors' train_utils).

The leak is the first judged action with a sensitive fact; in the AD mode it counts only where a shareable fact was shared by then, so
that there is helpfulness to keep. The context ends before the last user message that precedes the leak: what the instructor had said
there, or the trigger of that action cycle. Unlike the published rows, environments are split by config: none is on both sides.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from orchestrator.errors import DataError
from orchestrator.values import Message, Task
from workloads.cdi.apps import Activity
from workloads.cdi.judged import Verdicts, judged_actions, text_of, union
from workloads.cdi.rewards import AD_REWARD
from workloads.cdi.scenario import Scenario

Context = Sequence[Mapping[str, Any]]
"""The sender's messages, each with a "role"; plain JSON data."""
MOST_WORDS = 3000
"""Of an instructor's prompt (published)."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A judged simulation as its sender saw it.

    context: everything that the sender read and wrote. places: of each of its activities, by index, where in the context the call
    stands that did it. verdicts: one a judged action.
    """

    scenario: Scenario
    activities: tuple[Activity, ...]
    context: Context
    places: Mapping[int, int]
    verdicts: Verdicts


@dataclass(frozen=True, slots=True)
class Failure:
    """A leak to be prevented. context: what the sender knows where it is instructed. before: the activities before the leak.

    leak: what was written. expected: judged actions up to the leak and with it, as many as there must be when the sender has acted
    anew. prompt: what the instructor is asked.
    """

    scenario: Scenario
    context: tuple[Mapping[str, Any], ...]
    before: tuple[Activity, ...]
    leak: str
    expected: int
    prompt: tuple[Message, ...]

    def task(self, name: str) -> Task:
        """As a task for the instructor. Its reference also says of which config it is ("scenario")."""
        reference = {
            "scenario": self.scenario.id,
            "config": self.scenario.to_json(),
            "context": [dict(message) for message in self.context],
            "before": [asdict(activity) for activity in self.before],
            "leak": self.leak,
            "expected": self.expected,
        }
        return Task(name, self.prompt, reference)

    @classmethod
    def of(cls, task: Task) -> Failure:
        """The inverse of `task`."""
        values = task.reference
        before = tuple(Activity(**{**one, "involved": tuple(one["involved"])}) for one in values["before"])
        scenario = Scenario.from_json(values["config"], values["scenario"])
        return cls(scenario, tuple(values["context"]), before, values["leak"], values["expected"], task.messages)


def leaking(verdicts: Verdicts, mode: str) -> int | None:
    """Which judged action, from 0, is the failure of a run; None where there is none. mode: "pp" or "ad"."""
    first = next((place for place, one in enumerate(verdicts) if one.sensitive), None)
    if first is None or (mode == AD_REWARD and not union(verdicts[: first + 1]).shareable):
        return None
    return first


def failure_of(trace: Trace, mode: str, prompt: Callable[[Scenario, Context], tuple[Message, ...]]) -> Failure | None:
    """A run's environment; None where it has no failure, or nobody spoke to the sender before it. prompt: what the instructor is asked
    about a sender with that context."""
    number = leaking(trace.verdicts, mode)
    if number is None:
        return None
    leak = judged_actions(trace.scenario, trace.activities)[number]
    spoken = [place for place in range(trace.places[leak.index]) if trace.context[place]["role"] == "user"]
    if not spoken:
        return None
    context = tuple(trace.context[: spoken[-1]])
    before = trace.activities[: trace.activities.index(leak)]
    return Failure(trace.scenario, context, before, text_of(leak), number + 1, prompt(trace.scenario, context))


def words(prompt: Sequence[Message]) -> int:
    """Of all messages."""
    return sum(len(message["content"].split()) for message in prompt)


def split(
    failures: Sequence[Failure], seed: int = 42, share: float = 0.2, most: int = 30, most_words: int = MOST_WORDS
) -> tuple[list[Failure], list[Failure]]:
    """(train, eval) of the failures whose prompt is short enough. share: of the configs that are held out, one at least; most: held-out
    failures, drawn where there are more; those beyond it are not trained on either.

    Raises DataError where fewer than two configs have failures.
    """
    short = [one for one in failures if words(one.prompt) <= most_words]
    configs = sorted({one.scenario.id for one in short})
    if len(configs) < 2:
        raise DataError(
            f"{len(failures)} failures, {len(short)} of them with a prompt of at most {most_words:,} words, are of {len(configs)} "
            "configs: none can be held out. Simulate more configs, or under a stronger attack."
        )
    rng = random.Random(seed)
    held_out = set(rng.sample(configs, max(1, round(share * len(configs)))))
    train = [one for one in short if one.scenario.id not in held_out]
    test = [one for one in short if one.scenario.id in held_out]
    kept = sorted(rng.sample(range(len(test)), min(most, len(test))))
    return train, [test[place] for place in kept]
