"""Hi-ToM's published file, read for both of its uses, training and evaluation: belief orders 0 to 4, 15 options each.

The file holds every question twice: VP puts an instruction line before the story, CoTP has the story alone. One of the two is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.data.tables import Row
from orchestrator.errors import DataError
from workloads.files import index, tables_of, text
from workloads.social_r1.questions import Question

COTP, VP = "CoTP", "VP"
_CHOICE = re.compile(r"[A-Z]\.\s*(.*?)\s*(?=,\s*[A-Z]\.|$)")
_LINE = re.compile(r"^\d+ ")
"""How a line of a story begins, unlike an instruction in front of it."""


@dataclass(frozen=True, slots=True)
class Published:
    """One question of the file. unit: the same for all questions about a story. answer: index of the right option. length: of the
    story, in chapters (1 to 3). where: for people, the file and the row."""

    number: int
    unit: str
    story: str
    question: str
    options: tuple[str, ...]
    answer: int
    order: int
    deception: bool
    length: str
    where: str

    @property
    def as_question(self) -> Question:
        """To train on; the orders of a story are held out together."""
        name = f"hitom-{'deception' if self.deception else 'plain'}-{self.length}-{self.number}"
        return Question(
            name, self.unit, self.story, self.question, self.options, self.answer, "belief", self.order,
            where=self.where,
        )  # fmt: skip


def read_hitom(path: str) -> list[Published]:
    """The distinct questions of Hi-ToM_data.json, its folder, or hf:ORG/NAME, in order.

    Raises DataError, which names the row.
    """
    rows = [row for table in tables_of(path, (("default", "train"),), "*.json*") for row in table.rows]
    kinds = {text(row, "prompting_type") for row in rows}
    found = [_published(row) for row in rows if row.values["prompting_type"] == (COTP if COTP in kinds else VP)]
    if not found:
        raise DataError(f"{path}: holds no row of the prompting types {COTP} or {VP}.")
    return found


def _published(row: Row) -> Published:
    lines = text(row, "story").split("\n")
    first = next((number for number, line in enumerate(lines) if _LINE.match(line)), 0)
    # The same story ends with a line of stars in some rows and not in others.
    story = "\n".join(lines[first:]).strip("*\n ")
    options = tuple(_CHOICE.findall(text(row, "choices")))
    if len(options) < 2 or not all(options):
        raise row.error("field 'choices' must be written as A. x, B. y and so on.")
    order, number = (row.values.get(name) for name in ("question_order", "sample_id"))
    if not isinstance(order, int) or not isinstance(number, int):
        raise row.error("fields 'question_order' and 'sample_id' must be whole numbers.")
    return Published(
        number,
        # Three stories have a stray sign in some of their questions' copies.
        "".join(char for char in story if char.isalnum()),
        story,
        text(row, "question"),
        options,
        index(row, "answer", text(row, "answer"), options),
        order,
        bool(row.values.get("deception")),
        str(row.values.get("story_length", "")),
        row.where,
    )
