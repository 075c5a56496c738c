"""What an answer to a problem of the MATH-500 schema is worth, by the library math-verify.

This file is loaded in the processes of `orchestrator.rollouts.pool`, whose main thread scores: only there do the library's own
deadlines work, which make an answer that cannot be read in time a wrong one. Whatever not even they can end is killed with its
process and leaves the problem's answers unscored.
"""

from __future__ import annotations

from collections.abc import Sequence

from math_verify import parse, verify

from orchestrator.values import Episode, Scored, Unscored, Verdict

ANSWER_DEADLINE_S = 1
"""Longest wait for reading one text, and again for comparing it with the answer, in whole seconds. Eight answers that take all of it
stay within `reward.deadline_s`."""


def reward(episodes: Sequence[Episode]) -> list[Verdict]:
    """1 where the final answer equals the problem's, else 0. `Unscored` where the problem's own answer cannot be read."""
    answer = episodes[0].task.reference["answer"]
    expected = parse(f"\\boxed{{{answer}}}", parsing_timeout=ANSWER_DEADLINE_S)
    if not expected:
        return [Unscored(f"math-verify cannot read the problem's own answer {answer!r}: mend or drop the row")] * len(
            episodes
        )
    return [Scored(float(_equal(expected, episode.text))) for episode in episodes]


def _equal(expected: list[object], text: str) -> bool:
    found = parse(text, parsing_timeout=ANSWER_DEADLINE_S)
    return verify(expected, found, timeout_seconds=ANSWER_DEADLINE_S)
