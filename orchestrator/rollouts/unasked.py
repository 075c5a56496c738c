"""Rewards that ask no model: the questions of `workloads.base.Reward`, of which they have none."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.values import Answer, Call, Episode, LogitQuery


class Unasked:
    """All of `workloads.base.Reward` but its verdicts, for a reward that asks neither a judge nor the policy."""

    def calls(self, episode: Episode) -> Sequence[Call]:
        """None."""
        return ()

    def queries(self, episode: Episode) -> Sequence[LogitQuery]:
        """None."""
        return ()

    def control(self, episode: Episode, call: Call, answer: Answer) -> Call | None:
        """None: no model was asked."""
        return None
