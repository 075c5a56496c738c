"""The RL update of the policy: one batch in, one or more optimizer steps, and what happened as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Protocol

import torch
import torch.distributed as dist

from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.config.schema import LearnerConfig
from orchestrator.errors import RunError
from orchestrator.learning.batch import Batch
from orchestrator.learning.critic import Critic
from orchestrator.learning.engine import Engine, frozen
from orchestrator.learning.lora import adapted, without_adapters
from orchestrator.learning.model import TokenScorer, TokenScores
from orchestrator.learning.objectives import OBJECTIVES
from orchestrator.learning.objectives.kl import k3
from orchestrator.learning.objectives.off_policy import correction
from orchestrator.learning.partition import PartitionScorer, PartitionScores
from orchestrator.learning.parts import Columns, Part, columns_of, loss_terms, metrics_of, split, together
from orchestrator.learning.rows import Microbatch, Row, pack
from orchestrator.learning.schedule import learning_rate_at
from orchestrator.learning.spans import Rated, rows_of
from orchestrator.values import LogitAnswer, LogitQuery

CRITIC = "critic."
"""Begins the names of the critic's tensors in a checkpoint."""

State = Iterable[tuple[str, dict[str, torch.Tensor]]]


def check_finite(what: str, values: torch.Tensor, whose: str = "policy") -> None:
    """Raise RunError where a value is NaN or infinite."""
    if not values.isfinite().all():
        raise RunError(
            f"the {whose}'s {what} are no longer finite: stopped, and the last checkpoint is from before. Lower "
            "learner.learning_rate or learner.max_grad_norm and begin again from a checkpoint (--from RUN@STEP)."
        )


class Watcher(Protocol):
    """Is told what every optimizer step was made of, on this rank."""

    def terms(self, part: Part, microbatch: Microbatch, terms_T: torch.Tensor) -> None:
        """What each target of a microbatch added to the loss."""
        ...

    def scored(self, part: Part, scores: TokenScores) -> None:
        """The scores of all targets of the part, before the step."""
        ...


class PolicyLearner:
    """Collective: every rank makes the same calls with the same arguments."""

    def __init__(
        self,
        policy: TokenScorer,
        reference: TokenScorer | None,
        learner: LearnerConfig,
        algorithm: AlgorithmConfig,
        *,
        dtype: str,
        rank: int,
        pad_id: int,
        max_logprob_gap: float,
        mean_logprob_gap: float = math.inf,
        steps: int,
        critic: TokenScorer | None = None,
        seed: int = 0,
        reader: Callable[[LogitQuery], Rated] | None = None,
    ) -> None:
        """steps: of the whole run, for the learning-rate schedule. reference: the starting policy, where the objective
        `needs_reference`; frozen here, and sharded as the policy is. With LoRA it is not needed: the policy without its adapters
        is asked. critic: a model of the policy's kind that an objective with a critic starts it from; with LoRA it gets adapters
        of its own, and all of its head is trained. seed: of fresh adapters. reader: makes tokens of a reward's queries (`answer`).
        """
        self.objective = OBJECTIVES[algorithm.name]
        self._base_is_reference = bool(learner.lora_rank) and algorithm.needs_reference
        policy = adapted(policy, learner, seed)
        if self.objective.partition and algorithm.flow_log_z:
            policy = PartitionScorer(policy, algorithm.flow_dropout)
        self.engine = Engine(policy, learner, learner.learning_rate, dtype)
        self.critic = Critic(adapted(critic, learner, seed), learner, algorithm, dtype) if critic else None
        self.reference = frozen(reference, learner, dtype, self.engine.device) if reference else None
        self._learner, self._algorithm = learner, algorithm
        self._rank, self._pad_id, self._reader = rank, pad_id, reader
        self._bounds = {"max": max_logprob_gap, "mean": mean_logprob_gap}
        self._steps = steps
        self.steps_done = 0
        self.optimizer_steps = 0
        self.watcher: Watcher | None = None

    def _pack(self, rows: Sequence[Row]) -> list[Microbatch]:
        return pack(rows, self._rank, self.engine.ranks, self._learner.tokens_per_microbatch, self._pad_id)

    def answer(self, queries: Sequence[LogitQuery], weight_version: int) -> list[LogitAnswer]:
        """How the current policy rates what a reward asked about: one sharded forward pass, a row for all that ask the same."""
        assert self._reader is not None, "nobody told the learner how to read a reward's queries"
        asked = [self._reader(query) for query in queries]
        rows, targets = rows_of(asked)
        total = sum(row.targets for row in rows)
        logits_T = logprobs_T = torch.zeros(0, dtype=torch.float64)
        if rows:
            scores = self.engine.score(self._pack(rows), total)
            logits_T, logprobs_T = scores.logits, scores.logprobs
            check_finite("logits", logits_T)
        return [
            LogitAnswer(
                float(logits_T[mine].mean()), float(logprobs_T[mine].mean()), weight_version, len(mine), rated.cut
            )
            for rated, mine in zip(asked, targets, strict=True)
        ]

    def update(self, batch: Batch, version: int) -> dict[str, float]:
        """Train on one batch with weights of this version. Raises RunError before any optimizer step if trainer and engine disagree
        on log-probabilities of the same weights."""
        columns, metrics = self._columns(batch, version)
        learning_rate = learning_rate_at(self._learner, self.steps_done, self._steps)
        warmth = learning_rate / self._learner.learning_rate if self._learner.learning_rate else 1.0
        taken: list[dict[str, float]] = []
        for _ in range(self._algorithm.epochs_per_batch):
            for part in split(batch, columns, self.objective, self._algorithm.minibatches):
                scores = self._accumulate(part)
                if columns.old is None:
                    metrics |= self._gap(scores.logprobs - part.columns.behaviour)
                taken.append(self._policy_metrics(scores, part))
                taken[-1]["policy/grad_norm"] = self.engine.step(learning_rate)
                # Before these weights reach an engine or a checkpoint.
                check_finite("gradient", torch.tensor(taken[-1]["policy/grad_norm"]))
                if self.critic:
                    taken[-1] |= self.critic.update(part, self._pack(part.rows), warmth)
                    check_finite("gradient", torch.tensor(taken[-1]["critic/grad_norm"]), "critic")
                self.optimizer_steps += 1
        self.steps_done += 1
        means = {name: fmean(step[name] for step in taken) for name in taken[0]}
        largest = {"policy/ratio_max": max(step["policy/ratio_max"] for step in taken)}
        return metrics | means | largest | {"policy/learning_rate": learning_rate}

    def _columns(self, batch: Batch, version: int) -> tuple[Columns, dict[str, float]]:
        """What every token's loss will need, from passes over the whole batch with the weights of before; the gap's metrics."""
        check_finite("behaviour log-probabilities", batch.behaviour_T)
        # With a single optimizer step the old policy is the current one: its log-probabilities need no pass of their own.
        several = self._algorithm.epochs_per_batch * self._algorithm.minibatches > 1
        fresh_T = batch.version_T == version
        old_T, correction_T, metrics = None, None, {}
        if several or self.objective.penalises_reward(self._algorithm) or not fresh_T.all():
            old_T = self.engine.score(self._pack(batch.rows), batch.total, batch.temperature).logprobs
            log_ratio_T = old_T - batch.behaviour_T
            if fresh_T.any():
                metrics = self._gap(log_ratio_T[fresh_T])
            if not fresh_T.all():
                correction_T, told = self._correct(log_ratio_T, batch)
                metrics |= told
        reference_T = self._reference_column(batch)
        values_T = None
        if self.critic:
            values_T = self.critic.values(self._pack(batch.rows), batch.total)
            check_finite("values", values_T, "critic")
        columns = columns_of(batch, self.objective, self._algorithm, old_T, reference_T, values_T)
        check_finite("advantages", columns.advantages)
        return replace(columns, correction=correction_T), metrics

    def _correct(self, log_ratio_T: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
        """The weights of what older weights sampled, and how much they change."""
        check_finite("log-probabilities", log_ratio_T)
        form, bound = self._algorithm.off_policy, self._algorithm.off_policy_bound
        weights_T = correction(form, log_ratio_T, batch.episode_T, bound)
        return weights_T, {
            "off_policy/weight_mean": float(weights_T.mean()),
            "off_policy/weight_min": float(weights_T.min()),
            "off_policy/bounded_share": float((log_ratio_T.abs() > math.log(bound)).double().mean()),
            "off_policy/log_ratio_mean": float(log_ratio_T.mean()),
            "off_policy/log_ratio_max": float(log_ratio_T.abs().max()),
        }

    def _accumulate(self, part: Part) -> TokenScores:
        """Forward and backward of the objective over the data of one optimizer step; the step is the caller's."""

        def loss(scores: TokenScores, microbatch: Microbatch) -> torch.Tensor:
            terms_T = loss_terms(self.objective, self._algorithm, part.columns, scores, microbatch)
            if self.watcher:
                self.watcher.terms(part, microbatch, terms_T.detach())
            return terms_T.sum()

        units, tokens = together(part, self.objective), self._learner.tokens_per_microbatch
        microbatches = pack(part.rows, self._rank, self.engine.ranks, tokens, self._pad_id, units)
        scores: TokenScores = self.engine.score(microbatches, part.total, part.temperature, loss)
        if self.watcher:
            self.watcher.scored(part, scores)
        return scores

    def state(self) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
        """What a checkpoint holds of the models and their optimizers: the policy's tensors, then the critic's."""
        yield from self.engine.state()
        if self.critic:
            yield from ((f"{CRITIC}{name}", slots) for name, slots in self.critic.engine.state())

    def load_state(self, read: Callable[[], State], optimizer_steps: int) -> None:
        """The inverse of `state`. read: begins to read what was saved, in any order; called once a model."""
        self.engine.load_state(
            ((name, slots) for name, slots in read() if not (self.critic and name.startswith(CRITIC))), optimizer_steps
        )
        if self.critic:
            self.critic.engine.load_state(
                ((name.removeprefix(CRITIC), slots) for name, slots in read() if name.startswith(CRITIC)),
                optimizer_steps,
            )

    def _reference_column(self, batch: Batch) -> torch.Tensor | None:
        """Log-probabilities under the starting policy, [T] float64 on the CPU, the same on every rank."""
        if self.reference is None:
            return self._base_column(batch) if self._base_is_reference else None
        flat_T = torch.zeros(batch.total, dtype=torch.float64, device=self.engine.device)
        for microbatch in self._pack(batch.rows):
            local = microbatch.to(self.engine.device)
            logprobs_T = self._reference_logprobs(local, batch.temperature)
            real_T = local.flat >= 0
            flat_T[local.flat[real_T]] = logprobs_T[real_T].double()
        dist.all_reduce(flat_T)
        check_finite("reference log-probabilities", flat_T)
        return flat_T.cpu()

    def _base_column(self, batch: Batch) -> torch.Tensor:
        """As `_reference_column`, of the policy without its adapters."""
        with without_adapters(self.engine.module):
            scores: TokenScores = self.engine.score(self._pack(batch.rows), batch.total, batch.temperature)
        check_finite("reference log-probabilities", scores.logprobs)
        return scores.logprobs

    def _reference_logprobs(self, microbatch: Microbatch, temperature: float) -> torch.Tensor:
        assert self.reference is not None
        with torch.no_grad():
            return TokenScores(*self.reference(microbatch, temperature)).logprobs

    def _gap(self, difference_T: torch.Tensor) -> dict[str, float]:
        """Trainer against engine, per token. Past the bound the weights that sampled are not the weights that are trained."""
        check_finite("log-probabilities", difference_T)
        gap_T = difference_T.abs()
        gap = {
            "sync/logprob_gap_mean": float(gap_T.mean()),
            "sync/logprob_gap_p99": float(gap_T.quantile(0.99)) if len(gap_T) < 2**24 else float(gap_T.max()),
            "sync/logprob_gap_max": float(gap_T.max()),
        }
        for name, bound in self._bounds.items():
            if not gap[f"sync/logprob_gap_{name}"] <= bound:
                raise RunError(
                    f"sync/logprob_gap_{name} is {gap[f'sync/logprob_gap_{name}']:.3g}, above limits.logprob_gap_{name}={bound:g} "
                    f"(mean {gap['sync/logprob_gap_mean']:.3g}): the engines do not compute what the learner computes. Stopped before "
                    "the update. Look for weights that were not taken over, or a precision that differs; bfloat16 needs wider bounds."
                )
        return gap

    def _policy_metrics(self, scores: TokenScores, part: Part) -> dict[str, float]:
        """Before the optimizer step that follows. clip_fraction: share of tokens whose ratio lies outside the clip range.

        Means are over the tokens of the passes, weighted as in the loss; alike where an off-policy mask leaves none a weight.
        """
        columns = part.columns
        assert columns.weights is not None
        weights_T = columns.weights if columns.weights.any() else torch.ones_like(columns.weights)
        share_T = weights_T / weights_T.sum()
        ratio_T = torch.exp(scores.logprobs - (scores.logprobs if columns.old is None else columns.old))
        low, high = 1 - self._algorithm.clip_low, 1 + self._algorithm.clip_high
        metrics = {
            "policy/entropy": float((scores.entropies * share_T).sum()),
            "policy/ratio_max": float(ratio_T.max()),
            "policy/clip_fraction": float(((ratio_T < low) | (ratio_T > high)).double().mean()),
        }
        if columns.reference is not None:
            metrics["policy/kl"] = float((share_T * k3(scores.logprobs, columns.reference)).sum())
        if isinstance(scores, PartitionScores):
            metrics["policy/log_z"] = float((share_T * scores.log_partition).sum())
        return metrics | metrics_of(self.objective, self._algorithm, part, scores)
