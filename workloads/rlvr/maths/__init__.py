"""Arithmetic beside moral reasoning: a space of answers with several ways to be right, and problems of the MATH-500 schema.

Data: `mini`, generated sums that several strategies solve, with an exact verifier; `math500`, problems in MATH-500's published
schema, whose answers math-verify compares. No judge is asked in either.

What a reward with several modes asks of an objective. Let p0 be the warmed-up policy, r the reward, 1 on the answers of k paid
strategies and 0 elsewhere.

- A reward maximiser asks for an answer with r = 1. Every mixture of the k strategies is optimal, the one that knows a single
  strategy as good as the even one, and the objective is silent on which it becomes. What decides is the way there: an answer that is
  sampled oftener is reinforced oftener, so a gradient step on the mean of r moves log p by an amount proportional to p itself, the
  common strategies grow ahead of the rare, and once all answers of a group are paid nothing draws the lost ones back. A KL penalty of
  weight w changes the optimum into p0 exp(r / w) / Z, which keeps the mixture of p0; with the usual small w this pull is weak beside
  the noise of the sampling.
- FlowRL asks for the distribution p0 exp(b T r) / Z itself (b: `algorithm.beta`, T: length of the answer, by which it divides the
  log-probabilities, and which is the same for all right answers here). Two paid answers have the same r, so that their odds are to
  stay what they were in p0: no strategy of the warm-up is to be lost. The even mixture is the target only where p0 is even, or where
  `algorithm.flow_prior=none` takes p0 out.

So with k = 1 both ask for the same, and with more modes FlowRL is asked to keep what the maximiser may keep or lose. Neither is asked
for a higher share of right answers. How much of this a few steps of a small model show is measured by the sweep `rlvr_modes`.

Importing this package imports neither torch, transformers nor ray, nor sympy.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from orchestrator.config.schema import DataConfig, RunConfig, group, setting
from orchestrator.errors import ConfigError
from orchestrator.rollouts.unasked import Unasked
from orchestrator.values import Answer, Episode, Group, LogitAnswer, Scored, Task, stable_hash
from workloads import lessons
from workloads.base import BaseWorkload, Lesson, PolicyLesson, Reward
from workloads.rlvr.maths import math500, world

MOST_EXAMPLES = 3072
"""Most generated examples of the warm-up, which then repeat."""
ANSWERS_PER_PROMPT = 4
"""Answers in one warm-up example: branches of one question, which is read once."""
VERIFIER = f"{Path(__file__).resolve().parent / 'verifier.py'}:reward"
"""Scores problems of the MATH-500 schema, in processes that can be killed."""
MODES = 4
OTHER = "other"
"""Stands for all ways to be right that have no name of their own."""


@dataclass
class MathsDataConfig(DataConfig):
    """Where problems come from."""

    source: str = setting(
        "mini",
        "`mini`: generated sums with an exact verifier; `math500`: problems in the schema of MATH-500, scored by math-verify.",
        choices=("mini", "math500"),
    )
    path: str | None = setting(
        None, "math500: FILE.jsonl, FILE.csv, FILE.parquet, or hf:HuggingFaceH4/MATH-500.", file=True
    )
    train_groups: int = setting(2048, "Problems to train on; of math500 at most these of what is not held out.", low=1)
    modes: int = setting(
        MODES,
        "The miniature's number of modes: how many of the strategies that solve every sum are paid; the others earn nothing. The "
        "warm-up teaches all of them whatever is paid.",
        low=1,
        high=len(world.STRATEGIES),
    )


@dataclass
class Config(RunConfig):
    """A run of this workload."""

    asks_judge: ClassVar[bool] = False
    has_test: ClassVar[bool] = True

    data: MathsDataConfig = group(MathsDataConfig, "Where problems come from.")


class StrategyReward(Unasked):
    """Implements `workloads.base.Reward`: 1 for a right derivation by a paid strategy, else 0. No model is asked.

    components of each verdict: `valid` (right by any strategy), `by_STRATEGY` and `by_other` (right by it, paid or not); and of
    its whole group, the same for all of its episodes, `strategies`, the number of different paid strategies among the right answers,
    and `coverage`, that as a share of those that are paid.
    """

    def __init__(self, modes: int) -> None:
        self._paid = world.paid(modes)

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]] = (),
        logits: Sequence[Sequence[LogitAnswer]] = (),
    ) -> list[Scored]:
        """One verdict an episode, in their order."""
        ways = [right_way(episode) for episode in episodes]
        reached: dict[str, set[str]] = {episode.task.id: set() for episode in episodes}
        for episode, way in zip(episodes, ways, strict=True):
            if way in self._paid:
                reached[episode.task.id].add(way)
        return [self._verdict(way, len(reached[episode.task.id])) for episode, way in zip(episodes, ways, strict=True)]

    def _verdict(self, way: str | None, strategies: int) -> Scored:
        components = {"valid": float(way is not None)}
        components |= {f"by_{name}": float(way == name) for name in (*world.STRATEGIES, OTHER)}
        components |= {"strategies": float(strategies), "coverage": strategies / len(self._paid)}
        return Scored(float(way in self._paid), components)


def right_way(episode: Episode) -> str | None:
    """The strategy of a right answer, `OTHER` for one that mixes them; None where the answer is wrong."""
    question = world.Question(tuple(episode.task.reference["terms"]))
    if not world.is_right(question, episode.text):
        return None
    return world.strategy_of(question, episode.text) or OTHER


class Workload(BaseWorkload):
    """Implements `workloads.base.Workload`."""

    config: Config

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if not isinstance(config, Config):
            raise TypeError(f"workload rlvr.maths needs its own Config, not {type(config).__name__}")
        data = config.data
        if data.source == "math500" and data.modes != MODES:
            raise ConfigError(
                f"data.modes={data.modes} is a knob of the miniature, and data.source=math500: drop it, or set data.source=mini."
            )

    def tasks(self, split: str) -> Sequence[Task]:
        """One task a sum or problem of the split ("train", "eval" or "test")."""
        if self._mini:
            return [mini_task(question) for question in self._questions[split]]
        return [problem.task for problem in self._problems[split]]

    def reward(self) -> Reward:
        """The exact verifier of the miniature."""
        return StrategyReward(self.config.data.modes)

    def functions(self) -> Mapping[str, str]:
        """math-verify, for problems of the MATH-500 schema."""
        return {} if self._mini else {"reward": VERIFIER, "gold": VERIFIER}

    def gold(self, episode: Episode) -> float | None:
        """The reward itself: the verifier is exact."""
        return float(right_way(episode) in world.paid(self.config.data.modes)) if self._mini else None

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Means over the scored answers: `correct`, the share that earns its reward; in the miniature the components too."""
        scored = [verdict for group in groups for verdict in group.verdicts if isinstance(verdict, Scored)]
        if not scored or self.config.reward.name:
            return {}
        means = {name: fmean(verdict.components[name] for verdict in scored) for name in scored[0].components}
        return {"correct": fmean(verdict.reward for verdict in scored)} | means

    def lessons(self) -> Sequence[Lesson]:
        """The policy's warm-up: answers by all strategies, with slips; or the published solutions of the training problems."""
        if not self._mini:
            solved = [lessons.chat(item.id, item.messages, [item.solution]) for item in self._problems["train"]]
            return [PolicyLesson(solved)]
        # `data.modes` is not asked: the same policy is the start of all of its values, and is taught once.
        rng = random.Random(stable_hash("sums", self.config.data.seed))
        warmup = self.config.warmup
        count = min(max(warmup.steps, 1) * warmup.examples_per_step, MOST_EXAMPLES)
        chats = [
            lessons.chat(
                question.id,
                mini_task(question).messages,
                [world.warmup_answer(question, rng) for _ in range(ANSWERS_PER_PROMPT)],
            )
            for question in islice(cycle(self._questions["train"]), count)
        ]
        return [PolicyLesson(chats)]

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """The world's closed vocabulary, or the texts of the training problems."""
        return (world.vocabulary(), ()) if self._mini else super().tokenizer_texts()

    @property
    def _mini(self) -> bool:
        return self.config.data.source == "mini"

    @property
    def _counts(self) -> dict[str, int]:
        data = self.config.data
        return {"train": data.train_groups, "eval": data.eval_groups, "test": data.test_groups}

    @cached_property
    def _questions(self) -> dict[str, tuple[world.Question, ...]]:
        made = world.questions(self.config.data.seed)
        for split, count in self._counts.items():
            if count > len(made[split]):
                raise ConfigError(
                    f"data.{split}_groups={count} is more than the world's {len(made[split])} sums for {split}: lower it."
                )
        return {split: made[split][:count] for split, count in self._counts.items()}

    @cached_property
    def _problems(self) -> dict[str, list[math500.Problem]]:
        data = self.config.data
        return math500.split_problems(math500.read_problems(str(data.path)), self._counts, data.seed)


def mini_task(question: world.Question) -> Task:
    """The task of a generated sum."""
    return Task(question.id, ({"role": "user", "content": question.prompt},), {"terms": list(question.terms)})
