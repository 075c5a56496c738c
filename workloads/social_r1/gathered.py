"""What the runs of their own of both raters have in common: who writes reasonings, who labels them, and the file of labels.

There is no policy and no RL (steps=0): reasonings of several writers -> labels of a teacher or the oracle -> the rater's lesson -> its
exam on stories that were held out whole -> `run:NAME@judge` or `run:NAME@content`, which other runs name.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from orchestrator.config.schema import Role, ServedConfig, group, setting
from orchestrator.data import SPLITS
from orchestrator.data.tables import Row, read_rows
from orchestrator.errors import ConfigError, DataError, RunError
from orchestrator.values import Answer, Call, Task, stable_hash
from workloads import social_r1, writers
from workloads.social_r1.data import SocialDataConfig, reference_of
from workloads.social_r1.questions import Question, same_story
from workloads.social_r1.reward import said
from workloads.teachers import ORACLE, TEACHER, TeacherConfig

GRAMMAR = "grammar"
"""The writer that is no model: the miniature's generated reasonings of all qualities."""
HELD_OUT_SHARE = 0.1
"""Of the stories of a file of labels whose rows name no split (the paper holds out 2,000 of 20,000 pairs)."""


@dataclass
class LabelledDataConfig(SocialDataConfig):
    """Where questions come from, and labels that are there already."""

    labels: str | None = setting(
        None,
        "Labels that are there already, a .jsonl, .csv or .parquet file such as the labels.jsonl of a run of this workload; then "
        "nobody writes and nobody is asked. A row has story, question, perhaps split, and (judge) reasoning and score, (content) "
        "better and worse. Of real text with data.source=table, and then data.path is not needed.",
        file=True,
    )

    @property
    def needs_path(self) -> bool:
        """Not where there are labels."""
        return super().needs_path and self.labels is None


@dataclass
class AnswersConfig:
    """Whose reasonings are labelled."""

    writers: str = setting(
        GRAMMAR,
        "Who writes, with commas: `grammar` (the miniature's generated reasonings of all qualities) and models: run:NAME@STEP, hf:ID, "
        "path:FOLDER. A model is served by rollout.fleet with the lengths of model and rollout, one after the other.",
    )
    per_question: int = setting(
        social_r1.TRAJECTORIES, "Reasonings that each writer gives to a question (the paper's K = 6).", low=1
    )


@dataclass
class RaterRunConfig(social_r1.Config):
    """A run that teaches one rater. model and rollout say how writers are sampled."""

    rater: ClassVar[str] = ""

    steps: int = setting(0, "There is no policy: 0.", low=0)
    data: LabelledDataConfig = group(
        LabelledDataConfig, "Where questions come from, and labels that are there already."
    )
    answers: AnswersConfig = group(AnswersConfig, "Whose reasonings are labelled.")
    teacher: TeacherConfig = group(TeacherConfig, "Who labels them.")

    def roles(self) -> dict[str, Role]:
        """The rater alone. Unlike in other runs the seed varies it."""
        roles = super().roles()
        return {self.rater: replace(roles[self.rater], seed=self.seed)} if self.rater in roles else {}

    def gathers(self) -> dict[str, ServedConfig]:
        """The writers that are models, and the teacher."""
        if self.data.labels:
            return {}
        served = writers.served(self.writers, (GRAMMAR,), self, self.teacher.retries)
        return served | ({} if self.teacher.name == ORACLE else {TEACHER: self.teacher})

    @property
    def writers(self) -> list[str]:
        """Each writer's name."""
        return writers.named(self.answers.writers)


@dataclass(frozen=True, slots=True)
class Written:
    """A reasoning that a writer gave to a question."""

    split: str
    question: Question
    writer: str
    thinking: str


class RaterWorkload(social_r1.Workload):
    """A workload whose run teaches one rater."""

    config: RaterRunConfig
    fields: ClassVar[Mapping[str, type]] = {}
    """What a row of labels has besides story and question."""

    def __init__(self, config: RaterRunConfig) -> None:
        super().__init__(config)
        rater = config.rater
        if rater not in config.roles() or config.raters()[rater].shared:
            raise ConfigError(
                f"social_r1.{rater} teaches a model of its own: leave out reward.name and {rater}.shared, and take a reward.variant "
                f"that asks it."
            )
        if config.data.labels is None:
            self._check_writers()
        self._rows: Sequence[Mapping[str, Any]] | None = None

    def tasks(self, split: str) -> Sequence[Task]:
        """Those of the data, or the questions of the file of labels. Nobody answers them in this run."""
        if self.mini or not self.config.data.labels:
            return super().tasks(split)
        asked = {(row["story"], row["question"]): row for row in self.read_labels() if row["split"] == split}
        return [
            Task(f"{stable_hash(*key):016x}", self.wording.content(row, "")[:1], {"story": row["story"]})
            for key, row in asked.items()
        ]

    def read_labels(self) -> list[dict[str, Any]]:
        """The rows of data.labels."""
        return read_labels(str(self.config.data.labels), self.fields, self.config.data.seed)

    def _check_writers(self) -> None:
        config, names = self.config, self.config.writers
        if GRAMMAR in names and not self.mini:
            raise ConfigError(
                f"answers.writers={config.answers.writers}: {GRAMMAR} is there with data.source=mini alone, and it is "
                f"{config.data.source}. Name models, such as hf:ID."
            )
        if len(set(names)) < len(names):
            raise ConfigError(f"answers.writers={config.answers.writers}: each writer once.")
        if config.teacher.name == ORACLE and not self.mini:
            raise ConfigError(
                f"teacher={ORACLE}: nobody knows the truth about reasonings on data.source={config.data.source}. Name a teacher: "
                "teacher=URL, teacher=hf:ID, or labels that are there already: data.labels=FILE."
            )

    def written(self) -> Generator[Sequence[Call], Sequence[Answer], list[Written]]:
        """What the models among the writers reason about the questions to learn from and those of the exam. An answer without a valid
        format holds no reasoning that a rater would be asked about, and is left out."""
        tasks = [self.task_of(question) for _, question in self.known.values()]
        answers, found = self.config.answers, []
        for number, name in enumerate(self.config.writers):
            if name == GRAMMAR:
                continue
            texts = yield from writers.written(
                number, name, tasks, answers.per_question, self.config.rollout, self.config.data.seed
            )
            thought = [(task, said(text).thinking.strip()) for task, text in texts]
            found += [Written(*self.known[task.id], name, thinking) for task, thinking in thought if thinking]
            if not any(one.writer == name for one in found):
                raise RunError(
                    f"answers.writers: {name} wrote no answer of the form <think>...</think><Answer>...</Answer>. Look at "
                    "rollout.max_completion_tokens and model.thinking, or take another writer."
                )
        return found

    @cached_property
    def known(self) -> dict[str, tuple[str, Question]]:
        """Id -> (split, question) of those to learn from and of those of the exam."""
        return {question.id: (split, question) for split in ("train", "eval") for question in self.questions[split]}

    def use(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Make the lesson of these rows."""
        self._rows = rows

    def rows(self, split: str) -> list[Mapping[str, Any]]:
        """The rows of a split. Raises RunError where none were gathered yet, ConfigError where the split has none."""
        if self._rows is None:
            raise RunError(f"{self.config.workload}: nothing was gathered yet.")
        found = [row for row in self._rows if row["split"] == split]
        if not found:
            raise ConfigError(f"there is no label about a story of {split}: label some, or move the split.")
        return found

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """Those of the file of labels, where real text is read from one."""
        if self.mini or not self.config.data.labels:
            return super().tokenizer_texts()
        names = ("story", "question", *(name for name, kind in self.fields.items() if kind is str))
        return (), [row[name] for row in self.read_labels() if row["split"] == "train" for name in names]


def read_labels(path: str, fields: Mapping[str, type], seed: int) -> list[dict[str, Any]]:
    """The rows of a file, each with its split: as it says, or else by the hash of seed and group (its story where it names none).

    fields: what each row must have besides story and question, with its kind. Raises DataError, which names row and field, and where
    a group is on both sides.
    """
    found = []
    for row in read_rows(Path(path)):
        values = {name: _field(row, name, kind) for name, kind in {"story": str, "question": str, **fields}.items()}
        split = str(row.values.get("split") or "").strip().lower()
        if split and split not in SPLITS:
            raise row.error(f"field 'split' is {split!r:.40}: it must be one of {', '.join(SPLITS)}.")
        kept = {name: row.values[name] for name in ("task", "group", "options", "writer") if row.values.get(name)}
        values |= kept
        found.append({**values, "split": SPLITS.get(split) or split_of(group_in(values), seed)})
    taught, asked = ({group_in(row) for row in found if row["split"] == side} for side in ("train", "eval"))
    if not taught or not asked:
        raise DataError(f"{path}: leaves no row to learn from, or none to examine with: give more stories, or `split`.")
    if both := sorted(taught & asked):
        raise DataError(
            f"{path}: {both[0]!r:.60} is in rows to learn from and in rows to examine with: hold stories out whole."
        )
    return found


def split_of(group: str, seed: int) -> str:
    """The side of a group whose rows name none."""
    return "eval" if stable_hash("labels", seed, group) % 1000 < 1000 * HELD_OUT_SHARE else "train"


def _field(row: Row, name: str, kind: type) -> Any:
    value = row.values.get(name)
    if kind is float:
        try:
            return float(str(value))
        except ValueError:
            raise row.error(f"field {name!r} is {value!r:.60}: it must be a number.") from None
    # Nothing thought is a reasoning too.
    if not isinstance(value, str) or not (value.strip() or name == "reasoning"):
        raise row.error(f"field {name!r} is {value!r:.60}: it must be a text that is not empty.")
    return value.strip()


def row_of(split: str, question: Question, **further: Any) -> dict[str, Any]:
    """A row of a file of labels."""
    reference = reference_of(question)
    kept = {name: reference[name] for name in ("story", "question", "options", "group")}
    return {"split": split, "task": question.id, **kept, **further}


def reference_in(row: Mapping[str, Any]) -> dict[str, Any]:
    """Story, question and options of a row."""
    return {"story": row["story"], "question": row["question"], "options": list(row.get("options", ()))}


def group_in(row: Mapping[str, Any]) -> str:
    """What a row is held out together with."""
    return str(row.get("group") or same_story(row["story"]))
