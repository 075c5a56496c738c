"""Answers with labels: what a teacher said, as a run writes it (labels.jsonl) and another one reads it (data.labels)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.data.tables import FLAGS, Row, read_rows
from orchestrator.rollouts.rubrics import NO, YES, Criterion, Rubric
from orchestrator.values import Task
from workloads.lessons import Judged
from workloads.rlvr import world


@dataclass(frozen=True, slots=True)
class LabelledAnswer:
    """dilemma: its id. labels: criterion's id -> 1.0 met, 0.0 not. unscored: criterion's id -> why the teacher gave no verdict."""

    dilemma: str
    model: str
    response: str
    labels: Mapping[str, float]
    unscored: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As a row of a file."""
        labels = {name: YES if value > 0.5 else NO for name, value in self.labels.items()}
        row = {"dilemma": self.dilemma, "model": self.model, "response": self.response, "labels": labels}
        return row | ({"unscored": dict(self.unscored)} if self.unscored else {})

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> LabelledAnswer:
        """The inverse of `to_json`."""
        labels = {name: float(value == YES) for name, value in row["labels"].items()}
        return cls(row["dilemma"], row["model"], row["response"], labels, row.get("unscored", {}))


def read_labels(path: str, known: Mapping[str, tuple[str, Task]]) -> list[LabelledAnswer]:
    """The rows of a file. known: the dilemmas, by id. Raises DataError, which names row and field."""
    found, seen = [], dict[tuple[str, str, str], tuple[Row, Mapping[str, float]]]()
    for row in read_rows(Path(path)):
        dilemma, model, response = (_text(row, name) for name in ("dilemma", "model", "response"))
        if dilemma not in known:
            raise row.error(f"field 'dilemma' is {dilemma!r}: the data have no such dilemma. Name them with data.path.")
        labels = {name: _label(row, name, value) for name, value in _pairs(row, "labels").items()}
        unscored = {name: str(value) for name, value in _pairs(row, "unscored").items()}
        answer = LabelledAnswer(dilemma, model, response, labels, unscored)
        _check_criteria(row, answer, known[dilemma][1])
        first, before = seen.setdefault((dilemma, model, response), (row, labels))
        for name in labels.keys() & before.keys():
            if labels[name] != before[name]:
                raise row.error(f"field 'labels' and {first.where} differ on {name!r} of the same answer: keep one.")
        found.append(answer)
    return found


def _text(row: Row, name: str) -> str:
    value = row.values.get(name)
    if not isinstance(value, str) or (name != "response" and not value):
        raise row.error(f"field {name!r} is {value!r:.80}: it must be a text.")
    return value


def _pairs(row: Row, name: str) -> dict[str, Any]:
    """A mapping: an object, the pairs of a Parquet map, or either as JSON text. Without nulls, which fill a Parquet struct."""
    value = row.values.get(name, {} if name == "unscored" else None)
    try:
        value = json.loads(value) if isinstance(value, str) else value
        return {str(key): item for key, item in dict(value).items() if item is not None}
    except (ValueError, TypeError):
        raise row.error(f"field {name!r} is {value!r:.80}: it must map criteria's ids to yes or no.") from None


def _label(row: Row, name: str, value: Any) -> float:
    said = FLAGS.get(str(value).strip().lower())
    if said is None:
        raise row.error(f"field 'labels' has {value!r:.80} for the criterion {name!r}: it must be yes or no.")
    return float(said)


def _check_criteria(row: Row, answer: LabelledAnswer, task: Task) -> None:
    there = {criterion["id"] for criterion in task.reference["rubric"]}
    for name in (*answer.labels, *answer.unscored):
        if name not in there and _further(name) is None:
            raise row.error(
                f"field 'labels' names the criterion {name!r}, which is none of the dilemma's {len(there)}: "
                f"{', '.join(sorted(there)[:5])} …"
            )


def _further(name: str) -> Criterion | None:
    """A criterion of the miniature's language that a dilemma's own rubric does not hold, by its id."""
    kind, _, key = name.partition("-")
    if kind not in world.KINDS or not key:
        return None
    return Criterion(name, world.criterion_text(kind, key), 1, world.KINDS[kind].dimension)


def judged_of(row: LabelledAnswer, task: Task) -> Judged:
    """A labelled answer as lessons and exams take it; further criteria stand after those of the dilemma."""
    own = Rubric.from_json(task.reference["rubric"])
    ids = {criterion.id for criterion in own.criteria}
    more = [found for name in (*row.labels, *row.unscored) if name not in ids and (found := _further(name))]
    reference = {key: value for key, value in task.reference.items() if key != "rubric"}
    return Judged(task.id, task.messages, Rubric((*own.criteria, *more)), row.response, row.labels, reference)
