"""Hi-ToM's published file as questions to train on: {"data": [...]}, belief orders 0 to 4, 15 options each.

The file holds every item twice: VP puts an instruction line before the story, CoTP has the story alone. Only the latter are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from orchestrator.data.tables import Row, read_text
from orchestrator.errors import DataError
from workloads.social_r1.questions import Question, same_story

FIELDS = (
    "prompting_type",
    "deception",
    "story_length",
    "question_order",
    "sample_id",
    "story",
    "question",
    "choices",
    "answer",
)
KIND = "CoTP"
_CHOICE = re.compile(r"[A-Z]\.\s*(.*?)\s*(?=,\s*[A-Z]\.|$)")


def read_hitom(path: Path) -> list[Question]:
    """The distinct questions, in order; those of all orders about one story are a group.

    Raises DataError, which names the row.
    """
    try:
        held = json.loads(read_text(path))
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}): data.source=hitom reads Hi-ToM_data.json.") from error
    rows = held.get("data") if isinstance(held, Mapping) else None
    if not isinstance(rows, list):
        raise DataError(f"{path}: has no list 'data': data.source=hitom reads Hi-ToM_data.json.")
    found = []
    for number, values in enumerate(rows):
        row = Row(f"{path} row {number}", values if isinstance(values, Mapping) else {})
        missing = [name for name in FIELDS if name not in row.values]
        if missing:
            raise row.error(f"field {missing[0]!r} is missing: Hi-ToM's rows have {', '.join(FIELDS)}.")
        if row.values["prompting_type"] == KIND:
            found.append(_question(row))
    if not found:
        raise DataError(f"{path}: holds no row of the prompting type {KIND}.")
    return found


def _question(row: Row) -> Question:
    values = row.values
    options, answer = _CHOICE.findall(str(values["choices"])), str(values["answer"]).strip()
    if answer not in options:
        raise row.error(f"field 'answer' is {answer!r}: it must be one of the choices ({', '.join(options)}).")
    if not isinstance(values["question_order"], int):
        raise row.error(f"field 'question_order' is {values['question_order']!r:.40}: it must be a whole number.")
    # The same story ends with a line of stars in some rows and not in others.
    story = str(values["story"]).strip("*\n ")
    return Question(
        f"hitom-{'deception' if values['deception'] else 'plain'}-{values['story_length']}-{values['sample_id']}",
        same_story(story),
        story,
        str(values["question"]).strip(),
        tuple(options),
        options.index(answer),
        "belief",
        values["question_order"],
        where=row.where,
    )
