"""The miniature law as LegalΔ's tasks: what is asked, in a closed vocabulary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.values import Message
from workloads.legal_delta import oracle, world_words
from workloads.legal_delta.answers import END, MARKERS, Kind
from workloads.legal_delta.world import CIRCUMSTANCE, MONTHS, TIER, TOTALS, MiniCase

TAGS = ("<reasoning>\n", "\n</reasoning>\n", "<answer>\n", "\n</answer>")
"""A line break beside a tag is part of the word."""
ROLES = ("system", "user", "assistant")
MODES = {False: "先推理再作答", True: "直接作答"}
"""What is asked for, by whether the answer is to be direct."""
TASKS = {
    Kind.ARTICLE: "求法条",
    Kind.CHARGE: "求罪名",
    Kind.SENTENCE: "求刑期",
    Kind.AMOUNT: "求金额",
    Kind.CHOICE: "求答案",
}
GLUE = (
    "被告人",
    "罪名",
    "法条",
    CIRCUMSTANCE,
    TIER,
    "合计",
    "基准",
    "刑期",
    "刑法第",
    "条",
    "元",
    "月",
    "是",
    *":;、。",
)


def vocabulary() -> tuple[str, ...]:
    """Every word that is read or written, each once."""
    lists = (
        world_words.MARKS, world_words.ACCUSED, world_words.OTHERS, world_words.STATIONS, world_words.ACTS, world_words.THINGS,
        world_words.CHARGES,
        world_words.ARRESTS, world_words.STATEMENTS, world_words.CIRCUMSTANCES, world_words.TIERS, world_words.LETTERS,
        world_words.IDLE, map(str, world_words.ARTICLES), map(str, world_words.YUAN), map(str, MONTHS),
        (str(float(total)) for total in TOTALS), GLUE, MODES.values(), TASKS.values(), MARKERS.values(), (END,), TAGS, ROLES,
    )  # fmt: skip
    return tuple(dict.fromkeys(word for words in lists for word in words))


def case_of(case: MiniCase) -> dict[str, Any]:
    """`Task.reference` of a case. steps: of perfect reasoning."""
    return {
        "kind": str(case.kind),
        "answer": case.answer,
        "question": f"{case.asked}{case.story}",
        "story": case.story,
        "steps": list(oracle.steps(case)),
    }


class Wording:
    """How the miniature's tasks are asked."""

    def messages(self, reference: Mapping[str, Any], direct: bool) -> tuple[Message, ...]:
        """What the model is shown. The question comes first: reading the facts, the model knows by then who is accused."""
        return (
            {"role": "system", "content": MODES[direct]},
            {"role": "user", "content": f"{TASKS[Kind(reference['kind'])]}{reference['question']}"},
        )


WORDING = Wording()
