"""The teacher, whose word on every (answer, criterion) the judge learns."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from orchestrator.rollouts.rubrics import NO, YES, Criterion, Rubric, mass_of, p_yes
from orchestrator.values import Answer, Call, Choice, Fault, Message, Sampling, Turn, Unscored, stable_hash
from workloads.rlvr.judge.labels import LabelledAnswer
from workloads.teachers import TEACHER, TeacherConfig, last_word, until_told

Question = Callable[[LabelledAnswer, Criterion], tuple[Message, ...]]


def ask(
    rows: Sequence[LabelledAnswer],
    teacher: TeacherConfig,
    question: Question,
    rubric_of: Callable[[LabelledAnswer], Rubric],
) -> Generator[Sequence[Call], Sequence[Answer], list[LabelledAnswer]]:
    """The rows with the teacher's labels. What it did not answer with yes or no is asked again, and then stays without a label."""
    asked = [(index, criterion) for index, row in enumerate(rows) for criterion in rubric_of(row).criteria]
    verdicts = yield from until_told(
        asked,
        lambda one, attempt: _call(*one, question(rows[one[0]], one[1]), attempt, teacher),
        lambda _, answer: verdict_of(answer, teacher.min_mass),
        teacher.retries,
    )
    labels: list[dict[str, float]] = [{} for _ in rows]
    unscored: list[dict[str, str]] = [{} for _ in rows]
    for (index, criterion), verdict in zip(asked, verdicts, strict=True):
        if isinstance(verdict, Unscored):
            unscored[index][criterion.id] = verdict.reason
        else:
            labels[index][criterion.id] = verdict
    return [replace(row, labels=labels[n], unscored=unscored[n]) for n, row in enumerate(rows)]


def _call(
    index: int, criterion: Criterion, messages: tuple[Message, ...], attempt: int, teacher: TeacherConfig
) -> Call:
    key, seed = f"label/{index}/{criterion.id}/{attempt}", stable_hash("label", attempt)
    if teacher.max_tokens:
        sampling = Sampling(teacher.max_tokens, teacher.temperature)
        return Call(key, TEACHER, messages, sampling, seed=seed, route=f"label/{index}")
    return Call(key, TEACHER, messages, choices=(YES, NO), seed=seed, route=f"label/{index}")


def verdict_of(answer: Answer, min_mass: float) -> float | Unscored:
    """1.0 met, 0.0 not, or why there is no verdict."""
    if isinstance(answer, Fault):
        return Unscored(answer.reason)
    if isinstance(answer, Choice):
        probability = p_yes(answer, min_mass)
        if probability is None:
            return Unscored(f"P(yes)+P(no) is {mass_of(answer):.2f}, less than teacher.min_mass={min_mass:g}")
        return float(probability > 0.5)
    assert isinstance(answer, Turn), "a teacher speaks"
    word = last_word(answer, (YES, NO))
    return word if isinstance(word, Unscored) else float(word == YES)
