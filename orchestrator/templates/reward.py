"""A reward function, for any workload.   orchestrate train rlvr reward=reward.py:reward steps=5

It is given all episodes (answers) of one task and returns a verdict for each, in their order: a number, or `Scored` with named
parts that are plotted apart, or `Unscored(reason)` where a tool of yours failed; such an episode is left out of training, while
a bad answer should get a low number. The shortest there is:

    def reward(episodes):
        return [float("yes" in episode.text) for episode in episodes]

It runs in processes of its own, `reward.processes=2` of them, and may take `reward.deadline_s=30` seconds a task: it can import
what lies beside it, run code, or call a service. What goes wrong is told with the task and the line, and the run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.values import Episode, Scored

ENOUGH = 24
"""Words of an answer that is long enough."""


def reward(episodes: Sequence[Episode]) -> list[Scored]:
    """Likes answers that speak of the question and do not repeat themselves."""
    return [score(episode) for episode in episodes]


def score(episode: Episode) -> Scored:
    """An episode has .text (the policy's last words), .turns (all of them, with token ids and finish reasons) and .task, which has
    .id, .messages (what the model was shown) and .reference (what only rewards may see: a rubric, an answer)."""
    words = episode.text.split()
    asked = set(" ".join(message["content"] for message in episode.task.messages).split())
    parts = {
        "on_topic": len(asked.intersection(words)) / len(asked),
        "variety": len(set(words)) / max(len(words), ENOUGH),
    }
    return Scored(sum(parts.values()) / len(parts), parts)


# The truth, where you know a better measure than the reward: from 0 to 1, of held-out answers alone, never trained on. With
# `reward.gold=reward.py:gold` each evaluation shows it beside the reward, and a policy that exploits the reward is found out.
def gold(episodes: Sequence[Episode]) -> list[float]:
    """Here: whether the answer ended by itself."""
    return [float(episode.turns[-1].finish_reason == "stop") for episode in episodes]
