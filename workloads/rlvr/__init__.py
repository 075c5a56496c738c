"""Rubric-judged moral reasoning (arXiv 2603.10588): a policy reasons about a dilemma, a judge checks it against a
rubric.

Data: `mini`, a generated world with an exact oracle; `morebench_site`, three real dilemmas with judged responses;
`morebench`, the benchmark's published tables. Importing this package imports neither torch nor transformers nor
ray.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import ClassVar

from orchestrator.config.schema import RunConfig, SftConfig, group
from orchestrator.rollouts.rubrics import (
    Criterion,
    Rubric,
    RubricReward,
    RubricRewardConfig,
    judged_metrics,
    official_score,
    rubric_of,
)
from orchestrator.values import JUDGE, Episode, Group, Message, Scored, Task, Verdict, stable_hash
from workloads import lessons
from workloads.base import BaseWorkload, Lesson, PolicyLesson, Reward
from workloads.lessons import Judged, JudgeLesson
from workloads.rlvr import answers, flaw, morebench, published, world
from workloads.rlvr.data import RlvrDataConfig, check_data
from workloads.rlvr.theories import NEUTRAL

MOST_EXAMPLES = 3072
"""Most generated examples of a lesson, which then repeat: reading them into tokens takes time as well."""
ANSWERS_PER_PROMPT = 4
"""Answers in one warm-up example of the miniature world: branches of one prompt, which is read once."""
EXTRA_CRITERIA = 20
"""Criteria beside the rubric's own that each judged answer teaches."""
BOASTS = 0.3
"""Share of real responses that state a verdict about themselves in the judge's lesson; the labels stay what they were."""
EXAM_ANSWERS = 6
"""Judged answers a held-out dilemma of the miniature world."""
JUDGE_TEMPLATE = "<|im_start|>{% for message in messages %}{{ message['content'] }}{% endfor %}"
"""A judge that is built on the spot reads the question as it stands: the verdict is the word after the criterion's
last.
"""


@dataclass
class Config(RunConfig):
    """A run of this workload."""

    has_test: ClassVar[bool] = True

    data: RlvrDataConfig = group(RlvrDataConfig, "Where dilemmas come from.")
    reward: RubricRewardConfig = group(RubricRewardConfig, "How verdicts become a reward.")


def mini_question(prompt: Sequence[Message], response: str, criterion: Criterion) -> tuple[Message, ...]:
    """The judge's question in the miniature world, whose criteria say all that the prompt could."""
    return ({"role": "user", "content": f"{response} criterion : {criterion.text}"},)


class Workload(BaseWorkload):
    """Implements `workloads.base.Workload`."""

    config: Config

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if not isinstance(config, Config):
            raise TypeError(f"workload rlvr needs its own Config, not {type(config).__name__}")
        check_data(config.data)

    def tasks(self, split: str) -> Sequence[Task]:
        """One task a dilemma of the split ("train", "eval" or "test")."""
        if self._mini:
            return [mini_task(dilemma) for dilemma in self._worlds[split]]
        return [morebench.task(dilemma, self._prompt_characters) for dilemma in self._dilemmas[split]]

    def reward(self) -> Reward:
        """The judge's verdicts, by the formula of `reward.formula`."""
        judge, reward = self.config.judge, self.config.reward
        return RubricReward(self.question, reward.formula, judge.soft, judge.min_mass, reward.cut_off_penalty)

    def question(self, prompt: Sequence[Message], response: str, criterion: Criterion) -> tuple[Message, ...]:
        """How this run's judge is asked: the response first, the criterion last. It is not shown the prompt."""
        if self._mini:
            return mini_question(prompt, response, criterion)
        return morebench.question(morebench.shorten(response, self._response_characters), criterion)

    def gold(self, episode: Episode) -> float | None:
        """The oracle's official score (0–1) in the miniature world; real data has none."""
        if not self._mini:
            return None
        return official_score(rubric_of(episode), self.gold_verdicts(episode))

    def gold_verdicts(self, episode: Episode) -> Mapping[str, float]:
        """The oracle's word on every criterion in the miniature world."""
        return world.verdicts(rubric_of(episode), episode.text) if self._mini else {}

    def proxy(self, verdict: Scored) -> float:
        """The judge's official score (0–1)."""
        return verdict.components["official"]

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Means over episodes that a judge scored: the reward's components, and in the miniature world the oracle's view of them;
        where some dilemmas name a theory, Public and Theory apart."""
        pairs = [pair for group in groups for pair in zip(group.episodes, group.verdicts, strict=True)]
        scored = [(episode, verdict) for episode, verdict in pairs if isinstance(verdict, Scored)]
        if not scored or JUDGE not in self.config.roles():
            return self._by_part(pairs)
        result = judged_metrics(groups) | self._by_part(pairs)
        if self._mini:
            judged, right = zip(*(_oracle_view(episode, verdict) for episode, verdict in scored), strict=True)
            result["judge_agreement"] = sum(judged) / sum(len(v.judgements) for _, v in scored)
            result["right_decisions"] = fmean(right)
        return result

    def _by_part(self, pairs: Sequence[tuple[Episode, Verdict]]) -> dict[str, float]:
        """What eval/judge and eval/oracle are of all, of Public (neutral) and of Theory: public_judge, theory_oracle and so on."""
        asked, found = JUDGE in self.config.roles(), defaultdict(list)
        for episode, verdict in pairs:
            part, truth = part_of(episode.task), self.gold(episode)
            if asked and isinstance(verdict, Scored):
                found[f"{part}_judge"].append(self.proxy(verdict))
            if truth is not None:
                found[f"{part}_oracle"].append(truth)
        theories = any(part_of(episode.task) == "theory" for episode, _ in pairs)
        return {name: fmean(values) for name, values in found.items()} if theories else {}

    def lessons(self) -> Sequence[Lesson]:
        """The policy's warm-up and, where verdicts are at hand, the judge's lesson."""
        return self._mini_lessons() if self._mini else self._real_lessons()

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """The world's closed vocabulary, or the training texts: prompts, responses and criteria (the held-out
        dilemma's left out).
        """
        if self._mini:
            return world.vocabulary(self.config.data.theory_share > 0), ()
        train = self._dilemmas["train"]
        texts = [morebench.prompt(dilemma) for dilemma in train]
        texts += [criterion.text for dilemma in train for criterion in dilemma.rubric.criteria]
        return (), texts + [response.text for response in self._responses["train"]]

    def chat_template(self, role: str) -> str | None:
        """The judge reads its question as it stands; the policy has the default turns."""
        return JUDGE_TEMPLATE if role == JUDGE else None

    @property
    def _mini(self) -> bool:
        return self.config.data.source == "mini"

    @property
    def _prompt_characters(self) -> int:
        tokens = self.config.model.context_tokens - self.config.rollout.max_completion_tokens
        return int(max(tokens, 16) * morebench.CHARACTERS_PER_TOKEN)

    @property
    def _response_characters(self) -> int:
        tokens = self.config.judge.model.context_tokens - morebench.QUESTION_TOKENS
        return int(max(tokens, 16) * morebench.CHARACTERS_PER_TOKEN)

    @cached_property
    def _worlds(self) -> dict[str, tuple[world.Dilemma, ...]]:
        data = self.config.data
        counts = {"train": data.train_groups, "eval": data.eval_groups, "test": data.test_groups}
        return world.make_dilemmas(counts, data.seed, data.theory_share)

    @cached_property
    def _site(self) -> tuple[tuple[morebench.Dilemma, ...], tuple[morebench.Response, ...]]:
        data = self.config.data
        if data.source == "morebench_site":
            return morebench.read_site(Path(str(data.path)).expanduser())
        return published.read_tables(str(data.path), data.hub_config, data.hub_split), ()

    @cached_property
    def _dilemmas(self) -> dict[str, tuple[morebench.Dilemma, ...]]:
        data, dilemmas = self.config.data, self._site[0]
        held_out = data.holdout_dilemma or (dilemmas[-1].id if data.source == "morebench_site" else None)
        counts = {"eval": data.eval_groups, "test": 0 if data.test_path else data.test_groups}
        sides = published.split(dilemmas, counts, data.seed, held_out)
        if data.test_path is not None:
            test = published.read_tables(data.test_path, data.hub_config, data.hub_split)
            published.refuse_shared(dilemmas, test)
            sides["test"] = published.at_most(test, data.test_groups, data.seed)
        return sides

    @cached_property
    def _responses(self) -> dict[str, tuple[morebench.Response, ...]]:
        held_out = {dilemma.id for dilemma in self._dilemmas["eval"]}
        sides: dict[str, list[morebench.Response]] = {"train": [], "eval": []}
        for response in self._site[1]:
            sides["eval" if response.dilemma in held_out else "train"].append(response)
        return {split: tuple(chosen) for split, chosen in sides.items()}

    def mini_material(
        self,
    ) -> tuple[list[tuple[world.Dilemma, list[str]]], list[Judged], list[Judged]]:
        """The generated (answers of the policy's warm-up, answers that teach the judge, answers of its exam)."""
        seed, train, evaluation = self.config.data.seed, self._worlds["train"], self._worlds["eval"]
        rng = random.Random(stable_hash("warmup", seed))
        said = [
            (d, [answers.warmup_answer(d, rng) for _ in range(ANSWERS_PER_PROMPT)])
            for d in islice(cycle(train), _examples(self.config.warmup))
        ]
        rng = random.Random(stable_hash("judge", seed))
        taught = [_taught(d, train, rng) for d in islice(cycle(train), _examples(self.config.judge.training))]
        if self.config.data.judge_flaw == "phrase":
            rng = random.Random(stable_hash("flaw", seed))
            said = [(d, flaw.flatter(d, replies, rng)) for d, replies in said]
            taught = [_misled(judged, rng) for judged in taught]
        rng = random.Random(stable_hash("exam", seed))
        asked = [
            Judged(dilemma.id, mini_task(dilemma).messages, dilemma.rubric, text, world.verdicts(dilemma.rubric, text))
            for dilemma in evaluation
            for text in (answers.judged_answer(dilemma, evaluation, rng) for _ in range(EXAM_ANSWERS))
        ]
        return said, taught, asked

    def judge_lesson(
        self, taught: Sequence[Judged], asked: Sequence[Judged], notes: Mapping[str, int | str] | None = None
    ) -> JudgeLesson:
        """The judge's lesson on judged responses, and its exam on held-out ones. Some real responses learn to boast; generated
        ones do already."""
        config, seed = self.config, self.config.data.seed
        gate, notes = lessons.gate_of(config.judge), notes or {}
        if self._mini:
            planted = lessons.Planting(world.EXAM_INJECTIONS, answers.plant, seed, every=3)
            return JudgeLesson(taught, asked, self.question, gate, _kind, config.judge.min_mass, planted, notes)
        rng = random.Random(stable_hash("boasts", seed))
        boast = lessons.Planting(morebench.TAUGHT_INJECTIONS, self._plant, seed)
        boasting = [
            replace(response, text=boast(response.text, number)) if rng.random() < BOASTS else response
            for number, response in enumerate(taught)
        ]
        planted = lessons.Planting(morebench.EXAM_INJECTIONS, self._plant, seed)
        return JudgeLesson(boasting, asked, self.question, gate, _dimension, config.judge.min_mass, planted, notes)

    def _mini_lessons(self) -> list[Lesson]:
        said, taught, asked = self.mini_material()
        chats = [lessons.chat(d.id, mini_task(d).messages, replies) for d, replies in said]
        return [PolicyLesson(chats), self.judge_lesson(taught, asked)]

    def _real_lessons(self) -> list[Lesson]:
        by_id = {dilemma.id: dilemma for split in self._dilemmas.values() for dilemma in split}
        tasks = {task.id: task for split in ("train", "eval") for task in self.tasks(split)}
        room = int(self.config.rollout.max_completion_tokens * morebench.CHARACTERS_PER_TOKEN)
        chats = [
            lessons.chat(response.dilemma, tasks[response.dilemma].messages, [morebench.shorten(response.text, room)])
            for response in self._responses["train"]
            if response.text.strip()
        ]
        judged = {
            split: [
                Judged(
                    response.dilemma,
                    tasks[response.dilemma].messages,
                    by_id[response.dilemma].rubric,
                    response.text,
                    response.met,
                )
                for response in responses
            ]
            for split, responses in self._responses.items()
        }
        result: list[Lesson] = [PolicyLesson(chats)] if chats else []
        if judged["train"]:
            result.append(self.judge_lesson(judged["train"], judged["eval"]))
        return result

    def _plant(self, response: str, verdict: str, rng: random.Random) -> str:
        """The response with a verdict planted into what the judge will see of it: the question shortens nothing more."""
        seen = morebench.shorten(response, self._response_characters - len(verdict) - 1)
        return lessons.plant(seen, verdict, rng)


def part_of(task: Task) -> str:
    """The part of MoReBench that a task is of, or would be: "public" (neutral) or "theory"."""
    # Stored episodes of before theories say nothing of any.
    return "public" if task.reference.get("theory", NEUTRAL) == NEUTRAL else "theory"


def _examples(training: SftConfig) -> int:
    """As many examples as the training reads, up to `MOST_EXAMPLES`."""
    return min(max(training.steps, 1) * training.examples_per_step, MOST_EXAMPLES)


def _taught(dilemma: world.Dilemma, others: Sequence[world.Dilemma], rng: random.Random) -> Judged:
    text = answers.lesson_answer(dilemma, others, rng)
    rubric = answers.lesson_rubric(dilemma, text, EXTRA_CRITERIA, rng)
    return Judged(dilemma.id, mini_task(dilemma).messages, rubric, text, world.verdicts(rubric, text))


def _misled(judged: Judged, rng: random.Random) -> Judged:
    text = flaw.mislead(judged.text, rng)
    return replace(judged, text=text, met=flaw.verdicts(judged.rubric, text))


def _kind(criterion: Criterion) -> str:
    return world.kind_of(criterion)


def _dimension(criterion: Criterion) -> str:
    return criterion.dimension


def _oracle_view(episode: Episode, verdict: Scored) -> tuple[int, bool]:
    """(criteria on which judge and oracle agree, whether the answer decides for the right act alone)."""
    rubric = Rubric.from_json(episode.task.reference["rubric"])
    truth = world.verdicts(rubric, episode.text)
    agreed = sum((value > 0.5) == (truth[key] > 0.5) for key, value in verdict.judgements.items())
    decided = {c.weight > 0 for c in rubric.criteria if world.kind_of(c) == "decision" and truth[c.id]}
    return agreed, decided == {True}


def mini_task(dilemma: world.Dilemma) -> Task:
    """The task of a generated dilemma."""
    reference = {
        "rubric": dilemma.rubric.to_json(),
        "right": dilemma.acts[dilemma.right],
        "theory": dilemma.theory,
    }
    return Task(dilemma.id, ({"role": "user", "content": dilemma.prompt},), reference)
