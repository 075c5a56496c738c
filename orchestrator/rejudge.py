"""The story of `orchestrate rejudge`: stored episodes, another judge, and how far the two agree. Nothing is rolled out.

stored episodes -> the run's own questions -> the other judge -> verdicts by the run's own formula -> agreement
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy import stats

from orchestrator.config.compose import compose
from orchestrator.config.references import ModelReference
from orchestrator.config.workloads import find_workload
from orchestrator.errors import ConfigError, RunError
from orchestrator.records import episodes as episode_files
from orchestrator.records.folder import RunFolder
from orchestrator.rollouts.evaluation import Proxy, proxy_of
from orchestrator.rollouts.judge_file import judge_of, judged
from orchestrator.sweep.statistics import Interval, mean_interval
from orchestrator.values import JUDGE, Episode, Group, Scored, Task, Verdict

FOLDER = "rejudged"
ALL = "all criteria"


@dataclass(frozen=True, slots=True)
class Both:
    """An episode with the verdicts of both judges. gold: its true worth, where that is known."""

    episode: Episode
    stored: Scored
    new: Scored
    gold: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """On one criterion. met, new_met: share of the n answers that meet it by either judge. kappa: Cohen's, NaN where both judges
    always say the same one thing."""

    criterion: str
    n: int
    accuracy: float
    kappa: float
    met: float
    new_met: float


@dataclass(frozen=True, slots=True)
class GoldRow:
    """One judge against the truth: mean of its score less the truth, mean of the distance, rank correlation over episodes."""

    judge: str
    bias: float
    distance: float
    rank: float


@dataclass(frozen=True, slots=True)
class Rejudged:
    """Intervals are over tasks. rank: Spearman's, of the rewards. unscored: by the stored judge and by the new one, of `episodes`;
    all other numbers are over those that both scored. nearer: distance from the truth of the new judge minus that of the stored."""

    step: int
    split: str
    judges: tuple[str, str]
    episodes: int
    unscored: tuple[int, int]
    reason: str | None
    reward: Interval
    new_reward: Interval
    difference: Interval
    accuracy: Interval | None
    criteria: tuple[Agreement, ...]
    rank: float
    gold: tuple[GoldRow, ...]
    nearer: Interval | None
    written: Path


def rejudge(run: Path, judge: str, step: int | None, split: str, overrides: Sequence[str] = ()) -> Rejudged:
    """Ask another judge about the stored episodes of one step (None: the last that is stored) and compare.

    overrides: further settings, such as judge.model.context_tokens=4096. Raises RunError for what is not there, for a reward that
    asks no judge, and where the judge could score nothing.
    """
    folder = RunFolder.open(run)
    if ModelReference.parse(judge).kind == "mini":
        raise ConfigError("--judge mini: name the judge's weights, such as path:FOLDER, hf:ID or a URL.")
    layers = [f"storage={folder.path.parent.parent}", "placement=split", *overrides, f"judge.name={judge}"]
    config = compose(str(folder.config), layers)
    if JUDGE not in config.roles():
        raise RunError(f"the reward of {folder.name} asks no judge: nothing to rejudge.")
    workload: Any = find_workload(config.workload).workload(config)
    step = episode_files.stored_step(folder, split, step)
    groups = _with_references(episode_files.read_groups(folder, split, step), workload.tasks(split))
    stored = [pair for group in groups for pair in zip(group.episodes, group.verdicts, strict=True)]
    episodes = [episode for episode, _ in stored if not episode.lost]
    reward = workload.reward()
    _check_questions(reward, episodes)
    with judge_of(config, workload, ()) as fleet:
        judgements = list(judged(episodes, reward, fleet, config.judge.retries))
    verdicts = {episode.id: verdict for episode, verdict in stored if episode.lost}
    verdicts |= {item.episode.id: item.verdict for item in judgements}
    table = episode_files.read(folder, split, [step], ["id", "gold"]).to_pydict()
    gold = dict(zip(table["id"], table["gold"], strict=True))
    written = folder.path / FOLDER / _name(judge) / f"{split}-{step:06d}.parquet"
    written.parent.mkdir(parents=True, exist_ok=True)
    asked = [Group(group.episodes, tuple(verdicts[episode.id] for episode in group.episodes)) for group in groups]
    episode_files.write_file(written, step, asked, {}, split, gold)
    old = str(folder.settings()["judge"]["name"])
    return _compared(groups, verdicts, gold, proxy_of(config, workload), (old, judge), (split, step), written)


def _with_references(groups: Sequence[Group], tasks: Sequence[Task]) -> list[Group]:
    """The groups with what scoring needs, from the run's data where the file is of a format that held none."""
    known = {task.id: task for task in tasks}

    def mended(episode: Episode) -> Episode:
        task = episode.task
        if task.reference:
            return episode
        now = known.get(task.id)
        if now is None or [dict(message) for message in now.messages] != [dict(message) for message in task.messages]:
            raise RunError(
                f"task {task.id} is not in the run's data as it was asked: they have changed, and its rubric with them. Restore "
                "what data.path names."
            )
        return replace(episode, task=now)

    return [Group(tuple(map(mended, group.episodes)), group.verdicts) for group in groups]


def _check_questions(reward: Any, episodes: Sequence[Episode]) -> None:
    if any(reward.queries(episode) for episode in episodes):
        raise RunError(
            "this run's reward asks the policy for its own logits, which no judge can give: nothing to rejudge."
        )
    roles = {call.role for episode in episodes for call in reward.calls(episode)}
    if roles != {JUDGE}:
        asked = f"asks {', '.join(sorted(roles))}" if roles else "asks no model"
        raise RunError(f"this run's reward {asked}, not a judge alone: nothing to rejudge.")


def _name(judge: str) -> str:
    """A judge's reference as the name of a folder."""
    return re.sub(r"[^\w.-]+", "_", judge).strip("_")


def _compared(
    groups: Sequence[Group],
    verdicts: dict[str, Verdict],
    gold: dict[str, float | None],
    proxy: Proxy,
    judges: tuple[str, str],
    part: tuple[str, int],
    written: Path,
) -> Rejudged:
    pairs = [pair for group in groups for pair in zip(group.episodes, group.verdicts, strict=True)]
    both = [
        Both(episode, stored, new, gold[episode.id])
        for episode, stored in pairs
        if isinstance(stored, Scored) and isinstance(new := verdicts[episode.id], Scored)
    ]
    reasons = [verdict.reason for verdict in verdicts.values() if not isinstance(verdict, Scored)]
    if not both:
        first = f" The first reason: {reasons[0]}" if reasons else ""
        raise RunError(f"none of the {len(pairs)} episodes was scored by both judges.{first}")
    tasks = [item.episode.task.id for item in both]
    old_rewards, new_rewards = [item.stored.reward for item in both], [item.new.reward for item in both]
    differences = [new - old for old, new in zip(old_rewards, new_rewards, strict=True)]
    accuracy, criteria = agreements(both)
    rows, nearer = _against_gold(both, proxy, judges)
    return Rejudged(
        part[1], part[0], judges, len(pairs),
        (sum(not isinstance(stored, Scored) for _, stored in pairs), len(reasons)),
        reasons[0] if reasons else None,
        mean_interval(old_rewards, tasks), mean_interval(new_rewards, tasks), mean_interval(differences, tasks),
        accuracy, criteria, rank_correlation(old_rewards, new_rewards), rows, nearer, written,
    )  # fmt: skip


def agreements(both: Sequence[Both]) -> tuple[Interval | None, tuple[Agreement, ...]]:
    """(share of verdicts that are the same, over all criteria; a row for all and one a criterion, most verdicts first)."""
    said: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    same: list[float] = []
    tasks: list[str] = []
    for item in both:
        for criterion in item.stored.judgements.keys() & item.new.judgements.keys():
            pair = (item.stored.judgements[criterion] > 0.5, item.new.judgements[criterion] > 0.5)
            said[criterion].append(pair)
            same.append(float(pair[0] == pair[1]))
            tasks.append(item.episode.task.id)
    if not same:
        return None, ()
    ordered = sorted(said.items(), key=lambda entry: (-len(entry[1]), entry[0]))
    rows = [(ALL, [pair for pairs in said.values() for pair in pairs]), *ordered]
    return mean_interval(same, tasks), tuple(_agreement(name, pairs) for name, pairs in rows)


def _agreement(name: str, pairs: Sequence[tuple[bool, bool]]) -> Agreement:
    """Cohen's kappa: agreement beyond that of two judges who say yes as often but independently, (a - e) / (1 - e)."""
    accuracy = fmean(old == new for old, new in pairs)
    met, new_met = fmean(old for old, _ in pairs), fmean(new for _, new in pairs)
    expected = met * new_met + (1 - met) * (1 - new_met)
    kappa = (accuracy - expected) / (1 - expected) if expected < 1 else math.nan
    return Agreement(name, len(pairs), accuracy, kappa, met, new_met)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's; NaN where one side does not vary."""
    if len(set(first)) < 2 or len(set(second)) < 2:
        return math.nan
    return float(stats.spearmanr(first, second).statistic)


def _against_gold(
    both: Sequence[Both], proxy: Proxy, judges: tuple[str, str]
) -> tuple[tuple[GoldRow, ...], Interval | None]:
    known = [
        (item.episode.task.id, item.gold, proxy.of(item.stored), proxy.of(item.new))
        for item in both
        if item.gold is not None
    ]
    if not known:
        return (), None
    truth = [gold for _, gold, *_ in known]
    rows = []
    for judge, scores in zip(judges, zip(*(scores for _, _, *scores in known), strict=True), strict=True):
        errors = [score - gold for score, gold in zip(scores, truth, strict=True)]
        rows.append(GoldRow(judge, fmean(errors), fmean(map(abs, errors)), rank_correlation(scores, truth)))
    nearer = [abs(new - gold) - abs(old - gold) for _, gold, old, new in known]
    return tuple(rows), mean_interval(nearer, [task for task, *_ in known])
