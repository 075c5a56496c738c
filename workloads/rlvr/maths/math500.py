"""Problems in the published schema of MATH-500: problem, solution, answer, subject, level, unique_id.

They are read from a .jsonl, .csv or .parquet file, or from the Hugging Face hub, and split by the hash of each problem's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.data import same_prompt
from orchestrator.data.tables import HUB, Row, hub_rows, read_rows
from orchestrator.errors import DataError
from orchestrator.values import Message, Task, stable_hash

FIELDS = ("problem", "solution", "answer", "subject", "level", "unique_id")
LEVELS = range(1, 6)
HUB_CONFIG, HUB_SPLIT = "default", "test"
"""All that HuggingFaceH4/MATH-500 has."""
INSTRUCTION = "Work it out step by step and put the final answer, and nothing else, into \\boxed{}."


@dataclass(frozen=True, slots=True)
class Problem:
    """One row. where: for people, the file and the row."""

    id: str
    text: str
    solution: str
    answer: str
    subject: str
    level: int
    where: str

    @property
    def messages(self) -> tuple[Message, ...]:
        return ({"role": "user", "content": f"{self.text}\n\n{INSTRUCTION}"},)

    @property
    def task(self) -> Task:
        """What the policy is asked; the solution stays out of it."""
        reference = {"answer": self.answer, "subject": self.subject, "level": self.level, "where": self.where}
        return Task(self.id, self.messages, reference)


def read_problems(path: str) -> list[Problem]:
    """The problems of FILE or hf:ORG/NAME, in order.

    Raises DataError, which names row and field, for a field that is missing or of another kind, and for an id or a problem that is
    there twice.
    """
    name = path.removeprefix(HUB)
    rows = read_rows(Path(path).expanduser()) if name == path else hub_rows(name, HUB_CONFIG, HUB_SPLIT)
    problems = [_problem(row) for row in rows]
    _refuse_repeated(rows, problems)
    return problems


def split_problems(problems: Sequence[Problem], counts: Mapping[str, int], seed: int) -> dict[str, list[Problem]]:
    """By split: as many as `counts` says of "eval" and "test", and of the rest at most those of "train".

    By the smallest hashes of seed and problem: the order of the rows does not matter, and another row moves few. Raises DataError
    where nothing is left to train on.
    """
    ordered = sorted(problems, key=lambda problem: stable_hash("math500", seed, same_prompt(problem.messages)))
    held_out = counts["eval"] + counts["test"]
    if held_out >= len(ordered):
        raise DataError(
            f"data.eval_groups={counts['eval']} and data.test_groups={counts['test']} hold out {held_out} of {len(ordered)} problems: "
            "lower them, so that some are left to train on."
        )
    return {
        "eval": ordered[: counts["eval"]],
        "test": ordered[counts["eval"] : held_out],
        "train": ordered[held_out : held_out + counts["train"]],
    }


def _problem(row: Row) -> Problem:
    missing = [field for field in FIELDS if field not in row.values]
    if missing:
        there = ", ".join(row.values) or "none"
        raise row.error(
            f"field {missing[0]!r} is missing (there: {there}): the schema of MATH-500 has {', '.join(FIELDS)}."
        )
    text, solution, answer, subject, identifier = (
        _text(row, field) for field in ("problem", "solution", "answer", "subject", "unique_id")
    )
    return Problem(identifier, text, solution, answer, subject, _level(row), row.where)


def _text(row: Row, field: str) -> str:
    value = row.values[field]
    if not isinstance(value, str) or not value.strip():
        raise row.error(f"field {field!r} is {value!r:.60}: it must be a text that is not empty.")
    return value.strip()


def _level(row: Row) -> int:
    """A whole number, or its text in a CSV."""
    value = row.values["level"]
    for level in LEVELS:
        if not isinstance(value, bool) and str(value).strip() == str(level):
            return level
    raise row.error(f"field 'level' is {value!r:.60}: it must be a whole number from {LEVELS[0]} to {LEVELS[-1]}.")


def _refuse_repeated(rows: Sequence[Row], problems: Sequence[Problem]) -> None:
    ids: dict[str, Row] = {}
    texts: dict[str, Row] = {}
    for row, problem in zip(rows, problems, strict=True):
        first = ids.setdefault(problem.id, row)
        if first is not row:
            raise row.error(f"field 'unique_id' is {problem.id!r}, as in {first.where}: each problem needs its own.")
        first = texts.setdefault(same_prompt(problem.messages), row)
        if first is not row:
            raise row.error(
                f"field 'problem' is the same as in {first.where}: one would be trained on and the other held out."
            )
