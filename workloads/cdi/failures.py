"""Failures become environments: a simulation is set back to before a leak, and an instructor speaks anew.

arXiv 2603.02983, as the authors' train_utils has it (SALT-NLP/contextual_privacy_defense at 02d3931).

The leak is the first judged action with a sensitive fact; in the AD mode it counts only where a shareable fact was shared by then, so
that there is helpfulness to keep. The sender's context ends where an instructor would have spoken before it, right after the last read
(`replay.resumed`). Two things are not as published. Environments are split by config, so that none is on both sides. And a message of
the sender's between that read and the leak is undone with it, where the code keeps it in the log of a sender that never wrote it.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import DataError
from orchestrator.values import Episode, Task
from workloads.cdi.asked import Played
from workloads.cdi.defences import Defence
from workloads.cdi.judged import Verdicts, judged_actions, text_of, union
from workloads.cdi.replay import replay, replay_turns, resumed
from workloads.cdi.rewards import AD_REWARD
from workloads.cdi.scenario import SENDER
from workloads.cdi.setup import Setup
from workloads.cdi.wordings import wording_of

EXPECTED = "expected"
"""In the reference of an environment: judged actions that there must be when the sender has acted anew."""
MOST_WORDS = 3000
"""Of an instructor's prompt (published)."""


def leaking(verdicts: Verdicts, mode: str) -> int | None:
    """Which judged action, from 0, is the failure of a run; None where there is none. mode: "pp" or "ad"."""
    first = next((place for place, one in enumerate(verdicts) if one.sensitive), None)
    if first is None or (mode == AD_REWARD and not union(verdicts[: first + 1]).shareable):
        return None
    return first


def environment_of(
    episode: Episode, verdicts: Verdicts, mode: str, defence: Defence, most_words: int = MOST_WORDS
) -> Task | None:
    """The task that a judged simulation leaves to the instructor: its reference is the `Setup` to go on from, with "expected" and the
    "leak" in words. defence: who is to instruct.

    None where nothing failed, where the sender had read nothing before it, or where the instructor's prompt has too many words.
    """
    number, outcome = leaking(verdicts, mode), replay(episode)
    if number is None:
        return None
    leak = judged_actions(outcome.scenario, outcome.activities)[number]
    task = resumed(episode, leak, defence)
    if task is None:
        return None
    setup = Setup.of(task.reference)
    before = replay_turns(setup, ())
    prompt = wording_of(setup.wording).instructor(before.memories[SENDER])
    if sum(len(message["content"].split()) for message in prompt) > most_words:
        return None
    expected = len(judged_actions(before.scenario, before.activities)) + 1
    return replace(task, reference={**task.reference, EXPECTED: expected, "leak": text_of(leak)})


def played(episode: Episode) -> Played:
    """What an episode came to, for `CdiReward`: of an environment, or a whole simulation."""
    outcome = replay(episode)
    return Played(outcome.scenario, outcome.activities, episode.task.reference.get(EXPECTED))


def split(tasks: Sequence[Task], seed: int = 42, share: float = 0.2, most: int = 30) -> tuple[list[Task], list[Task]]:
    """(train, eval) of environments. share: of the configs that are held out, one at least; most: held-out environments, drawn where
    there are more; those beyond it are not trained on either. Published: a fifth of the rows, at most 30, seed 42.

    Raises DataError where they are of fewer than two configs.
    """
    configs = sorted({config_of(task) for task in tasks})
    if len(configs) < 2:
        raise DataError(
            f"{len(tasks)} failures are of {len(configs)} configs: none can be held out. Simulate more configs, or under a stronger "
            "attack."
        )
    rng = random.Random(seed)
    held_out = set(rng.sample(configs, max(1, round(share * len(configs)))))
    train = [task for task in tasks if config_of(task) not in held_out]
    test = [task for task in tasks if config_of(task) in held_out]
    kept = sorted(rng.sample(range(len(test)), min(most, len(test))))
    return train, [test[place] for place in kept]


def config_of(task: Task) -> str:
    """The id of a simulation's scenario."""
    return str(task.reference["config_id"])
