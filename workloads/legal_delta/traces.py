"""Stage 1 of LegalΔ (arXiv 2508.12281, section 3.1): reasoning that another model wrote, which the policy is taught before RL.

The traces come with the data, written by the miniature's oracle or standing in a file, or from a teacher: a model that is served here,
or a URL. Of what a teacher writes that alone is taught whose form and answer are right.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.config.schema import setting
from orchestrator.errors import ConfigError, RunError
from orchestrator.values import Answer, Call, Fault, Gathered, Message, Sampling, Turn, Unscored, stable_hash
from workloads.legal_delta.answers import Kind, said
from workloads.legal_delta.scores import exact, format_reward
from workloads.teachers import ORACLE, TEACHER, TeacherConfig, after_thought, until_told

NONE, GIVEN = "none", "given"
LEAST_FORMAT = 1.0
"""R_format of what is taught of a teacher's answers."""

Asked = tuple[str, Mapping[str, Any], tuple[Message, ...]]
"""A case's id, its reference, and how it is asked."""


@dataclass
class TracesConfig:
    """What the policy is taught before RL."""

    name: str = setting(
        NONE,
        "`none`: no traces (in the miniature a warm-up in both modes; a named model as it is); `given`: those that come with the data, "
        "of the miniature's oracle or in data.traces; `teacher`: what the model of `teacher` writes about training cases.",
        choices=(NONE, GIVEN, TEACHER),
    )
    cases: int = setting(
        450,
        "Generated cases that are taught, or training cases that the teacher is asked about. The paper's: 450.",
        low=1,
    )
    form: str = setting(
        "reasoned",
        "`reasoned`: reasoning and answer (R1-Distill); `direct`: the right answers of the same cases alone (plain SFT).",
        choices=("reasoned", "direct"),
    )

    @property
    def plain(self) -> bool:
        """Whether answers are taught, and asked for, without reasoning."""
        return self.name != NONE and self.form == "direct"

    def check(self, mini: bool, path: str | None, teacher: TeacherConfig) -> None:
        """Raises ConfigError where there are no such traces."""
        if self.name == GIVEN and not mini and path is None:
            raise ConfigError(
                "traces=given: real cases come without reasoning. Give it, data.traces=FILE, or traces=teacher."
            )
        if self.name == TEACHER and teacher.name == ORACLE:
            raise ConfigError("traces=teacher: name who writes them, teacher=hf:ID, teacher=run:NAME or teacher=URL.")


def written(
    asked: Sequence[Asked], teacher: TeacherConfig, max_tokens: int
) -> Generator[Sequence[Call], Sequence[Answer], Gathered]:
    """Have the teacher reason about cases: rows of case and output. What is wrong is asked again, with another seed.

    Raises RunError where none of its answers can be taught.
    """
    sampling = Sampling(teacher.max_tokens or max_tokens, teacher.temperature)

    def call(one: Asked, attempt: int) -> Call:
        key = f"trace/{one[0]}/{attempt}"
        return Call(key, TEACHER, one[2], sampling, seed=stable_hash("trace", attempt), route=key)

    told = yield from until_told(asked, call, _right, teacher.retries)
    rows = [{"case": one[0], "output": text} for one, text in zip(asked, told, strict=True) if isinstance(text, str)]
    if not rows:
        why = next((text.reason for text in told if isinstance(text, Unscored)), "there is no case to ask about")
        raise RunError(f"teacher={teacher.name}: none of its {len(asked)} answers can be taught. The first: {why}.")
    return Gathered(rows, f"the teacher: {len(rows):,} of {len(asked):,} answers are right and in form, and are taught")


def _right(one: Asked, answer: Answer) -> str | Unscored:
    """What a teacher wrote about a case after it thought, if it is right and in form."""
    if not isinstance(answer, Turn):
        return Unscored(answer.reason if isinstance(answer, Fault) else "it gave no text")
    text, kind, gold = after_thought(answer.text), Kind(one[1]["kind"]), one[1]["answer"]
    value = said(text).value_of(kind)
    if not exact(kind, value, gold):
        return Unscored(f"its answer is {value!r:.60}, and {gold} is right")
    form = format_reward(text)
    return text if form >= LEAST_FORMAT else Unscored(f"R_format is {form:g}, less than {LEAST_FORMAT:g}")
