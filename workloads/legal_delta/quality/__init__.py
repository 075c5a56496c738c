"""How good reasoning is by another model: the perplexity of the right answer, given the question and the reasoning (arXiv 2508.12281,
figure 5).

    orchestrate train legal_delta.quality of=run:NAME model=hf:Qwen/Qwen2.5-32B-Instruct

There is no RL: the held-out tasks are the stored answers of a run's last test, and `model` is the one that rates them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from orchestrator.config.references import ModelReference, find_run
from orchestrator.config.schema import setting
from orchestrator.errors import ConfigError, RunError
from orchestrator.rollouts.rubrics import judged_metrics
from orchestrator.rollouts.unasked import Unasked
from orchestrator.values import Answer, Episode, Group, LogitAnswer, LogitQuery, Scored, Task, Unscored, Verdict
from workloads import legal_delta
from workloads.base import Lesson, Reward
from workloads.legal_delta.answers import reasoned, said
from workloads.legal_delta.gain import spans_in
from workloads.legal_delta.traces import NONE

_NAME_IT = "name the run whose stored answers are rated, of=run:NAME."
LOGPROB, PERPLEXITY = "gold_logprob", "perplexity"


@dataclass
class Config(legal_delta.Config):
    """A run of this workload."""

    has_test: ClassVar[bool] = False

    steps: int = setting(0, "There is no RL: 0.", low=0, high=0)
    of: str | None = setting(None, "The run whose stored answers are rated: run:NAME.")


class Quality(Unasked):
    """The gold answer's perplexity behind the reasoning: exp of minus the mean log-probability of its rated tokens."""

    def queries(self, episode: Episode) -> Sequence[LogitQuery]:
        """One: the gold answer, as the end of the message whose reasoning is given."""
        reference = episode.task.reference
        words = reasoned(reference["reasoning"], reference["answer"])
        return (LogitQuery(episode.task.messages, spans_in(words), words),)

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]] = (),
        logits: Sequence[Sequence[LogitAnswer]] = (),
    ) -> Sequence[Verdict]:
        """The mean log-probability as the reward; perplexity beside it."""
        return [_verdict(rated) for (rated,) in logits]


def _verdict(rated: LogitAnswer) -> Verdict:
    if not rated.tokens:
        return Unscored("the gold answer has no token that could be rated")
    return Scored(rated.mean_logprob, {LOGPROB: rated.mean_logprob, PERPLEXITY: math.exp(-rated.mean_logprob)})


class Workload(legal_delta.Workload):
    """Implements `workloads.base.Workload`."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        # In a sweep that is planned a model of the hub stands for the run.
        if config.of is not None and ModelReference.parse(config.of).kind not in ("run", "hf"):
            raise ConfigError(f"of={config.of}: {_NAME_IT}")
        if config.traces.name != NONE:
            raise ConfigError(f"traces={config.traces.name}: nothing is taught here; leave traces out.")

    def tasks(self, split: str) -> Sequence[Task]:
        """Of "eval" one a stored task: its prompt, with the reasoning of its first answer as reference."""
        return self._stored if split == "eval" else super().tasks(split)

    @cached_property
    def _stored(self) -> list[Task]:
        # With its Parquet library a second, which planning does without.
        from orchestrator.records import episodes
        from orchestrator.records.folder import RunFolder

        if self.config.of is None:
            raise ConfigError(f"of is not set: {_NAME_IT}")
        reference = ModelReference.parse(self.config.of)
        folder = RunFolder.open(find_run(reference.value, self.config.storage))
        held_out = [part for part in episodes.parts(folder) if part[0] in ("eval", "test")]
        if not held_out:
            raise RunError(
                f"of={self.config.of}: {folder.path} has no held-out answers; finish that run, or name another one."
            )
        split, step = max(held_out, key=lambda part: (part[0] == "test", part[1]))
        answered = [one.episodes[0] for one in episodes.read_groups(folder, split, step) if one.episodes]
        return [
            Task(
                f"{split}-{step}/{first.task.id}",
                first.task.messages,
                {**first.task.reference, "reasoning": said(first.text).reasoning},
            )
            for first in answered
        ]

    def reward(self) -> Reward:
        """The perplexity of the right answer."""
        return Quality()

    def gold(self, episode: Episode) -> float | None:
        """None: what the rating model writes itself is not looked at."""
        return None

    def gold_verdicts(self, episode: Episode) -> Mapping[str, float]:
        """None."""
        return {}

    def proxy(self, verdict: Scored) -> float:
        """The mean log-probability of the gold answer's tokens."""
        return verdict.reward

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Means over the rated answers: gold_logprob, and perplexity."""
        return {name.removeprefix("judge_"): value for name, value in judged_metrics(groups).items()}

    def lessons(self) -> Sequence[Lesson]:
        """Nothing is taught."""
        return ()
