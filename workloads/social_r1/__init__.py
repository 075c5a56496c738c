"""Social-R1 (arXiv 2603.09249): a policy reasons about what people in a story see, believe, feel and want; it is rewarded for the right
letter and for how it got there, by a judge of the reasoning's structure and a reward model of its content.

Data: `mini`, a generated world of hard stories with an exact oracle; questions of one's own; ToMBench-Hard; Hi-ToM. The raters are
taught on the spot in the miniature, and else in runs of their own (`social_r1.judge`, `social_r1.content`). Importing this package
imports neither torch nor transformers nor ray.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle, islice
from statistics import fmean
from typing import ClassVar

from orchestrator.config.schema import (
    JudgeConfig,
    RaterConfig,
    RewardModelConfig,
    RunConfig,
    SftConfig,
    group,
    setting,
)
from orchestrator.rollouts.rubrics import judged_metrics
from orchestrator.values import JUDGE, Episode, Group, Scored, Task, stable_hash
from workloads.base import BaseWorkload, Lesson, PolicyLesson, Reward
from workloads.exams import ordering
from workloads.lessons import chat
from workloads.social_r1 import mini, reasoning, world
from workloads.social_r1.asked import CONTENT, STRUCTURE, SocialReward, pairs_right
from workloads.social_r1.data import SocialDataConfig, check_data, questions_of, reference_of
from workloads.social_r1.prompts import REAL, Wording
from workloads.social_r1.questions import Question
from workloads.social_r1.raters import ContentLesson, Pair, Reasoned, StructureLesson, candidates
from workloads.social_r1.reward import SocialRewardConfig, is_right, said

MOST_EXAMPLES = 8192
"""Most generated examples of a lesson, which then repeat: reading them into tokens takes time as well."""
EXAM_REASONINGS = 3
"""Reasonings a held-out question of the miniature world in the structure judge's exam."""
TRAJECTORIES = 6
"""Reasonings a question whose pieces are compared for the content model (the paper's K)."""
EARLY = 0.5
"""A first mention of an option before this share of the thinking is an early one."""


@dataclass
class RecipeConfig:
    """Published hyper-parameters, of which there are two sets that disagree."""

    name: str = setting(
        "own",
        "`script` (the released run_socialR1_4B.sh), `card` (README and model card): steps, batch, group size, learning rate and KL of "
        "presets/recipe; `own`: those of the preset.",
        choices=("own", "script", "card"),
    )


@dataclass
class Config(RunConfig):
    """A run of this workload."""

    has_test: ClassVar[bool] = True

    data: SocialDataConfig = group(SocialDataConfig, "Where questions come from.")
    reward: SocialRewardConfig = group(SocialRewardConfig, "The reward's variant and constants.")
    judge: JudgeConfig = group(JudgeConfig, "The judge of a reasoning's structure.")
    content: RewardModelConfig = group(RewardModelConfig, "The reward model of a reasoning's content.")
    recipe: RecipeConfig = group(RecipeConfig, "Whose hyper-parameters.")

    def raters(self) -> dict[str, RaterConfig]:
        """Those that the reward's variant asks."""
        terms = self.reward.terms
        raters: dict[str, RaterConfig] = {JUDGE: self.judge} if terms.structure else {}
        return raters | ({CONTENT: self.content} if terms.content else {})


class Workload(BaseWorkload):
    """Implements `workloads.base.Workload`."""

    config: Config

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if not isinstance(config, Config):
            raise TypeError(f"workload social_r1 needs its own Config, not {type(config).__name__}")
        check_data(config.data)

    @property
    def wording(self) -> Wording:
        """How policy and raters are asked."""
        return mini.WORDING if self.mini else REAL

    @property
    def mini(self) -> bool:
        """Whether the world is the generated one."""
        return self.config.data.source == "mini"

    def tasks(self, split: str) -> Sequence[Task]:
        """One task a question of the split ("train", "eval" or "test")."""
        return [self.task_of(question) for question in self.questions[split]]

    def task_of(self, question: Question) -> Task:
        """What the policy is asked; the right letter stays out of it."""
        reference = reference_of(question)
        return Task(question.id, ({"role": "user", "content": self.wording.policy(reference)},), reference)

    def reward(self) -> Reward:
        """The released reward, by the variant of `reward.variant`."""
        return SocialReward(self.config.reward, self.wording)

    def gold(self, episode: Episode) -> float | None:
        """1.0 for the right letter, else 0.0."""
        return float(is_right(said(episode.text), episode.task.reference))

    def gold_verdicts(self, episode: Episode) -> Mapping[str, float]:
        """The oracle's scores of structure and content, each 0 to 1, where the miniature's format holds."""
        answer, item = said(episode.text), self.items.get(episode.task.id) if self.mini else None
        if item is None or not answer.format:
            return {}
        return {
            STRUCTURE: reasoning.structure(item, answer.thinking),
            CONTENT: reasoning.content(item, answer.thinking),
        }

    def proxy(self, verdict: Scored) -> float:
        """The right letter, which needs no rater: accuracy is what the reward's other parts are to serve."""
        return verdict.components["correct"]

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Of all answers: accuracy, also by ability, by order and on originals and twins; pair_accuracy, the share of pairs of which
        both are answered rightly; format; of those whose format holds thinking_characters and early_option, the share that
        mentions an option before `EARLY`. judge_NAME: means of the reward's components; in the miniature the oracle's too."""
        episodes = [episode for one in groups for episode in one.episodes]
        if not episodes:
            return {}
        found: dict[str, list[float]] = defaultdict(list)
        for episode in episodes:
            reference, answer = episode.task.reference, said(episode.text)
            right = is_right(answer, reference)
            for name in _slices(reference):
                found[name].append(right)
            if self.mini:
                found[f"accuracy_{'twin' if reference['twin'] else 'original'}"].append(right)
            found["format"].append(answer.format)
            if answer.format:
                place = self.wording.mention(answer.thinking, reference)
                found["early_option"].append(place is not None and place < EARLY)
                found["thinking_characters"].append(len(answer.thinking))
            for name, truth in self.gold_verdicts(episode).items():
                found[f"oracle_{name}"].append(truth)
        found["pair_accuracy"] = list(pairs_right(episodes).values())
        result = {name: fmean(values) for name, values in found.items() if values}
        if self.config.reward.name is not None:
            return result
        return result | judged_metrics(groups) | (self._against_oracle(groups) if self.mini else {})

    def _against_oracle(self, groups: Sequence[Group]) -> dict[str, float]:
        """structure_error: mean distance of the judge's score from the oracle's. structure_order and content_order: share of pairs of
        answers to one question that the rater orders as the oracle does."""
        scores: dict[str, dict[str, list[tuple[float, float]]]] = {STRUCTURE: {}, CONTENT: {}}
        for one in groups:
            for episode, verdict in zip(one.episodes, one.verdicts, strict=True):
                for name, value in verdict.judgements.items() if isinstance(verdict, Scored) else ():
                    truth = self.gold_verdicts(episode)[name]
                    scores[name].setdefault(episode.task.id, []).append((truth, value))
        result = {
            f"{name}_order": report["pair_order"]
            for name, by_task in scores.items()
            if "pair_order" in (report := ordering(by_task))
        }
        distances = [abs(value - truth) for pairs in scores[STRUCTURE].values() for truth, value in pairs]
        return result | ({"structure_error": fmean(distances)} if distances else {})

    def lessons(self) -> Sequence[Lesson]:
        """In the miniature the policy's warm-up and those of the raters that are asked; real data have none."""
        if not self.mini:
            return ()
        asked: dict[str, Lesson] = {}
        if JUDGE in self.config.raters():
            asked[JUDGE] = self.structure_lesson(self.mini_reasoned("train"), self.mini_reasoned("eval"))
        if CONTENT in self.config.raters():
            taught, held_out = ([pair for _, pair in self.mini_pairs(split)] for split in ("train", "eval"))
            asked[CONTENT] = self.content_lesson(taught, held_out)
        return [self._warmup(), *asked.values()]

    def structure_lesson(self, taught: Sequence[Reasoned], asked: Sequence[Reasoned]) -> StructureLesson:
        """The structure judge's, on these reasonings."""
        return StructureLesson(taught, asked, self.wording, self.config.reward, self.config.judge)

    def content_lesson(self, taught: Sequence[Pair], asked: Sequence[Pair]) -> ContentLesson:
        """The content model's, on these pairs."""
        return ContentLesson(taught, asked, self.wording, self.config.content.gate_accuracy)

    def _warmup(self) -> PolicyLesson:
        """On many stories of its own, one answer each: the few of RL, again and again, would be remembered instead of read."""
        count = _examples(self.config.warmup)
        stories = world.make_items(self._counts | {"warmup": (count + 1) // 2}, self.config.data.seed)["warmup"]
        rng = random.Random(stable_hash("warmup", self.config.data.seed))
        return PolicyLesson(
            [
                chat(
                    item.pair,
                    self.task_of(mini.question_of(item)).messages,
                    [reasoning.warmup(item, rng)],
                )
                for item in stories[:count]
            ]
        )

    def mini_reasoned(self, split: str) -> list[Reasoned]:
        """Generated reasonings of all qualities with the oracle's score: as many as the judge's training reads, or `EXAM_REASONINGS` a
        held-out question."""
        rng = random.Random(stable_hash("structure", split, self.config.data.seed))
        items = self._worlds[split]
        count = _examples(self.config.judge.training) if split == "train" else EXAM_REASONINGS * len(items)
        return [
            Reasoned(
                item.pair, item.id, reference_of(mini.question_of(item)), thinking, reasoning.structure(item, thinking)
            )
            for item in islice(cycle(items), count)
            for thinking in [mini.thinking(item, rng)]
        ]

    def mini_pairs(self, split: str) -> list[tuple[str, Pair]]:
        """(question's id, pieces of `TRAJECTORIES` generated reasonings about it, the better by the oracle)."""
        rng = random.Random(stable_hash("content", split, self.config.data.seed))
        pairs = [
            (item.id, pair)
            for item in self._worlds[split]
            for pair in self.oracle_pairs(item, [mini.thinking(item, rng) for _ in range(TRAJECTORIES)], rng)
        ]
        rng.shuffle(pairs)
        return pairs[: _examples(self.config.content.training)] if split == "train" else pairs

    def oracle_pairs(self, item: world.Item, thinkings: Sequence[str], rng: random.Random) -> list[Pair]:
        """What the oracle says of the pieces of these reasonings; where it sees no difference there is no pair."""
        reference = reference_of(mini.question_of(item))
        pairs = []
        for first, second in candidates([self.wording.pieces(thinking) for thinking in thinkings], rng):
            difference = reasoning.content(item, first) - reasoning.content(item, second)
            if difference:
                better, worse = (first, second) if difference > 0 else (second, first)
                pairs.append(Pair(item.pair, reference, better, worse))
        return pairs

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """The world's closed vocabulary and the words of its questions to raters, or the texts of the training questions."""
        return (mini.vocabulary(), ()) if self.mini else super().tokenizer_texts()

    @cached_property
    def questions(self) -> dict[str, list[Question]]:
        """By split."""
        if self.mini:
            return {split: [mini.question_of(item) for item in items] for split, items in self._worlds.items()}
        return questions_of(self.config.data)

    @property
    def _counts(self) -> dict[str, int]:
        """Pairs of the miniature by split."""
        data = self.config.data
        return {"train": data.train_groups, "eval": data.eval_groups, "test": data.test_groups}

    @cached_property
    def _worlds(self) -> dict[str, tuple[world.Item, ...]]:
        return world.make_items(self._counts, self.config.data.seed)

    @cached_property
    def items(self) -> dict[str, world.Item]:
        """The miniature's items by id."""
        return {item.id: item for items in self._worlds.values() for item in items}


def _slices(reference: Mapping[str, object]) -> list[str]:
    """The names under which a question's accuracy is reported."""
    names = ["accuracy"]
    if ability := str(reference.get("ability", "")):
        names.append(f"accuracy_{ability.lower().replace(' ', '_')}")
    if "order" in reference:
        names.append(f"accuracy_order_{reference['order']}")
    return names


def _examples(training: SftConfig) -> int:
    """As many examples as the training reads, up to `MOST_EXAMPLES`."""
    return min(max(training.steps, 1) * training.examples_per_step, MOST_EXAMPLES)
