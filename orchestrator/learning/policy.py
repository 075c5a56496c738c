"""The RL update of the policy: one batch in, one or more optimizer steps, and what happened as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import torch

from orchestrator.config.schema import AlgorithmConfig, LearnerConfig
from orchestrator.errors import RunError
from orchestrator.learning.batch import Batch
from orchestrator.learning.engine import Engine, frozen
from orchestrator.learning.model import TokenScorer, TokenScores
from orchestrator.learning.objectives import OBJECTIVES, TokenInputs
from orchestrator.learning.objectives.base import k3
from orchestrator.learning.rows import Microbatch, Row, pack
from orchestrator.learning.schedule import learning_rate_at
from orchestrator.values import LogitAnswer, LogitQuery


def check_finite(what: str, values: torch.Tensor) -> None:
    """Raise RunError where a value is NaN or infinite."""
    if not values.isfinite().all():
        raise RunError(
            f"the policy's {what} are no longer finite: stopped, and the last checkpoint is from before. Lower "
            "learner.learning_rate or learner.max_grad_norm and begin again from a checkpoint (--from RUN@STEP)."
        )


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
    ) -> None:
        """steps: of the whole run, for the learning-rate schedule. reference: frozen here; sharded as the policy is."""
        self.engine = Engine(policy, learner, learner.learning_rate, dtype)
        self.reference = frozen(reference, learner, dtype, self.engine.device) if reference else None
        self.objective = OBJECTIVES[algorithm.name]
        self._learner, self._algorithm = learner, algorithm
        self._rank, self._pad_id = rank, pad_id
        self._bounds = {"max": max_logprob_gap, "mean": mean_logprob_gap}
        self._steps = steps
        self.steps_done = 0
        self.optimizer_steps = 0

    def _pack(self, rows: Sequence[Row]) -> list[Microbatch]:
        return pack(rows, self._rank, self.engine.ranks, self._learner.tokens_per_microbatch, self._pad_id)

    def answer(self, queries: Sequence[LogitQuery], weight_version: int) -> list[LogitAnswer]:
        """How the current policy rates the spans that a reward asked about: one sharded forward pass."""
        rows = [
            Row(query.ids[: query.start], (query.ids[query.start : query.stop],), (query.stop - query.start,))
            for query in queries
        ]
        scores = self.engine.score(self._pack(rows), sum(row.targets for row in rows))
        lengths = [row.targets for row in rows]
        spans = zip(scores.logits.split(lengths), scores.logprobs.split(lengths), strict=True)
        return [LogitAnswer(float(logits.mean()), float(logprobs.mean()), weight_version) for logits, logprobs in spans]

    def update(self, batch: Batch) -> dict[str, float]:
        """Train on one batch. Raises RunError before any optimizer step if trainer and engine disagree on log-probabilities."""
        passes = self._algorithm.epochs_per_batch * self._algorithm.minibatches
        # With a single optimizer step the old policy is the current one: its log-probabilities need no pass of their own.
        old = self.engine.score(self._pack(batch.rows), batch.total, batch.temperature) if passes > 1 else None
        metrics = self._gap(old, batch) if old else {}
        learning_rate = learning_rate_at(self._learner, self.steps_done, self._steps)
        taken: list[dict[str, float]] = []
        for _ in range(self._algorithm.epochs_per_batch):
            for part, old_T in self._minibatches(batch, old):
                scores, kl = self._accumulate(part, old_T)
                if old is None:
                    metrics |= self._gap(scores, part)
                taken.append(self._policy_metrics(scores, part, old_T) | ({"policy/kl": kl} if self.reference else {}))
                taken[-1]["policy/grad_norm"] = self.engine.step(learning_rate)
                # Before these weights reach an engine or a checkpoint.
                check_finite("gradient", torch.tensor(taken[-1]["policy/grad_norm"]))
                self.optimizer_steps += 1
        self.steps_done += 1
        means = {name: fmean(step[name] for step in taken) for name in taken[0]}
        largest = {"policy/ratio_max": max(step["policy/ratio_max"] for step in taken)}
        return metrics | means | largest | {"policy/learning_rate": learning_rate}

    def _minibatches(self, batch: Batch, old: TokenScores | None) -> list[tuple[Batch, torch.Tensor | None]]:
        """Split a batch by episodes into `minibatches` parts, each with its own aggregation; old log-probabilities beside."""
        if self._algorithm.minibatches == 1:
            return [(batch, old.logprobs if old else None)]
        starts_R = torch.tensor([0, *[row.targets for row in batch.rows]]).cumsum(0)
        episode_R = batch.episode_T[starts_R[:-1]]
        parts: list[tuple[Batch, torch.Tensor | None]] = []
        for episodes in batch.episode_T.unique().chunk(self._algorithm.minibatches):
            chosen_T = torch.isin(batch.episode_T, episodes)
            rows = tuple(row for row, episode in zip(batch.rows, episode_R, strict=True) if episode in episodes)
            part = Batch(
                rows,
                batch.behaviour_T[chosen_T],
                batch.advantages_T[chosen_T],
                batch.episode_T[chosen_T],
                self.objective.aggregation(batch.episode_T[chosen_T]),
                batch.temperature,
            )
            parts.append((part, old.logprobs[chosen_T] if old else None))
        return parts

    def _accumulate(self, batch: Batch, old_T: torch.Tensor | None) -> tuple[TokenScores, float]:
        """Forward and backward of the objective over one minibatch; the step is the caller's. Returns (scores, KL estimate)."""
        kl = torch.zeros((), dtype=torch.float64)

        def loss(scores: TokenScores, microbatch: Microbatch) -> torch.Tensor:
            def pick(values_T: torch.Tensor) -> torch.Tensor:
                return values_T[microbatch.flat.clamp_min(0).cpu()].to(scores.logprobs)

            weights = pick(batch.weights_T) * (microbatch.flat >= 0)
            reference_T = self._reference_logprobs(microbatch, batch.temperature)
            if reference_T is not None:
                kl.add_((weights * k3(scores.logprobs.detach(), reference_T)).sum().double().cpu())
            old = scores.logprobs.detach() if old_T is None else pick(old_T)
            inputs = TokenInputs(scores.logprobs, old, reference_T, pick(batch.advantages_T))
            return (weights * self.objective.token_loss(inputs, self._algorithm)).sum()

        scores = self.engine.score(self._pack(batch.rows), batch.total, batch.temperature, loss)
        return scores, self.engine.total(kl)

    def _reference_logprobs(self, microbatch: Microbatch, temperature: float) -> torch.Tensor | None:
        if self.reference is None:
            return None
        with torch.no_grad():
            return TokenScores(*self.reference(microbatch, temperature)).logprobs

    def _gap(self, scores: TokenScores, batch: Batch) -> dict[str, float]:
        """Trainer against engine, per token. Past the bound the weights that sampled are not the weights that are trained."""
        check_finite("log-probabilities", scores.logprobs)
        gap_T = (scores.logprobs - batch.behaviour_T).abs()
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

    def _policy_metrics(self, scores: TokenScores, batch: Batch, old_T: torch.Tensor | None) -> dict[str, float]:
        """Before the optimizer step that follows. clip_fraction: share of tokens whose ratio lies outside the clip range."""
        ratio_T = torch.exp(scores.logprobs - (scores.logprobs if old_T is None else old_T))
        low, high = 1 - self._algorithm.clip_low, 1 + self._algorithm.clip_high
        return {
            "policy/entropy": float((scores.entropies * batch.weights_T).sum()),
            "policy/ratio_max": float(ratio_T.max()),
            "policy/clip_fraction": float(((ratio_T < low) | (ratio_T > high)).double().mean()),
        }
