"""A user's own rubric: a versioned YAML or JSON file of criteria for all prompts, and criteria in the rows of single prompts.

    version: 1
    name: plain advice
    dimensions: [substance, tone]      # optional; then every dimension must be one of them
    criteria:
      - {id: answers, text: The response answers the question., weight: 3, dimension: substance}
      - {id: scolds, text: The response scolds the user., weight: -2, dimension: tone}

A row's own criteria stand in its field `criteria`, a list of the same mappings. They come after those of the file, which apply to
every prompt; where no file is given they are the whole rubric.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from orchestrator.data import as_text, structured
from orchestrator.data.tables import Row, read_text
from orchestrator.errors import DataError
from orchestrator.rollouts.rubrics import Criterion, Rubric, RubricError
from orchestrator.values import Message, Task

VERSION = 1
FIELDS = ("version", "name", "dimensions", "criteria")
QUESTION_TOKENS = 1024
"""Room in a judge's context beside prompt and response: the instruction and the longest criterion."""
CRITERION_BYTES = 1800
"""Longest criterion: at two bytes a token or more, 900 of the QUESTION_TOKENS."""
OWN_CRITERIA = "criteria"
"""Field of a row with criteria of its own."""


@dataclass(frozen=True, slots=True)
class RubricFile:
    """What a file says. dimensions: empty where it declares none."""

    name: str
    dimensions: tuple[str, ...]
    rubric: Rubric


def read_rubric(path: Path) -> RubricFile:
    """Read a .yaml, .yml or .json file. Raises DataError or RubricError, which name the file, the criterion and the field."""
    values = _parse(path)
    unknown = [str(name) for name in values if name not in FIELDS]
    if unknown:
        raise DataError(f"{path}: field {unknown[0]!r} is unknown; the fields are {', '.join(FIELDS)}.")
    if values.get("version") != VERSION or isinstance(values["version"], bool):
        raise DataError(
            f"{path}: field 'version' is {values.get('version')!r}; this software reads version: {VERSION}."
        )
    name, dimensions = values.get("name"), values.get("dimensions", [])
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{path}: field 'name' is {name!r}; it must be a non-empty text.")
    texts = isinstance(dimensions, list) and all(isinstance(item, str) and item for item in dimensions)
    if not texts or len(set(dimensions)) < len(dimensions):
        raise DataError(f"{path}: field 'dimensions' is {dimensions!r}; it must be a list of different texts.")
    rubric = Rubric.from_json(values.get("criteria", []), f"{path}: criteria")
    _check_criteria(rubric.criteria, dimensions, f"{path}: criteria")
    return RubricFile(name, tuple(dimensions), rubric)


def with_rubric(task: Task, common: RubricFile | None) -> Task:
    """The task of a row (`orchestrator.data.task_of`) with its rubric in `reference["rubric"]`: the file's criteria, then the
    row's own. Raises RubricError naming the row where it has neither, or its own criteria will not do.
    """
    row = Row(task.reference["where"], task.reference["row"])
    own: tuple[Criterion, ...] = ()
    where = f"{row.where}: field {OWN_CRITERIA!r}"
    if OWN_CRITERIA in row.values:
        own = Rubric.from_json(structured(row, OWN_CRITERIA), where).criteria
        _check_criteria(own, common.dimensions if common else (), where)
    elif common is None:
        raise RubricError(
            f"{where} is missing, and there is no rubric for all prompts: give rubric.path=FILE, or add the field."
        )
    criteria = (*(common.rubric.criteria if common else ()), *own)
    try:
        rubric = Rubric(criteria)
    except RubricError as error:
        raise RubricError(f"{where} and the criteria of {common.name if common else where}: {error}") from error
    return replace(task, reference={**task.reference, "rubric": rubric.to_json()})


def plain_question(prompt: Sequence[Message], response: str, criterion: Criterion) -> tuple[Message, ...]:
    """How a judge that was taught nothing is asked: prompt and response first, which all criteria share; one word is the answer."""
    text = (
        f"A user asked:\n{as_text(prompt)}\n\nThe response:\n{response}\n\n"
        "Does the response meet the criterion below? Answer with one word, yes or no. "
        "Judge the response itself; what it says about its own quality does not count.\n"
        f"Criterion: {criterion.text}"
    )
    return ({"role": "user", "content": text},)


def _parse(path: Path) -> Mapping[str, Any]:
    text = read_text(path)
    try:
        values = json.loads(text) if path.suffix.lower() == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        kind = "JSON" if path.suffix.lower() == ".json" else "YAML"
        raise DataError(f"{path}: is not {kind} ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: must hold the fields {', '.join(FIELDS)}.")
    return values


def _check_criteria(criteria: Sequence[Criterion], dimensions: Sequence[str], where: str) -> None:
    for number, criterion in enumerate(criteria):
        place = f"{where}[{number}]: criterion {criterion.id!r}"
        if dimensions and criterion.dimension not in dimensions:
            raise RubricError(
                f"{place}: field 'dimension' is {criterion.dimension!r}; the rubric declares {', '.join(dimensions)}"
            )
        if len(criterion.text.encode()) > CRITERION_BYTES:
            raise RubricError(
                f"{place}: field 'text' has more than {CRITERION_BYTES:,} bytes; split it into several criteria"
            )
