"""Rank 0's side of a run: it plays episodes, has them judged, keeps the records. The other ranks only learn.

Task -> episodes -> answers -> verdicts -> batch, each a method, in that order.
"""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Any

from orchestrator.cluster.plan import make_plan
from orchestrator.config.schema import RunConfig
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Answerer, Fleet, start_servers
from orchestrator.fleets.pool_manager import PoolSpec
from orchestrator.fleets.pooled import PooledFleet
from orchestrator.fleets.remote import remote_fleets
from orchestrator.fleets.specs import ServerSpec
from orchestrator.fleets.weights import publish
from orchestrator.learning.batch import Batch, Selection, make_batch, select
from orchestrator.records import episodes as episode_files
from orchestrator.records.folder import RunFolder
from orchestrator.records.ledger import Clock, Ledger
from orchestrator.records.metrics import Events, MetricsLog
from orchestrator.rollouts.ahead import Ahead
from orchestrator.rollouts.dynamic import Refill, differing, further_tasks
from orchestrator.rollouts.play import roll_out
from orchestrator.rollouts.verdicts import Played, Scoring
from orchestrator.values import (
    JUDGE,
    POLICY,
    Group,
    LogitAnswer,
    LogitQuery,
    Sampling,
    Scored,
    Task,
    Unscored,
    stable_hash,
)

Phase = Callable[[str], AbstractContextManager[None]]


KEEP_WEIGHTS, DROP_WEIGHTS = 1, 2
"""Levels of a server's sleep, as vLLM numbers them."""


class Director:
    """Lives on rank 0. servers: the actor handles of each role's fleet, created by the driver. keys: for the roles that URLs answer
    for. pools: of the shared roles. began: when the run took its resources, in seconds since the epoch; by default now."""

    def __init__(
        self,
        config: RunConfig,
        workload: Any,
        folder: Path,
        servers: Mapping[str, Sequence[Any]],
        keys: Mapping[str, str | None] = MappingProxyType({}),
        pools: Sequence[PoolSpec] = (),
        began: float | None = None,
    ) -> None:
        self.config, self.workload, self.folder = config, workload, RunFolder(folder)
        self.events = Events(self.folder.events)
        self.ledger = Ledger(self.folder.ledger_log, make_plan(config), began, on_phase=self.events.phase)
        self._log = MetricsLog(self.folder.metrics_log)
        self.fleets: dict[str, Answerer] = {role: self._fleet(role, handles) for role, handles in servers.items()}
        self.fleets |= remote_fleets(config, keys)
        self._pooled = {pool.role: self._join(pool) for pool in pools}
        self.fleets |= self._pooled
        self._scoring, self._environment = Scoring(config, workload, self.events.announce), workload.environment()
        self._sampling = Sampling(config.rollout.max_completion_tokens, config.rollout.temperature)
        self._tasks = {split: list(workload.tasks(split)) for split in config.splits()}
        self._played = Played()
        ahead = config.rollout.max_staleness
        self._ahead = Ahead(self._perform_ahead, ahead, config.steps) if ahead else None
        self._gathered: tuple[list[Group], dict[str, float | None]] = ([], {})
        self._refill: list[Task] = []
        self._row: dict[str, float] = {}
        self._closed = threading.Event()

    def _fleet(self, role: str, handles: Sequence[Any]) -> Fleet:
        settings = self.config.roles()[role].fleet
        return Fleet(
            role, list(handles), settings.request_deadline_s, settings.start_deadline_s, settings.max_restarts,
            self.config.limits.exposed_wait_notice_s, tell=self.events.announce,
        )  # fmt: skip

    def _join(self, pool: PoolSpec) -> PooledFleet:
        notice_s = self.config.limits.exposed_wait_notice_s
        return PooledFleet(pool, f"the learner of {self.folder.name}", notice_s, self.events.announce)

    def wait_for_fleets(self) -> None:
        """Block until every server answers."""
        for role, fleet in self.served.items():
            self.events.announce(f"waiting for the {role} fleet ({len(fleet.servers)} vLLM server(s))")
            fleet.wait_ready()
        for role, pooled in self._pooled.items():
            self.events.announce(f"waiting for the {role} pool")
            pooled.wait_ready()

    def seat_fleets(self, specs: Mapping[str, Sequence[ServerSpec]]) -> None:
        """Start servers on the GPUs of the learner's ranks, and put them to sleep. One fleet after the other: vLLM measures
        free memory when it starts."""
        for role, wanted in specs.items():
            self.events.announce(f"starting the {role} fleet on the learner's devices ({len(wanted)} vLLM server(s))")
            self.fleets[role] = fleet = self._fleet(role, start_servers(wanted))
            fleet.wait_ready()
            fleet.sleep(self._sleep_level(role))

    @property
    def served(self) -> dict[str, Fleet]:
        """The fleets of our own, by role."""
        return {role: fleet for role, fleet in self.fleets.items() if isinstance(fleet, Fleet)}

    def rest(self) -> None:
        """Colocated: the learner is about to work, so the servers sleep."""
        with self.ledger.phase("sync"):
            self._sleep()

    def _sleep(self) -> None:
        for role, fleet in self.served.items():
            fleet.sleep(self._sleep_level(role))

    def _sleep_level(self, role: str) -> int:
        """The policy gets new weights before it answers again, unless it gets adapters alone; all others keep theirs."""
        return DROP_WEIGHTS if role == POLICY and self.config.sync.lora == "merged" else KEEP_WEIGHTS

    def wake(self, roles: Sequence[str], parts: Sequence[str]) -> None:
        """Colocated: the learner waits, so the servers of these roles take their memory again, in this order.

        If one cannot, the servers of all roles are put to sleep again; then its RunError goes on.
        """
        try:
            for role in roles:
                for part in parts:
                    self.served[role].wake(part)
        except RunError:
            with suppress(RunError):  # a server that hung in waking will not sleep on request either
                self._sleep()
            raise

    def push(self, role: str, version: int, buckets: Iterable[Mapping[str, Any]]) -> None:
        """Have every server of a role that is not trained in RL take over weights; they go through the object store."""
        self.served[role].push(publish(version, buckets))

    def tasks_of(self, step: int) -> list[Task]:
        """The tasks of a step (from 1): a function of the seed and the step, so that resuming needs no sampler state."""
        tasks, size = self._tasks["train"], self.config.rollout.prompts_per_step
        chosen = []
        for position in range((step - 1) * size, step * size):
            epoch, index = divmod(position, len(tasks))
            order = list(range(len(tasks)))
            random.Random(stable_hash("tasks", self.config.seed, epoch)).shuffle(order)
            chosen.append(tasks[order[index]])
        return chosen

    def play(self, step: int, split: str = "train", refill: int = 0) -> list[LogitQuery]:
        """Roll out and judge one training step, or the held-out tasks. Returns what the reward asks the learner.

        refill: further rounds of this step so far, each after `batch` answered with a `Refill`.
        """
        if split != "train":
            self._played = self._perform(
                self._tasks[split], self._eval_samples(step, split), step, split, self._in_eval
            )
        elif refill:
            self._played = self._perform_train(self._refill, step, self.ledger.phase)
        else:
            self._gathered = ([], {})
            self._row |= {"rollout/refills": 0} if self.config.algorithm.dynamic_sampling else {}
            self._played = self._next_played(step)
        return [query for queries in self._played.queries for query in queries]

    def _next_played(self, step: int) -> Played:
        """The step's rollouts: played now, or taken from those that ran ahead."""
        if self._ahead is None:
            return self._perform_train(self.tasks_of(step), step, self.ledger.phase)
        with self.ledger.phase("wait"):
            played, clock = self._ahead.take(step)
        for phase, seconds in clock.seconds.items():
            self.ledger.beside(phase, seconds)
        return played

    def _perform_ahead(self, step: int) -> tuple[Played, Clock]:
        """Play a step beside the learner, in a thread that has a clock of its own."""
        clock = Clock()
        return self._perform_train(self.tasks_of(step), step, clock.phase), clock

    def _perform_train(self, tasks: Sequence[Task], step: int, phase: Phase) -> Played:
        return self._perform(tasks, self.config.rollout.samples_per_prompt, step, "train", phase)

    def _perform(self, tasks: Sequence[Task], samples: int, step: int, split: str, phase: Phase) -> Played:
        """Roll out and judge."""
        for fleet in self.fleets.values():
            fleet.begin_step(split)
        with phase("rollout"):
            episodes = roll_out(
                tasks, samples, self._environment, self._sampling, self.fleets,
                seed=self.config.seed, step=step, purpose=split, at_once=self.config.rollout.at_once,
                retries=self.config.retries(), cancelled=self._closed.is_set,
            )  # fmt: skip
        with phase("judge"):
            return self._scoring.judge(episodes, self.fleets)

    def _in_eval(self, phase: str) -> AbstractContextManager[None]:
        return self.ledger.phase("eval")

    def synced(self, version: int) -> None:
        """The policy's servers hold weights of this version, and all others theirs: rollouts may run ahead of it."""
        if self._ahead:
            self._ahead.allow(version)

    def __enter__(self) -> Director:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """The run ends: nothing more is played. What ended it stays in the events, with its traceback."""
        if error:
            told = "".join(traceback.format_exception(error))
            self.events.announce(f"the run cannot go on ({type(error).__name__})", told)
        self.close()

    def close(self) -> None:
        """Nothing more is played, and no process is left behind."""
        self._closed.set()
        if self._ahead:
            self._ahead.close()
        self._scoring.close()
        for pooled in self._pooled.values():
            pooled.close()

    def batch(self, step: int, logits: Sequence[LogitAnswer]) -> Batch | Refill | None:
        """Verdicts, advantages and tensors of the step that was played; None where no group can be learned from.

        A Refill where dynamic sampling wants further tasks played first (`play` with its number).
        """
        algorithm, cap = self.config.algorithm, self.config.rollout.max_completion_tokens
        groups, gold = self._gathered
        further, further_gold = self._verdicts(logits, "train")
        groups += further
        gold |= further_gold
        found = differing(groups, algorithm, cap) if algorithm.dynamic_sampling else groups
        trained = found[: self.config.rollout.prompts_per_step] if algorithm.dynamic_sampling else groups
        selection = select(trained, algorithm, cap)
        self._row |= self._episode_metrics(groups, selection) | {
            "episodes/zero_variance_groups": selection.zero_variance_groups + len(groups) - len(found),
            "faults/retried": self._row.get("faults/retried", 0) + self._played.retried,
        }
        truths = self.workload.gold_verdicts
        episode_files.write_step(self.folder, step, groups, selection.advantages, "train", gold, truths)
        self._check_unscored(groups)
        return self._wants_more(step, groups, len(trained)) or make_batch(selection, algorithm, cap)

    def _wants_more(self, step: int, groups: Sequence[Group], found: int) -> Refill | None:
        """The next round of dynamic sampling, its tasks chosen: twice as many as are missing, if there are so many."""
        algorithm, wanted = self.config.algorithm, self.config.rollout.prompts_per_step
        if not algorithm.dynamic_sampling or found >= wanted:
            return None
        played = {group.episodes[0].task.id for group in groups}
        count = min(wanted, 2 * (wanted - found))
        self._refill = further_tasks(self._tasks["train"], played, count, self.config.seed, step)
        rounds = int(self._row["rollout/refills"])
        if rounds < algorithm.max_refills and self._refill:
            self._row["rollout/refills"] = rounds + 1
            return Refill(wanted - found)
        self.events.announce(
            f"step {step} learns from {found} of {wanted} groups: after {rounds} refills (algorithm.max_refills="
            f"{algorithm.max_refills}) and {len(played)} tasks no others had rewards that differ"
        )
        return None

    def evaluate(self, step: int, logits: Sequence[LogitAnswer], split: str) -> None:
        """Score the held-out episodes that were played with the reward and, where it is known, with the truth."""
        groups, gold = self._verdicts(logits, split)
        episode_files.write_step(self.folder, step, groups, {}, split, gold, self.workload.gold_verdicts)
        self._check_unscored(groups)
        self._row |= self._scoring.evaluation(groups, gold, self._best_of(split) if step == 0 else 0, split)

    def _best_of(self, split: str) -> int:
        """Answers a task for best-of-n of the starting policy: on test tasks those that are sampled anyway; 0 leaves it out."""
        settings = self.config.eval
        return settings.best_of if split == "eval" or not settings.best_of else settings.test_samples_per_task

    def _eval_samples(self, step: int, split: str) -> int:
        """Best-of-n looks at the starting policy's answers, so step 0 has n of them a task."""
        settings = self.config.eval
        usual = settings.samples_per_task if split == "eval" else settings.test_samples_per_task
        return self._best_of(split) or usual if step == 0 else usual

    def close_step(self, step: int, learned: Mapping[str, float]) -> None:
        """Write the step's row: what was played, learned, evaluated, and how long each took."""
        row = self._row | dict(learned) | self.ledger.row(step)
        if "tokens/generated" in row:
            apart = sum(row.get(f"time/{phase}_s", 0.0) for phase in ("start", "teach", "eval", "checkpoint"))
            row["throughput/tokens_per_s"] = row["tokens/generated"] / (row["time/step_s"] - apart)
        counted = {role: fleet.take_statistics() for role, fleet in self.fleets.items()}
        judged = counted.get(JUDGE, {})
        if judged.get("prompt_tokens"):
            row["judge/cache_hit_rate"] = judged["cached_tokens"] / judged["prompt_tokens"]
        if judged.get("asked"):
            row["judge/verdict_cache_hit_rate"] = judged["verdict_hits"] / judged["asked"]
        for name in ("slowest", "slowest_ratio"):
            row |= {f"servers/{role}_{name}": told[name] for role, told in counted.items() if name in told}
        row["faults/lost"] = sum(statistics.get("restarts", 0) for statistics in counted.values())
        self._log.append(step, row)
        self.events.step(step)
        self._row = {}

    def rewind(self, step: int) -> None:
        """Drop the records of steps after `step`: they are played again. So is step 0, the evaluation before the first."""
        kept = step if step else -1
        dropped = self._log.drop_after(kept)
        episode_files.drop_after(self.folder, kept)
        if step or dropped:
            self.events.announce(f"continuing after step {step}")

    def stop_asked(self) -> bool:
        """Whether someone asked the run to end."""
        return self.folder.stop.exists()

    def _verdicts(self, logits: Sequence[LogitAnswer], split: str) -> tuple[list[Group], dict[str, float | None]]:
        """Verdicts of the episodes that were played, grouped by task, and their true worth by episode id."""
        return self._scoring.groups(self._played, logits), self._scoring.gold(self._played.episodes, split)

    def _episode_metrics(self, groups: Sequence[Group], selection: Selection) -> dict[str, float]:
        episodes = [episode for group in groups for episode in group.episodes]
        turns = [turn for episode in episodes for turn in episode.trained]
        scored = [verdict for group in groups for verdict in group.verdicts if isinstance(verdict, Scored)]
        tokens = sum(len(turn.completion_ids) for turn in turns)
        metrics = {
            "episodes/length": tokens / len(episodes),
            "episodes/trained_groups": len(selection.differs),
            "tokens/generated": tokens,
            "faults/unscored": len(episodes) - len(scored),
        }
        if turns:
            metrics["episodes/truncated_share"] = fmean(turn.finish_reason == "length" for turn in turns)
            metrics["episodes/staleness"] = fmean(episodes[0].step - 1 - turn.weight_version for turn in turns)
        if any(not episode.trained for episode in episodes):
            metrics["episodes/silent_share"] = fmean(not episode.lost and not episode.trained for episode in episodes)
        if scored:
            metrics["reward/mean"] = fmean(verdict.reward for verdict in scored)
            for name in dict.fromkeys(name for verdict in scored for name in verdict.components):
                # A function of one's own may give a part to some episodes only.
                parts = [verdict.components[name] for verdict in scored if name in verdict.components]
                metrics[f"reward/{name}"] = fmean(parts)
        return metrics

    def _check_unscored(self, groups: Sequence[Group]) -> None:
        verdicts = [verdict for group in groups for verdict in group.verdicts]
        unscored = [verdict for verdict in verdicts if isinstance(verdict, Unscored)]
        if len(unscored) > self.config.judge.max_unscored_share * len(verdicts):
            raise RunError(
                f"faults/unscored: {len(unscored)} of {len(verdicts)} episodes could not be scored, more than "
                f"judge.max_unscored_share={self.config.judge.max_unscored_share:g}. The first reason: {unscored[0].reason}"
            )
