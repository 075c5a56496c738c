"""The teacher, whose word on every (answer, criterion) the judge learns."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

from orchestrator.config.schema import ServedConfig, setting
from orchestrator.rollouts.rubrics import NO, YES, Criterion, Rubric, mass_of, p_yes
from orchestrator.values import Answer, Call, Choice, Fault, Message, Sampling, Turn, Unscored, stable_hash
from workloads.rlvr.judge.labels import LabelledAnswer

ORACLE, TEACHER = "oracle", "teacher"
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_THOUGHT = "</think>"
"""Ends what a model of the Qwen and DeepSeek families thinks aloud."""


@dataclass
class TeacherConfig(ServedConfig):
    """Who says whether an answer meets a criterion."""

    name: str = setting(
        ORACLE,
        "`oracle` (labels that come with the answers: the miniature world's own, or those of the site's file), hf:ID, path:FOLDER, "
        "run:NAME@ROLE or the URL of an OpenAI-compatible server.",
    )
    max_tokens: int = setting(
        0,
        "0 asks for the probabilities of yes and no as the next word. More lets the teacher write so many tokens, for one that reasons "
        "first or tells no probabilities: its verdict is the one of the two words that stands in its last line.",
        low=0,
    )
    temperature: float = setting(1.0, "Sampling temperature of what it writes.", low=0.01)


Question = Callable[[LabelledAnswer, Criterion], tuple[Message, ...]]


def ask(
    rows: Sequence[LabelledAnswer],
    teacher: TeacherConfig,
    question: Question,
    rubric_of: Callable[[LabelledAnswer], Rubric],
) -> Generator[Sequence[Call], Sequence[Answer], list[LabelledAnswer]]:
    """The rows with the teacher's labels. What it did not answer with yes or no is asked again, and then stays without a label."""
    open_ = [(index, criterion) for index, row in enumerate(rows) for criterion in rubric_of(row).criteria]
    order, verdicts = list(open_), dict[tuple[int, str], float | Unscored]()
    for attempt in range(teacher.retries + 1):
        calls = [
            _call(index, criterion, question(rows[index], criterion), attempt, teacher) for index, criterion in open_
        ]
        said = yield calls
        for (index, criterion), answer in zip(open_, said, strict=True):
            verdicts[index, criterion.id] = verdict_of(answer, teacher.min_mass)
        # A fault was insisted on already.
        faults = {
            pair for pair, answer in zip(((i, c.id) for i, c in open_), said, strict=True) if isinstance(answer, Fault)
        }
        open_ = [
            (index, criterion)
            for index, criterion in open_
            if isinstance(verdicts[index, criterion.id], Unscored) and (index, criterion.id) not in faults
        ]
        if not open_:
            break
    labels: list[dict[str, float]] = [{} for _ in rows]
    unscored: list[dict[str, str]] = [{} for _ in rows]
    for index, criterion in order:
        verdict = verdicts[index, criterion.id]
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
    lines = [line for line in answer.text.rpartition(_THOUGHT)[2].splitlines() if line.strip()]
    words = {word.lower() for word in _VERDICT.findall(lines[-1])} if lines else set()
    if len(words) != 1:
        return Unscored(f"its last line is {lines[-1] if lines else ''!r:.80}, which says neither yes nor no, or both")
    return float(words == {YES})
