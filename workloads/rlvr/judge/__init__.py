"""The judge of rubric-judged moral reasoning (arXiv 2603.10588, section 3), trained in a run of its own.

answers of several policies -> labels of every (answer, criterion) from a teacher -> SFT of the judge -> exam on dilemmas that were
held out whole -> `run:NAME@judge`, which other runs name. There is no policy and no RL.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.config.schema import Role, ServedConfig, group, setting
from orchestrator.errors import ConfigError, RunError
from orchestrator.rollouts.rubrics import Rubric
from orchestrator.values import JUDGE, Answer, Call, Gathered, Task, stable_hash
from workloads import rlvr, writers
from workloads.base import Gathering, Lesson
from workloads.lessons import Judged
from workloads.rlvr import EXTRA_CRITERIA, answers, morebench, world
from workloads.rlvr.judge.labels import LabelledAnswer, judged_of, read_labels
from workloads.rlvr.judge.teacher import ask
from workloads.teachers import ORACLE, TEACHER, TeacherConfig

GRAMMAR, SITE = "grammar", "site"
"""Writers that are no models: the miniature's generated answers, and the judged responses of the site's file."""


@dataclass
class JudgeDataConfig(rlvr.RlvrDataConfig):
    """Where dilemmas come from, and labels that are there already."""

    labels: str | None = setting(
        None,
        "Answers with labels, a .jsonl or .parquet file such as the labels.jsonl of a run of this workload; then nobody writes and "
        "nobody is asked. A row has dilemma (its id), model, response, and labels ({criterion's id: yes or no}).",
        file=True,
    )


@dataclass
class AnswersConfig:
    """Whose answers are judged."""

    writers: str = setting(
        GRAMMAR,
        "Who writes, with commas: `grammar` (the miniature's generated answers of all qualities), `site` (the judged responses of "
        "morebench_site), and models: run:NAME@STEP, hf:ID, path:FOLDER. A model is served by rollout.fleet with the lengths of model "
        "and rollout, one after the other.",
    )
    per_dilemma: int = setting(4, "Answers that each model writes to a dilemma.", low=1)


@dataclass
class Config(rlvr.Config):
    """A run of this workload. model and rollout say how writers are sampled."""

    steps: int = setting(0, "There is no policy: 0.", low=0)
    data: JudgeDataConfig = group(JudgeDataConfig, "Where dilemmas come from, and labels that are there already.")
    answers: AnswersConfig = group(AnswersConfig, "Whose answers are judged.")
    teacher: TeacherConfig = group(TeacherConfig, "Who labels them.")

    def roles(self) -> dict[str, Role]:
        """The judge alone. Unlike in other runs the seed varies it."""
        roles = super().roles()
        return {JUDGE: replace(roles[JUDGE], seed=self.seed)} if JUDGE in roles else {}

    def gathers(self) -> dict[str, ServedConfig]:
        """The writers that are models, and the teacher."""
        if self.data.labels:
            return {}
        served = writers.served(self.writers, (GRAMMAR, SITE), self, self.teacher.retries)
        return served | ({} if self.teacher.name == ORACLE else {TEACHER: self.teacher})

    @property
    def writers(self) -> list[str]:
        """Each writer's name."""
        return writers.named(self.answers.writers)


class Workload(rlvr.Workload):
    """Implements `workloads.base.Workload` and `Gatherer`."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.reward.name is not None or config.judge.shared or JUDGE not in config.roles():
            raise ConfigError("rlvr.judge teaches a judge of its own: leave out reward.name and judge.shared.")
        if config.data.labels is None:
            self._check_writers()
        self._rows: list[LabelledAnswer] | None = None

    def _check_writers(self) -> None:
        source, names = self.config.data.source, self.config.writers
        for name, needed in ((GRAMMAR, "mini"), (SITE, "morebench_site")):
            if name in names and source != needed:
                raise ConfigError(
                    f"answers.writers={self.config.answers.writers}: {name} is there with data.source={needed} alone, and it is "
                    f"{source}. Name models, such as hf:ID."
                )
        if len(set(names)) < len(names):
            raise ConfigError(f"answers.writers={self.config.answers.writers}: each writer once.")
        if self.config.teacher.name == ORACLE and source != "mini" and names != [SITE]:
            raise ConfigError(
                f"teacher={ORACLE}: nobody knows the truth about models' answers to data.source={source}. Name a teacher: teacher=URL, "
                "teacher=hf:ID, or labels that are there already: data.labels=FILE."
            )

    def gather(self) -> Gathering:
        """Have answers written and labelled, or read both. Raises RunError where the teacher left too much open."""
        if self.config.data.labels:
            rows = read_labels(self.config.data.labels, self.known)
        else:
            rows = []
            for number, name in enumerate(self.config.writers):
                rows += yield from self._written(number, name)
            if self.config.teacher.name != ORACLE:
                rows = yield from ask(rows, self.config.teacher, self._asked, self._rubric_of)
        told = self._told(rows)
        unscored, most = sum(len(row.unscored) for row in rows), self.config.judge.max_unscored_share
        if unscored > most * sum(len(row.unscored) + len(row.labels) for row in rows):
            raise RunError(f"{told}. That is more than judge.max_unscored_share={most:g}: look at the teacher.")
        return Gathered([row.to_json() for row in rows], told)

    def use(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make the lesson of these labelled answers."""
        self._rows = [LabelledAnswer.from_json(row) for row in rows]

    def lessons(self) -> Sequence[Lesson]:
        """The judge's, on the answers to training dilemmas; its exam is on those to held-out ones."""
        if self._rows is None:
            raise RunError("rlvr.judge: nothing was gathered yet.")
        sides: dict[str, list[Judged]] = {"train": [], "eval": [], "test": []}
        for row in self._rows:
            split, task = self.known[row.dilemma]
            sides[split].append(judged_of(row, task))
        for split in ("train", "eval"):
            if not any(response.labelled for response in sides[split]):
                raise ConfigError(
                    f"there is no labelled answer to a dilemma of {split}: label some, or move the split."
                )
        unscored = [reason for row in self._rows for reason in row.unscored.values()]
        notes: dict[str, int | str] = {
            "labels": sum(len(row.labels) for row in self._rows),
            "unlabelled": len(unscored),
        }
        return [
            self.judge_lesson(
                sides["train"], sides["eval"], notes | ({"unlabelled_first": unscored[0]} if unscored else {})
            )
        ]

    @cached_property
    def known(self) -> dict[str, tuple[str, Task]]:
        """Id -> (split, task) of every dilemma."""
        return {task.id: (split, task) for split in self.config.splits() for task in self.tasks(split)}

    def _told(self, rows: Sequence[LabelledAnswer]) -> str:
        labels, unscored = sum(len(row.labels) for row in rows), [why for row in rows for why in row.unscored.values()]
        count = len({row.model for row in rows})
        first = f" (the first: {unscored[0]})" if unscored else ""
        return f"{len(rows):,} answers of {count} writer(s), {labels:,} labels, {len(unscored):,} questions without a verdict{first}"

    # --- who writes ---

    def _written(self, number: int, name: str) -> Generator[Sequence[Call], Sequence[Answer], list[LabelledAnswer]]:
        """A writer's answers, with labels where they come with them."""
        if name == GRAMMAR:
            _, taught, asked = self.mini_material()
            return [_row(item, GRAMMAR) for item in (*taught, *asked)]
        if name == SITE:
            return [
                LabelledAnswer(response.dilemma, f"{response.model}/{response.kind}", response.text, response.met)
                for split in ("train", "eval")
                for response in self._responses[split]
            ]
        tasks = [task for split, task in self.known.values() if split != "test"]
        each, data = self.config.answers.per_dilemma, self.config.data
        said = yield from writers.written(number, name, tasks, each, self.config.rollout, data.seed)
        rows = [LabelledAnswer(task.id, name, text, {}) for task, text in said]
        return [self._by_oracle(row) for row in rows] if self._mini else rows

    # --- who labels ---

    def _by_oracle(self, row: LabelledAnswer) -> LabelledAnswer:
        """Labels of the world's own; answers that are learned from get those of further criteria, as generated ones do."""
        split, task = self.known[row.dilemma]
        rubric = Rubric.from_json(task.reference["rubric"])
        if split == "train":
            dilemma = next(one for one in self._worlds["train"] if one.id == row.dilemma)
            rng = random.Random(stable_hash("extra", self.config.data.seed, row.dilemma, row.response))
            rubric = answers.lesson_rubric(dilemma, row.response, EXTRA_CRITERIA, rng)
        return replace(row, labels=world.verdicts(rubric, row.response))

    def _rubric_of(self, row: LabelledAnswer) -> Rubric:
        """The criteria that a row is to be labelled on: those that it has labels of, else its dilemma's."""
        task = self.known[row.dilemma][1]
        return judged_of(row, task).rubric if row.labels else Rubric.from_json(task.reference["rubric"])

    def _asked(self, row: LabelledAnswer, criterion: Any) -> tuple[Any, ...]:
        """A teacher's question: as the judge's, of as much of the response as the teacher can read."""
        prompt = self.known[row.dilemma][1].messages
        if self._mini:
            return self.question(prompt, row.response, criterion)
        teacher = self.config.teacher
        tokens = max(teacher.model.context_tokens - teacher.max_tokens - morebench.QUESTION_TOKENS, 16)
        text = morebench.shorten(row.response, int(tokens * morebench.CHARACTERS_PER_TOKEN))
        return morebench.question(text, criterion)


def _row(judged: Judged, model: str) -> LabelledAnswer:
    return LabelledAnswer(judged.group, model, judged.text, judged.met)
