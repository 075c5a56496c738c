"""Groups of scored episodes -> the rows and per-token tensors of one RL update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from orchestrator.learning.objectives import Objective
from orchestrator.learning.rows import Row
from orchestrator.values import Episode, Group, Scored


@dataclass(frozen=True, slots=True)
class Batch:
    """One update's data; the same on every rank. T: trained tokens of all episodes, in row order.

    behaviour_T: log-probability when sampled. advantages_T, episode_T: of the token's episode. weights_T: share of the token in
    the loss, summing to 1. temperature: of the sampling.
    """

    rows: tuple[Row, ...]
    behaviour_T: torch.Tensor
    advantages_T: torch.Tensor
    episode_T: torch.Tensor
    weights_T: torch.Tensor
    temperature: float

    @property
    def total(self) -> int:
        return len(self.behaviour_T)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which episodes are trained, and their advantages by episode id. Groups with fewer than two scored episodes are dropped."""

    episodes: tuple[Episode, ...]
    advantages: dict[str, float]
    zero_variance_groups: int


def select(groups: Sequence[Group], objective: Objective) -> Selection:
    """Advantages over the scored members of each group; unscored episodes take part in nothing."""
    episodes: list[Episode] = []
    rewards: list[float] = []
    group_of: list[int] = []
    zero_variance = 0
    for number, group in enumerate(groups):
        pairs = zip(group.episodes, group.verdicts, strict=True)
        scored = [(episode, verdict.reward) for episode, verdict in pairs if isinstance(verdict, Scored)]
        if len(scored) < 2:
            continue
        zero_variance += len({reward for _, reward in scored}) == 1
        for episode, reward in scored:
            episodes.append(episode)
            rewards.append(reward)
            group_of.append(number)
    if not episodes:
        return Selection((), {}, zero_variance)
    advantages_E = objective.advantage(torch.tensor(rewards, dtype=torch.float64), torch.tensor(group_of))
    by_id = {episode.id: float(advantage) for episode, advantage in zip(episodes, advantages_E, strict=True)}
    return Selection(tuple(episodes), by_id, zero_variance)


def make_batch(selection: Selection, objective: Objective) -> Batch:
    """Lay out every trained turn as one row: its prompt ids, then its completion ids exactly as generated."""
    rows: list[Row] = []
    behaviour: list[float] = []
    advantages: list[float] = []
    episode_of: list[int] = []
    temperatures = set()
    for number, episode in enumerate(selection.episodes):
        for turn in episode.trained:
            rows.append(Row(turn.prompt_ids, (turn.completion_ids,), (len(turn.completion_ids),)))
            behaviour += turn.logprobs
            advantages += [selection.advantages[episode.id]] * len(turn.completion_ids)
            episode_of += [number] * len(turn.completion_ids)
            temperatures.add(turn.temperature)
    if len(temperatures) != 1:
        raise ValueError(
            f"one batch was sampled at several temperatures {sorted(temperatures)}: the ratio would be wrong"
        )
    episode_T = torch.tensor(episode_of)
    return Batch(
        rows=tuple(rows),
        behaviour_T=torch.tensor(behaviour, dtype=torch.float64),
        advantages_T=torch.tensor(advantages, dtype=torch.float64),
        episode_T=episode_T,
        weights_T=objective.aggregation(episode_T),
        temperature=temperatures.pop(),
    )
