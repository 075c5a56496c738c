"""An update watched from within: what each episode of a batch added to the loss, and what the update reports of itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from orchestrator.config.algorithm import AlgorithmConfig
from orchestrator.learning.batch import Batch
from orchestrator.learning.engine import start_deepspeed
from orchestrator.learning.model import TokenScores
from orchestrator.learning.objectives.kl import k3
from orchestrator.learning.parts import Part
from orchestrator.learning.policy import PolicyLearner
from orchestrator.learning.rows import Microbatch


@dataclass(frozen=True, slots=True)
class EpisodeTerms:
    """What one episode was in an update. loss: what it added, summed over the optimizer steps that it took part in; share: of the
    sum of all episodes' |loss|, with its sign.

    reward: after shaping. The rest are means over its trained tokens: advantage, gap (log-probability of the trainer minus that of
    the engine, before the update), |gap|, and, over all passes, ratio to before the update, share of ratios outside of the clip
    range, entropy, KL to the starting policy (None where none is kept). An episode without rows (tokens is 0) has 0 in all.
    """

    id: str
    tokens: int
    reward: float
    advantage: float
    gap: float
    gap_size: float
    ratio: float
    clipped: float
    entropy: float
    kl: float | None
    loss: float
    share: float


@dataclass(slots=True)
class _Sums:
    """Sums by episode, [E] float64."""

    episodes: int
    clip: tuple[float, float]
    has_reference: bool = False
    columns: dict[str, torch.Tensor] = field(default_factory=dict)

    def terms(self, part: Part, microbatch: Microbatch, terms_T: torch.Tensor) -> None:
        """Implements `Watcher`."""
        real_T = (microbatch.flat >= 0).cpu()
        episode_T = part.columns.episode[microbatch.flat.cpu()[real_T]]
        self._add("loss", episode_T, terms_T.cpu().double()[real_T])

    def scored(self, part: Part, scores: TokenScores) -> None:
        """Implements `Watcher`."""
        columns, now_T = part.columns, scores.logprobs
        before_T = now_T if columns.old is None else columns.old
        ratio_T = torch.exp(now_T - before_T)
        low, high = self.clip
        found = {
            "tokens": torch.ones_like(now_T),
            "advantage": columns.advantages,
            "gap": before_T - columns.behaviour,
            "gap_size": (before_T - columns.behaviour).abs(),
            "ratio": ratio_T,
            "clipped": ((ratio_T < low) | (ratio_T > high)).double(),
            "entropy": scores.entropies,
        }
        if columns.reference is not None:
            self.has_reference = True
            found["kl"] = k3(now_T, columns.reference)
        for name, values_T in found.items():
            self._add(name, columns.episode, values_T)

    def _add(self, name: str, episode_T: torch.Tensor, values_T: torch.Tensor) -> None:
        sums_E = self.columns.setdefault(name, torch.zeros(self.episodes, dtype=torch.float64))
        sums_E.index_add_(0, episode_T, values_T.double())


def watched_update(
    learner: PolicyLearner, batch: Batch, version: int, algorithm: AlgorithmConfig, ids: Sequence[str]
) -> tuple[list[EpisodeTerms], dict[str, float]]:
    """Do one update, on one rank: (an entry an episode of the batch, the update's metrics). ids: of the batch's episodes.

    Raises RunError where the update would.
    """
    sums = _Sums(len(ids), (1 - algorithm.clip_low, 1 + algorithm.clip_high))
    learner.watcher = sums
    metrics = learner.update(batch, version)
    scored_E = sums.columns["tokens"].clamp_min(1)
    means = {name: (column / scored_E).tolist() for name, column in sums.columns.items()}
    loss_E = sums.columns["loss"]
    share_E = loss_E / loss_E.abs().sum().clamp_min(torch.finfo(torch.float64).tiny)
    tokens_E = torch.bincount(batch.episode_T, minlength=len(ids))
    terms = [
        EpisodeTerms(
            id=name,
            tokens=int(tokens_E[number]),
            reward=float(batch.rewards_E[number]),
            kl=means["kl"][number] if sums.has_reference else None,
            loss=float(loss_E[number]),
            share=float(share_E[number]),
            **{key: means[key][number] for key in ("advantage", "gap", "gap_size", "ratio", "clipped", "entropy")},
        )
        for number, name in enumerate(ids)
    ]
    return terms, metrics


@contextmanager
def only_rank() -> Iterator[None]:
    """This process as the only rank of a learner, while the block runs. Once a process: DeepSpeed remembers its groups."""
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    before = {name: os.environ.get(name) for name in alone}
    os.environ.update(alone)
    with tempfile.TemporaryDirectory() as folder:
        store = dist.FileStore(str(Path(folder) / "store"), 1)
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=store, rank=0, world_size=1, timeout=timedelta(minutes=30))
        try:
            start_deepspeed()
            yield
        finally:
            dist.destroy_process_group()
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
