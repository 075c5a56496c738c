"""Failures become environments: a simulation is set back to before a leak, and an instructor speaks anew, or a guard decides.

arXiv 2603.02983, as the authors' train_utils has it (SALT-NLP/contextual_privacy_defense at 02d3931).

The leak is the first judged action with a sensitive fact; in the AD mode it counts only where a shareable fact was shared by then, so
that there is helpfulness to keep. The sender's context ends where an instructor would have spoken before it, right after the last read
(`replay.resumed`). One thing is not as published: a message of the sender's between that read and the leak is undone with it, where the
code keeps it in the log of a sender that never wrote it.
"""

from __future__ import annotations

from dataclasses import replace

from orchestrator.values import Episode, Scored, Task, Verdict
from workloads.cdi.asked import HELPED, LEAK_AT, TOLD_AT, Played
from workloads.cdi.defences import Defence
from workloads.cdi.judged import judged_actions, text_of
from workloads.cdi.replay import Outcome, pending, replay, replay_turns, resumed
from workloads.cdi.rewards import AD_REWARD
from workloads.cdi.scenario import SENDER
from workloads.cdi.setup import Setup
from workloads.cdi.wordings import wording_of

EXPECTED = "expected"
"""In the reference of an environment: judged actions that there must be when the sender has acted anew."""
BLOCK = "block"
"""In the reference of a guard's decision: whether the message leaks."""
MOST_WORDS = 3000
"""Of an instructor's prompt (published)."""


def failure_of(verdict: Verdict, mode: str) -> int | None:
    """Which judged action, from 0, is the failure of a whole simulation by its verdict; None where there is none, or nobody knows.
    mode: "pp" or "ad"."""
    told = verdict.components if isinstance(verdict, Scored) else {}
    if not told.get(LEAK_AT) or (mode == AD_REWARD and not told[HELPED]):
        return None
    return int(told[LEAK_AT]) - 1


def environment_of(episode: Episode, number: int, defence: Defence, most_words: int = MOST_WORDS) -> Task | None:
    """The task that a failed simulation leaves to the instructor: its reference is the `Setup` to go on from, with "expected" and the
    "leak" in words. number: of the judged action that failed, from 0. defence: who is to instruct.

    None where the sender had read nothing before it, or where the instructor's prompt has too many words.
    """
    outcome = replay(episode)
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


def decision_of(episode: Episode, verdict: Verdict, defence: Defence) -> Task | None:
    """The task that a judged simulation leaves to a guard: the first judged message that tells any fact is about to go out, and is to
    be blocked where it leaks. None where no message tells any, or where the guard is not asked about it (`replay.pending`)."""
    told = verdict.components if isinstance(verdict, Scored) else {}
    if not told.get(TOLD_AT):
        return None
    outcome = replay(episode)
    message = judged_actions(outcome.scenario, outcome.activities)[int(told[TOLD_AT]) - 1]
    task = pending(episode, message, defence)
    return task and replace(task, reference={**task.reference, BLOCK: told[LEAK_AT] == told[TOLD_AT]})


def played(episode: Episode) -> Played:
    """What an episode came to, for `CdiReward`: of an environment, a decision, or a whole simulation."""
    outcome, reference = replay(episode), episode.task.reference
    right = _decided(episode, outcome) == reference[BLOCK] if BLOCK in reference else None
    return Played(outcome.scenario, outcome.activities, reference.get(EXPECTED), right)


def _decided(episode: Episode, outcome: Outcome) -> bool:
    """Whether the guard that spoke in this episode has blocked: what was spoken before it began may hold blocks of another one."""
    resume = Setup.of(episode.task.reference).resume
    return any(block.turns > len(resume.turns if resume else ()) for block in outcome.blocks)


def config_of(task: Task) -> str:
    """The id of a simulation's scenario."""
    return str(task.reference["config_id"])
