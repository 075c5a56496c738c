"""Cases to train on and traces to imitate: the published files (or one's own in their form), and who is held out.

A file of cases has a row a case with `instruction`, `question`, `answer`, perhaps `id` and `instruction_base` (GRPO_training.json,
GRPO_dev.json); a file of traces has `output` too (SFT_training.json). The 250 traces of articles, charges and terms among the 450
published ones are about cases of the published GRPO_dev.json: a trace is never learned whose facts an evaluation asks about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config.schema import DataConfig
from orchestrator.config.settings import setting
from orchestrator.data.tables import Row
from orchestrator.errors import ConfigError, DataError
from orchestrator.values import stable_hash
from workloads.files import tables_of, text
from workloads.legal_delta.answers import MARKER, MARKERS, Kind, kind_of, said, written
from workloads.legal_delta.scores import read_gold

SOURCES = ("mini", "files")
HUB_TABLES = (("default", "train"),)
_CHARGES = re.compile(r"、(?![^\[\]]*\])")
_GIVEN = re.compile(r"\n\s*(罪名|法条)[:：][^\n]*(?=\s*$)")
_REASONING_BLOCK = re.compile(
    r"<reasoning>\n.*?\n</reasoning>\n|^- `\{详细分析过程\}`[^\n]*\n", re.DOTALL | re.MULTILINE
)
_FENCE = re.compile(r"^```\w*\n|\n```$")


@dataclass
class LegalDataConfig(DataConfig):
    """Where cases come from."""

    source: str = setting(
        "mini",
        "`mini`: a generated law with an exact oracle; `files`: cases of data.path in the form of the published GRPO_*.json.",
        choices=SOURCES,
    )
    path: str | None = setting(
        None,
        "FILE.json, .jsonl, .csv or .parquet, a folder (its GRPO_* are read), or hf:ORG/NAME: a row a case, with instruction, "
        "question, answer ([刑期]36月<eoa>), and perhaps id and instruction_base.",
        file=True,
    )
    eval_path: str | None = setting(
        None,
        "Held-out cases of their own, in the same form. By default data.eval_groups of data.path, a quarter at most, are held out.",
        file=True,
    )
    traces: str | None = setting(
        None,
        "Reasoning traces to imitate before RL, in the same form with output (a folder's SFT_* are read). Those about held-out facts "
        "are left out.",
        file=True,
    )
    train_groups: int = setting(
        256, "Cases to train on, at most; those with the same facts count as one. The paper has 6,981.", low=1
    )
    eval_groups: int = setting(48, "Held-out cases, counted in the same way.", low=1)

    @property
    def needs_path(self) -> bool:
        """Whether the source is read from somewhere."""
        return self.source != "mini"


def check_data(data: LegalDataConfig) -> None:
    """Raises ConfigError for files beside data.path that the source does not read."""
    for name in ("eval_path", "traces"):
        if not data.needs_path and getattr(data, name):
            raise ConfigError(
                f"data.source={data.source} is generated: leave data.{name} out, or set data.source=files."
            )


@dataclass(frozen=True, slots=True)
class Case:
    """One question. answer: gold, with marker and `<eoa>`. instruction and instruction_base: what is asked with reasoning and in
    direct mode. group: the same for cases with the same facts, which are on one side of a split. where: for people."""

    id: str
    kind: Kind
    question: str
    answer: str
    instruction: str
    instruction_base: str
    group: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Trace:
    """A reasoning of a stronger model about a case. output: as the policy is to write it. It need not be right, nor whole."""

    case: Case
    output: str


def read_cases(path: str) -> list[Case]:
    """The cases of FILE, of a folder's GRPO_* or of hf:ORG/NAME, in order. Raises DataError, which names file, row and field."""
    return _cases(_rows(path, "GRPO_*"))


def read_traces(path: str) -> list[Trace]:
    """As `read_cases`, with outputs; of a folder its SFT_*."""
    rows = _rows(path, "SFT_*")
    return [Trace(case, _unfenced(text(row, "output"))) for case, row in zip(_cases(rows), rows, strict=True)]


def _rows(path: str, names: str) -> list[Row]:
    return [row for table in tables_of(path, HUB_TABLES, names) for row in table.rows]


def _cases(rows: Sequence[Row]) -> list[Case]:
    """An id that came before, as where each task has numbers of its own, has `#2` and so on after it."""
    seen: Counter[str] = Counter()
    cases = []
    for number, row in enumerate(rows):
        identifier = str(row.values.get("id", number))
        seen[identifier] += 1
        cases.append(_case(row, identifier if seen[identifier] == 1 else f"{identifier}#{seen[identifier]}"))
    return cases


def _case(row: Row, identifier: str) -> Case:
    for name in ("instruction", "question", "answer"):
        text(row, name)
    # As they are: blanks at their ends are part of the published prompts.
    instruction, question = row.values["instruction"], row.values["question"]
    kind, answer = _gold(row)
    if kind_of(instruction) not in (kind, None):
        raise row.error(f"field 'answer' begins with {MARKERS[kind]}, which is not what field 'instruction' asks for.")
    base = (
        text(row, "instruction_base") and row.values["instruction_base"] if "instruction_base" in row.values else None
    )
    group = f"{stable_hash(''.join(facts(question).split())):016x}"
    return Case(identifier, kind, question, answer, instruction, base or base_of(instruction), group, row.where)


def _gold(row: Row) -> tuple[Kind, str]:
    """The task by its answer's marker, and the answer. Charges in CAIL's raw form, which the traces' instruction tells by its 顿号,
    become bare names with `;` between them, as in the cases: `[窝藏、包庇]、盗窃` is `窝藏、包庇;盗窃`."""
    answer = row.values["answer"].strip()
    marker = said(answer).marker
    kind = next((kind for kind in Kind if MARKERS[kind] == marker), None)
    if kind is None or not MARKER.match(answer) or not read_gold(kind, answer):
        raise row.error(
            f"field 'answer' is {answer!r:.60}: it must be like [刑期]36月<eoa>, with one of {', '.join(MARKERS.values())}."
        )
    value = str(said(answer).value)
    if kind is Kind.CHARGE and "顿号" in row.values["instruction"]:
        names = _CHARGES.split(value)
        return kind, written(kind, *(re.sub(r"[\[\]]", "", name) for name in names))
    return kind, answer


def facts(question: str) -> str:
    """The facts alone: without their heading, and without the charges and articles that are given with them."""
    told = question
    while (given := _GIVEN.search(told)) is not None:
        told = told[: given.start()]
    return re.sub(r"^\s*事实[:：]", "", told).strip()


def base_of(instruction: str) -> str:
    """The instruction of direct mode: without the block for the reasoning and the line about it."""
    return _REASONING_BLOCK.sub("", instruction)


def _unfenced(output: str) -> str:
    """Without the code fence that some traces stand in, whose end a few lack."""
    return _FENCE.sub("", output.strip()).strip()


def cases_of(data: LegalDataConfig) -> dict[str, list[Case]]:
    """The cases of real data by split, "train", "eval" and "test". Raises DataError."""
    counts = {"train": data.train_groups, "eval": data.eval_groups, "test": data.test_groups}
    held_out = read_cases(data.eval_path) if data.eval_path else None
    return split(read_cases(str(data.path)), counts, data.seed, held_out)


def split(
    cases: Sequence[Case], counts: Mapping[str, int], seed: int, held_out: Sequence[Case] | None = None
) -> dict[str, list[Case]]:
    """By facts: a group is on one side whole, by its hash with the seed.

    counts: most groups of each side; of "eval" and "test" a quarter of all at most. held_out: what "eval" is taken from where it is
    given; cases with the same facts are then neither trained on nor tested. Raises DataError where nothing is left to train on.
    """
    groups = _in_order(cases, seed)
    most = max(1, len(groups) // 4)
    evaluated = groups[: min(counts["eval"], most)] if held_out is None else _in_order(held_out, seed)[: counts["eval"]]
    held = set(evaluated)
    rest = [group for group in groups if group not in held]
    tested = min(counts["test"], most)
    if len(rest) <= tested:
        raise DataError(
            f"data.path holds {len(groups)} case or cases with facts of their own: none is left to train on."
        )
    sides = {"eval": held, "test": set(rest[:tested]), "train": set(rest[tested:][: counts["train"]])}
    sources = {"eval": cases if held_out is None else held_out, "test": cases, "train": cases}
    return {name: [case for case in sources[name] if case.group in side] for name, side in sides.items()}


def _in_order(cases: Sequence[Case], seed: int) -> list[str]:
    return sorted({case.group for case in cases}, key=lambda group: (stable_hash("facts", seed, group), group))


def traces_of(data: LegalDataConfig, cases: Mapping[str, Sequence[Case]]) -> list[Trace]:
    """The traces of data.traces without those about facts of "eval" and "test". Raises DataError where none is left."""
    if data.traces is None:
        return []
    held_out = {case.group for side in ("eval", "test") for case in cases[side]}
    traces = [trace for trace in read_traces(data.traces) if trace.case.group not in held_out]
    if not traces:
        raise DataError(f"{data.traces}: every trace is about held-out facts: give others, or fewer data.eval_groups.")
    return traces


def reference_of(case: Case) -> dict[str, Any]:
    """`Task.reference` of a case: all that scoring, `prompts.messages` and reports need. story: the facts alone."""
    return {
        "id": case.id,
        "kind": case.kind.value,
        "answer": case.answer,
        "question": case.question,
        "story": facts(case.question),
        "instruction": case.instruction,
        "instruction_base": case.instruction_base,
        "group": case.group,
    }
