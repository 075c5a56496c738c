"""Questions to train on: where they come from, how a row is read, who is held out, and what may not be trained on.

Sources: `mini`, the generated world; `table`, questions of one's own; `social_r1`, the paper's training set (ToMBench-Hard), whose
published files have story, question, options and answer in columns of the usual names; `hitom`, Hi-ToM's file. The benchmarks that
models are compared on are refused, by name, by columns and by the name of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.schema import DataConfig
from orchestrator.config.settings import setting
from orchestrator.data.tables import HUB, Row, hub_rows, read_rows
from orchestrator.errors import ConfigError, DataError
from orchestrator.values import stable_hash
from workloads.social_r1.hitom import read_hitom
from workloads.social_r1.questions import Question, question_of

SOURCES = ("mini", "table", "social_r1", "hitom")
EVALUATION_ONLY = {
    "tombench": "ToMBench",
    "motivebench": "MotiveBench",
    "socialiqa": "SocialIQA",
    "simpletom": "SimpleToM",
    "emobench": "EmoBench",
    "tactfultom": "TactfulToM",
}
"""Benchmarks that are never trained on, by the name that a source or a file would have."""
COLUMNS: tuple[tuple[str, frozenset[str]], ...] = (
    ("tombench", frozenset({"能力\nABILITY"})),
    ("motivebench", frozenset({"Motivation Reasoning Question"})),
    ("socialiqa", frozenset({"context", "answerA", "answerB", "answerC"})),
    ("simpletom", frozenset({"story", "choices", "answerKey"})),
    ("emobench", frozenset({"scenario", "subject", "choices"})),
    ("emobench", frozenset({"scenario", "subject", "emotion_choices"})),
)
"""Columns by which a benchmark's published files are recognised."""


@dataclass
class SocialDataConfig(DataConfig):
    """Where questions come from."""

    source: str = setting(
        "mini",
        "`mini`: a generated world with an exact oracle; `table`: questions of one's own; `social_r1`: the paper's training set "
        "(ToMBench-Hard); `hitom`: Hi-ToM's file. Benchmarks that are for evaluation alone are refused.",
    )
    path: str | None = setting(
        None,
        "FILE.jsonl, FILE.csv, FILE.parquet, or hf:ORG/NAME: a row a question, with story, question, options (a list, or columns "
        "OPTION-A, OPTION-B, ...), answer (a letter, or the option's text), and perhaps id, ability, group. hitom: Hi-ToM_data.json.",
        file=True,
    )
    eval_path: str | None = setting(
        None,
        "A table of held-out questions of its own. By default data.eval_groups stories of data.path, a quarter at most, are held out.",
        file=True,
    )
    train_groups: int = setting(
        256, "Stories to train on, at most: of the miniature pairs of a story and its adversarial twin.", low=1
    )
    eval_groups: int = setting(48, "Held-out stories, or pairs.", low=1)
    hub_config: str = setting("default", "hf: data sets: the configuration.")
    hub_split: str = setting("train", "hf: data sets: the split that is read.")

    @property
    def needs_path(self) -> bool:
        """Whether the source is read from somewhere."""
        return self.source != "mini"


def check_data(data: SocialDataConfig) -> None:
    """Raises ConfigError for a source that is none, or that may not be trained on, and for a path that is missing or too much."""
    name = re.sub(r"[^a-z]", "", data.source.lower())
    if name in EVALUATION_ONLY:
        raise _refusal(f"data.source={data.source}", name)
    if data.source not in SOURCES:
        raise ConfigError(f"data.source={data.source}: use one of {', '.join(SOURCES)}.")
    if data.needs_path and data.path is None:
        raise ConfigError(f"data.source={data.source} needs data.path.")
    if data.source in ("mini", "hitom") and (data.eval_path or (data.source == "mini" and data.path)):
        given = "data.path" if data.source == "mini" and data.path else "data.eval_path"
        raise ConfigError(f"data.source={data.source} holds its own stories out: leave {given} out.")
    for path in filter(None, (data.path, data.eval_path)):
        _refuse_name(path)


def _refusal(where: str, name: str) -> ConfigError:
    return ConfigError(
        f"{where} is {EVALUATION_ONLY[name]}, a benchmark that models are compared on: what is trained on it cannot be "
        "evaluated with it. Train on data.source=social_r1, hitom, table or mini. (Where these are other questions, give file and "
        "columns other names.)"
    )


def _refuse_name(path: str) -> None:
    """The file's name, and that of its folder or hub account; ToMBench-Hard, the training set, is not ToMBench."""
    for part in path.removeprefix(HUB).split("/")[-2:]:
        told = re.sub(r"[^a-z]", "", part.lower()).replace("tombenchhard", "")
        for name in EVALUATION_ONLY:
            if name in told:
                raise _refusal(f"{path}", name)


def read_questions(path: str, data: SocialDataConfig) -> list[Question]:
    """The questions of FILE or hf:ORG/NAME, in order.

    Raises DataError, which names file, row and field, and ConfigError where these are a benchmark's columns.
    """
    name = path.removeprefix(HUB)
    rows = read_rows(Path(path).expanduser()) if name == path else hub_rows(name, data.hub_config, data.hub_split)
    there = {column for row in rows for column in row.values}
    for benchmark, columns in COLUMNS:
        if columns <= there:
            raise _refusal(f"{path} (columns {', '.join(sorted(map(repr, columns)))})", benchmark)
    questions = [question_of(row) for row in rows]
    _refuse_repeated(rows, questions)
    return questions


def _refuse_repeated(rows: Sequence[Row], questions: Sequence[Question]) -> None:
    ids: dict[str, Question] = {}
    for row, question in zip(rows, questions, strict=True):
        first = ids.setdefault(question.id, question)
        if first is not question:
            raise row.error(f"field 'id' is {question.id!r}, as in {first.where}: each question is there once.")


def questions_of(data: SocialDataConfig) -> dict[str, list[Question]]:
    """The questions of real data by split, "train", "eval" and "test". Raises DataError and ConfigError."""
    path = str(data.path)
    hitom = data.source == "hitom"
    questions = [one.as_question for one in read_hitom(path)] if hitom else read_questions(path, data)
    held_out = read_questions(data.eval_path, data) if data.eval_path else None
    if held_out is not None:
        _refuse_shared(questions, held_out)
    counts = {"train": data.train_groups, "eval": data.eval_groups, "test": data.test_groups}
    return split(questions, counts, data.seed, held_out)


def split(
    questions: Sequence[Question], counts: Mapping[str, int], seed: int, held_out: Sequence[Question] | None = None
) -> dict[str, list[Question]]:
    """By story: a group of questions is on one side whole, by its hash with the seed.

    counts: most groups of each side; of "eval" and "test" a quarter of all at most. held_out: all of "eval" where it is given. Raises
    DataError where a side has none.
    """
    groups = _in_order(questions, seed)
    most = max(1, len(groups) // 4)
    evaluated = 0 if held_out is not None else min(counts["eval"], most)
    tested = min(counts["test"], most)
    if len(groups) <= evaluated + tested:
        raise DataError(
            f"data.path holds {len(groups)} story or stories: each of the splits needs its own, so give at least "
            f"{evaluated + tested + 1}."
        )
    sides = {
        "eval": groups[:evaluated],
        "test": groups[evaluated : evaluated + tested],
        "train": groups[evaluated + tested :][: counts["train"]],
    }
    chosen = {name: [question for question in questions if question.group in set(side)] for name, side in sides.items()}
    if held_out is not None:
        first = set(_in_order(held_out, seed)[: counts["eval"]])
        chosen["eval"] = [question for question in held_out if question.group in first]
    return chosen


def _in_order(questions: Sequence[Question], seed: int) -> list[str]:
    return sorted(
        {question.group for question in questions}, key=lambda group: (stable_hash("story", seed, group), group)
    )


def _refuse_shared(questions: Sequence[Question], held_out: Sequence[Question]) -> None:
    groups = {question.group: question for question in questions}
    for question in held_out:
        if question.group in groups:
            raise DataError(
                f"{question.where}: has the story of {groups[question.group].where}, which is trained on: leave one of them out."
            )


def reference_of(question: Question) -> dict[str, Any]:
    """`Task.reference` of a question: all that scoring and reports need."""
    reference: dict[str, Any] = {
        "story": question.story,
        "question": question.question,
        "options": list(question.options),
        "answer": question.letter,
        "group": question.group,
        "twin": question.twin,
    }
    reference |= {"ability": question.ability} if question.ability else {}
    return reference | ({} if question.order is None else {"order": question.order})
