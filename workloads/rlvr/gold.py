"""An independent judge as the truth of real data, asked of held-out answers alone: `reward.gold=workloads/rlvr/gold.py:independent`.

It is a server with OpenAI's interface at the URL in RLVR_GOLD_URL (its key, if it wants one, in RLVR_GOLD_KEY), such as vLLM with the
benchmark's own judge, openai/gpt-oss-120b; both variables must be set where the learner runs. The trained judge of a run must
not be it. Give it time for all criteria of a dilemma's answers: reward.deadline_s=600.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

from orchestrator.errors import ConfigError
from orchestrator.fleets.remote import RemoteFleet
from orchestrator.rollouts.judging import ask
from orchestrator.rollouts.rubrics import Criterion, RubricReward
from orchestrator.values import JUDGE, Episode, Message, Scored, Verdict
from workloads.rlvr import morebench

URL, KEY = "RLVR_GOLD_URL", "RLVR_GOLD_KEY"
CALL_DEADLINE_S = 120.0
RETRIES = 2


def independent(episodes: Sequence[Episode]) -> list[Verdict]:
    """MoReBench's score (0 to 1) of each answer by the independent judge; Unscored where it fails. Raises ConfigError without a URL."""
    reward = RubricReward(_question, "official", soft=False, min_mass=0.5)
    answers, _ = ask(episodes, reward, {JUDGE: _judge()}, {JUDGE: RETRIES})
    verdicts = reward.score(episodes, answers, [()] * len(episodes))
    # The reward would be the same but for what a cut-off answer loses, and the truth takes nothing off.
    return [Scored(verdict.components["official"]) if isinstance(verdict, Scored) else verdict for verdict in verdicts]


def _question(prompt: Sequence[Message], response: str, criterion: Criterion) -> tuple[Message, ...]:
    return morebench.question(response, criterion)


@cache
def _judge() -> RemoteFleet:
    url = os.environ.get(URL)
    if not url:
        raise ConfigError(
            f"{URL} is not set: it is the URL of the judge whose word is the truth, as http://HOST:8000/v1."
        )
    return RemoteFleet(url, None, os.environ.get(KEY), CALL_DEADLINE_S)
