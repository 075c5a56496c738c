"""EmoBench (ACL 2024): which action or response is best (EA), and what somebody feels and why (EU).

Protocol: options with letters, the answer as JSON; EU is right only if emotion and cause both are. Reported by category and language.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.data.tables import Row
from orchestrator.errors import DataError
from orchestrator.values import Message
from workloads.files import Table, index, tables_of, text, texts
from workloads.social_r1.benchmarks.items import (
    LETTERS,
    Asked,
    Benchmark,
    Form,
    Given,
    Item,
    in_tags,
    lettered,
    user,
)

SYSTEM = {
    "en": "You understand emotions well. Put yourself into the place of the person in the scenario, and select the option that is best "
    "from their perspective. {reason}Reply with JSON.",
    "zh": "你善于理解情绪。请站在情景中人物的角度，选出最合适的选项。{reason}请用JSON回答。",
}
REASON = {("en", "cot"): "First reason step by step. ", ("zh", "cot"): "请先逐步推理。"}
ASKED = {
    ("en", "EA"): "In this scenario, what is the most effective {kind} for {subject}?",
    ("zh", "EA"): "在这个情景中，对{subject}来说最有效的{kind}是什么？",
    ("en", "emotion"): "What emotion(s) would {subject} ultimately feel in this situation?",
    ("zh", "emotion"): "在这种情况下，{subject}最终会有什么情绪？",
    ("en", "cause"): "Why would {subject} feel these emotions in this situation?",
    ("zh", "cause"): "在这种情况下，{subject}为什么会有这些情绪？",
}
SCENARIO = {"en": "Scenario: ", "zh": "情景："}


class EmoBenchEA(Benchmark):
    """Emotional application: 200 items a language."""

    name, source = "emobench_ea", "emobench"
    file = "EA"
    keys: tuple[str, ...] = ("answer",)

    def items(self, path: str, languages: Sequence[str]) -> list[Item]:
        """From EA.jsonl (EU.jsonl) in the published folder, or the folder `data` of it, or the hub."""
        tables = [table for table in _published(path) if table.name.upper() == self.file]
        if not tables:
            raise DataError(f"{path}: holds no {self.file}.jsonl; give the folder that holds EA.jsonl and EU.jsonl.")
        rows = [row for table in tables for row in table.rows]
        # A number is of one scenario in all languages, and neighbours may share theirs.
        units: dict[str, str] = {}
        for row in rows:
            units.setdefault(_number(row), " ".join(text(row, "scenario").split()))
        return [self._item(row, units[_number(row)]) for row in rows if text(row, "language") in languages]

    def _item(self, row: Row, unit: str) -> Item:
        language, subject = text(row, "language"), text(row, "subject")
        options = texts(row, "choices")
        gold = index(row, "label", text(row, "label"), options)
        question = ASKED[language, "EA"].format(kind=text(row, "question type").lower(), subject=subject)
        asked = (Asked(question, options, frozenset([gold])),)
        return _numbered(row, unit, asked, {"category": text(row, "category")})

    def messages(self, item: Item, shown: Sequence[Asked], form: Form) -> tuple[Message, ...]:
        """The scenario, and each question with its options; the answer as JSON."""
        if form == "tagged":
            return in_tags(item, shown)
        language = item.views["language"]
        system: Message = {
            "role": "system",
            "content": SYSTEM[language].format(reason=REASON.get((language, form), "")),
        }
        questions = [f"{one.question}\n{lettered(one.options, '{letter}) {option}')}" for one in shown]
        wanted = "{" + ", ".join(f'"{key}": "<letter>"' for key in self.keys) + "}"
        return (system, user(f"{SCENARIO[language]}{item.story}", *questions, wanted))

    def read(self, text: str, shown: Sequence[Asked], form: Form, kind: str) -> list[Given]:
        """The letter behind each key, the last time that it comes."""
        return [_keyed(text, key, len(one.options)) for key, one in zip(self.keys, shown, strict=True)]


class EmoBenchEU(EmoBenchEA):
    """Emotional understanding: 200 items a language, right only if emotion and cause are."""

    name = "emobench_eu"
    file = "EU"
    keys = ("answer_q1", "answer_q2")

    def _item(self, row: Row, unit: str) -> Item:
        language, subject = text(row, "language"), text(row, "subject")
        asked = []
        for part in ("emotion", "cause"):
            options = texts(row, f"{part}_choices")
            gold = index(row, f"{part}_label", text(row, f"{part}_label"), options)
            asked.append(Asked(ASKED[language, part].format(subject=subject), options, frozenset([gold])))
        views = {"category": text(row, "coarse_category"), "fine category": text(row, "finegrained_category")}
        return _numbered(row, unit, tuple(asked), views)


def _published(path: str) -> list[Table]:
    hub = (("emotional_application", "train"), ("emotional_understanding", "train"))
    tables = tables_of(path, hub, "E[AU].json*")
    names = {"emotional_application": "EA", "emotional_understanding": "EU"}
    return [Table(names.get(table.name, table.name), table.rows) for table in tables]


def _number(row: Row) -> str:
    number = str(row.values.get("qid", ""))
    if not number:
        raise row.error("field 'qid' is missing: each item needs its number.")
    return number


def _numbered(row: Row, unit: str, asked: tuple[Asked, ...], views: dict[str, str]) -> Item:
    language = text(row, "language")
    return Item(f"{_number(row)}-{language}", unit, text(row, "scenario"), asked, {**views, "language": language})


def _keyed(text: str, key: str, count: int) -> Given:
    found = re.findall(rf"{key}[\"']?\s*[:：]\s*[\"'(\[]*([A-{LETTERS[count - 1]}])\b", text)
    return (LETTERS.index(found[-1]),) if found else None
