"""What the episodes of a run are worth: by its reward, and by the truth where that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.functions import FunctionReference
from orchestrator.config.own_code import own_code
from orchestrator.config.schema import RewardConfig, RunConfig
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Answerer
from orchestrator.rollouts.evaluation import best_of_metrics, evaluation_metrics, proxy_of
from orchestrator.rollouts.functions import Problem
from orchestrator.rollouts.judging import ask
from orchestrator.rollouts.pool import Pool
from orchestrator.rollouts.unasked import Unasked
from orchestrator.values import (
    Answer,
    Episode,
    Group,
    LogitAnswer,
    LogitQuery,
    Scored,
    Unscored,
    Verdict,
)

Tell = Callable[[str, str], None]
"""Says a line to the user; the second text, a traceback, is only kept."""


@dataclass(frozen=True, slots=True)
class Played:
    """Episodes with the answers of whoever judges them. queries: what each asks the learner. retried: questions that were asked
    again. verdicts: empty until the learner has answered, where anything is asked of it."""

    episodes: Sequence[Episode] = ()
    answers: Sequence[Sequence[Answer]] = ()
    queries: Sequence[Sequence[LogitQuery]] = ()
    retried: int = 0
    verdicts: Sequence[Verdict] = ()


class FunctionReward(Unasked):
    """Implements `workloads.base.Reward` with a function of one's own, in processes that can be killed.

    lost_share: share of the episodes that may be lost; once it is more, the function is not tried on the rest of them.
    """

    def __init__(self, function: str, settings: RewardConfig, lost_share: float, tell: Tell) -> None:
        self._function = FunctionReference.parse(function)
        self._pool = Pool(self._function, settings.processes, settings.deadline_s)
        self._lost_share, self._tell = lost_share, tell

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]] = (),
        logits: Sequence[Sequence[LogitAnswer]] = (),
    ) -> list[Verdict]:
        """The function's verdicts; `Unscored`, with function, task and reason, for the tasks that it could not score."""
        positions: dict[str, list[int]] = {}
        for position, episode in enumerate(episodes):
            positions.setdefault(episode.task.id, []).append(position)
        jobs = [[episodes[position] for position in mine] for mine in positions.values()]
        outcomes = self._pool.run(jobs, int(self._lost_share * len(episodes)))
        verdicts: dict[int, Verdict] = {}
        problems: dict[str, Problem] = {}
        for (task, mine), outcome in zip(positions.items(), outcomes, strict=True):
            if isinstance(outcome, Problem):
                problems[f"{self._function.shown}, task {task}: {outcome.reason}"] = outcome
                verdicts |= dict.fromkeys(mine, Unscored(f"{self._function.shown}, task {task}: {outcome.reason}"))
            else:
                verdicts |= zip(mine, outcome, strict=True)
        for first, problem in list(problems.items())[:1]:
            self._tell(f"no score for {len(problems)} of {len(jobs)} tasks; the first: {first}", problem.traceback)
        return [verdicts[position] for position in range(len(episodes))]

    def close(self) -> None:
        """End the processes."""
        self._pool.close()


class Scoring:
    """The reward of a run, what evaluations report of it, and the gold beside it; of functions where settings or the workload name
    them."""

    def __init__(self, config: RunConfig, workload: Any, tell: Tell) -> None:
        own, lost_share = config.reward, config.judge.max_unscored_share
        self._workload, self._retries = workload, config.retries()
        names = workload.functions() | {key: name for key, name in (("reward", own.name), ("gold", own.gold)) if name}
        function, self._gold = (
            FunctionReward(names[key], own, lost_share, tell) if key in names else None for key in ("reward", "gold")
        )
        self._functions = [reward for reward in (function, self._gold) if reward]
        with own_code("the workload's reward()", workload):
            self.reward = function or workload.reward()
        self._proxy = proxy_of(config, workload)

    def judge(self, episodes: Sequence[Episode], fleets: Mapping[str, Answerer]) -> Played:
        """Have the episodes judged, lost ones aside, and scored at once where nothing is asked of the learner."""
        answers, retried = ask(
            [episode for episode in episodes if not episode.lost], self.reward, fleets, self._retries
        )
        given = iter(answers)
        with own_code("the reward's queries()", self.reward):
            queries = [() if episode.lost else tuple(self.reward.queries(episode)) for episode in episodes]
        played = Played(episodes, [() if episode.lost else next(given) for episode in episodes], queries, retried)
        return played if any(queries) else self._scored(played, ())

    def groups(self, played: Played, logits: Sequence[LogitAnswer]) -> list[Group]:
        """The verdicts by task. logits: one a query, in their order."""
        played = played if played.verdicts else self._scored(played, logits)
        grouped: dict[str, list[tuple[Episode, Verdict]]] = {}
        for episode, verdict in zip(played.episodes, played.verdicts, strict=True):
            grouped.setdefault(episode.task.id, []).append((episode, verdict))
        return [Group(*map(tuple, zip(*members, strict=True))) for members in grouped.values()]

    def gold(self, episodes: Sequence[Episode], split: str) -> dict[str, float | None]:
        """The true worth by episode id, None where it is not known. A function of one's own is asked of held-out episodes alone."""
        if self._gold is None:
            with own_code("the workload's gold()", self._workload):
                return {e.id: None if e.lost else self._workload.gold(e) for e in episodes}
        if split == "train":
            return {}
        whole = [episode for episode in episodes if not episode.lost]
        found = {episode.id: verdict for episode, verdict in zip(whole, self._gold.score(whole), strict=True)}
        return {
            episode.id: verdict.reward if isinstance(verdict := found.get(episode.id), Scored) else None
            for episode in episodes
        }

    def evaluation(
        self, groups: Sequence[Group], gold: Mapping[str, float | None], best_of: int, split: str
    ) -> dict[str, float]:
        """What is reported of held-out episodes of a split ("eval", "test"). best_of: answers a task for best-of-n; 0 leaves it out."""
        measured = evaluation_metrics(groups, gold, self._proxy, split)
        with own_code("the workload's metrics()", self._workload):
            measured |= {f"{split}/{name}": value for name, value in self._workload.metrics(groups).items()}
        return measured | (best_of_metrics(groups, gold, self._proxy, best_of, split) if best_of else {})

    def close(self) -> None:
        """End the processes of one's own functions."""
        for function in self._functions:
            function.close()

    def _scored(self, played: Played, logits: Sequence[LogitAnswer]) -> Played:
        remaining = iter(logits)
        mine = [[next(remaining) for _ in asked] for asked in played.queries]
        whole = [number for number, episode in enumerate(played.episodes) if not episode.lost]
        episodes, answers = [played.episodes[number] for number in whole], [played.answers[number] for number in whole]
        with own_code("the reward's score()", self.reward):
            verdicts = self.reward.score(episodes, answers, [mine[number] for number in whole])
        if len(verdicts) != len(episodes):
            raise RunError(
                f"{type(self.reward).__name__}.score() returned {len(verdicts)} verdicts for {len(episodes)} episodes: it must "
                "return one each, in their order."
            )
        given = iter(verdicts)
        return replace(
            played, verdicts=[Unscored(episode.lost) if episode.lost else next(given) for episode in played.episodes]
        )
