"""Groups of scored episodes -> the rows and per-episode tensors of one RL update."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.errors import RunError
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.objectives.rewards import informative, soft_overlong
from orchestrator.learning.rows import Row
from orchestrator.values import Episode, Group, Scored


@dataclass(frozen=True, slots=True)
class Batch:
    """One update's data; the same on every rank. T: trained tokens of all rows, in row order. E: episodes.

    episode_R: the episode of each row, as an index into E; rows of an episode stand together, in the order of its turns.
    behaviour_T: log-probability when sampled. version_T: of the weights that sampled. rewards_E, group_E, lengths_E (trained
    tokens): of every episode that the objective counts, also where it has no rows: an empty completion, or a group without a
    difference, whose gradient is 0.
    cap: longest completion that is sampled. temperature: of the sampling.
    """

    rows: tuple[Row, ...]
    episode_R: torch.Tensor
    behaviour_T: torch.Tensor
    version_T: torch.Tensor
    rewards_E: torch.Tensor
    group_E: torch.Tensor
    lengths_E: torch.Tensor
    cap: int
    temperature: float

    @property
    def total(self) -> int:
        return len(self.behaviour_T)

    @property
    def episode_T(self) -> torch.Tensor:
        return self.episode_R.repeat_interleave(torch.tensor([row.targets for row in self.rows]))


@dataclass(frozen=True, slots=True)
class Selection:
    """Which episodes count, their rewards after shaping and their group's number.

    advantages: by episode id, before whatever the learner alone knows (the KL penalty in the reward, whitening over the batch);
    empty where an objective compares no episodes. differs: by group number, whether its rewards differ.
    """

    episodes: tuple[Episode, ...]
    rewards: tuple[float, ...]
    groups: tuple[int, ...]
    advantages: dict[str, float]
    differs: dict[int, bool]

    @property
    def zero_variance_groups(self) -> int:
        """Groups of two episodes or more whose rewards are all equal; one episode alone has no variance that could be 0."""
        sizes = Counter(self.groups)
        return sum(sizes[number] > 1 and not differs for number, differs in self.differs.items())


def select(groups: Sequence[Group], algorithm: AlgorithmConfig, cap: int) -> Selection:
    """Rewards and advantages over the scored members of each group in which the policy spoke; others take part in nothing.

    Groups with fewer than two scored episodes are dropped where the objective compares. cap: longest completion that is sampled.
    Raises RunError where a reward is not finite.
    """
    objective = OBJECTIVES[algorithm.name]
    episodes: list[Episode] = []
    rewards: list[float] = []
    group_of: list[int] = []
    differs: dict[int, bool] = {}
    for number, group in enumerate(groups):
        scored = shaped(group, algorithm, cap)
        if objective.chosen_only:
            # An answer without a token can be neither imitated nor compared.
            scored = [entry for entry in scored if any(turn.completion_ids for turn in entry[0].trained)]
        if len(scored) < (2 if objective.compares else 1):
            continue
        differs[number] = informative([reward for _, reward in scored])
        for episode, reward in scored:
            episodes.append(episode)
            rewards.append(reward)
            group_of.append(number)
    advantages: dict[str, float] = {}
    if episodes and objective.compares:
        relative_E = objective.relative(torch.tensor(rewards, dtype=torch.float64), torch.tensor(group_of))
        advantages = {episode.id: float(value) for episode, value in zip(episodes, relative_E, strict=True)}
    return Selection(tuple(episodes), tuple(rewards), tuple(group_of), advantages, differs)


def chosen(selection: Selection) -> Selection:
    """The episodes whose relative worth is not 0."""
    kept = [number for number, episode in enumerate(selection.episodes) if selection.advantages[episode.id]]
    return replace(
        selection,
        episodes=tuple(selection.episodes[number] for number in kept),
        rewards=tuple(selection.rewards[number] for number in kept),
        groups=tuple(selection.groups[number] for number in kept),
    )


def shaped(group: Group, algorithm: AlgorithmConfig, cap: int) -> list[tuple[Episode, float]]:
    """The scored episodes of a group with their rewards less the length penalty, silent ones left out: what they are worth is
    not the policy's doing. Raises RunError where one is not finite."""
    pairs = zip(group.episodes, group.verdicts, strict=True)
    scored = [
        (episode, verdict.reward) for episode, verdict in pairs if isinstance(verdict, Scored) and episode.trained
    ]
    for episode, reward in scored:
        if not math.isfinite(reward):
            raise RunError(
                f"the reward of episode {episode.id} is {reward}: a reward that cannot be computed must be `Unscored`. Look at "
                "the workload's `score`."
            )
    if not algorithm.overlong_share or not scored:
        return scored
    longest = [max((len(turn.completion_ids) for turn in episode.trained), default=0) for episode, _ in scored]
    penalties = soft_overlong(torch.tensor(longest), cap, algorithm.overlong_share * cap) * algorithm.overlong_penalty
    return [(episode, reward + float(penalty)) for (episode, reward), penalty in zip(scored, penalties, strict=True)]


def make_batch(selection: Selection, algorithm: AlgorithmConfig, cap: int) -> Batch | None:
    """Lay out every trained turn as one row: its prompt ids, then its completion ids exactly as generated.

    Groups whose gradient is exactly 0 cost no pass: they have no rows. Where the objective is `chosen_only`, the batch holds the
    chosen episodes alone. None where nothing is left to learn from.
    """
    objective = OBJECTIVES[algorithm.name]
    skips_equal = objective.skips_equal(algorithm)
    if objective.chosen_only:
        selection = chosen(selection)
    rows: list[Row] = []
    episode_of: list[int] = []
    behaviour: list[float] = []
    versions: list[int] = []
    temperatures = set()
    for number, (episode, group) in enumerate(zip(selection.episodes, selection.groups, strict=True)):
        if skips_equal and not selection.differs[group]:
            continue
        for turn in episode.trained:
            if not turn.completion_ids:
                continue
            rows.append(Row(turn.prompt_ids, (turn.completion_ids,), (len(turn.completion_ids),)))
            episode_of.append(number)
            behaviour += turn.logprobs
            versions += [turn.weight_version] * len(turn.completion_ids)
            temperatures.add(turn.temperature)
    if not rows:
        return None
    if len(temperatures) != 1:
        raise ValueError(
            f"one batch was sampled at several temperatures {sorted(temperatures)}: the ratio would be wrong"
        )
    lengths = [sum(len(turn.completion_ids) for turn in episode.trained) for episode in selection.episodes]
    return Batch(
        rows=tuple(rows),
        episode_R=torch.tensor(episode_of),
        behaviour_T=torch.tensor(behaviour, dtype=torch.float64),
        version_T=torch.tensor(versions),
        rewards_E=torch.tensor(selection.rewards, dtype=torch.float64),
        group_E=torch.tensor(selection.groups),
        lengths_E=torch.tensor(lengths),
        cap=cap,
        temperature=temperatures.pop(),
    )
