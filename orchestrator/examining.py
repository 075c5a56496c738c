"""What was taught is served and examined on held-out data before anything relies on it; rank 0 asks, and keeps the report."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.director import Director
from orchestrator.errors import RunError
from orchestrator.learning.model import read_folder
from orchestrator.learning.starting import EXAMS, HELD_OUT, SFT, StartingModel, digest, kind_of
from orchestrator.records import episodes as episode_files
from orchestrator.records.folder import read_json, write_json
from orchestrator.rollouts.judging import insist
from orchestrator.values import POLICY, Answer

if TYPE_CHECKING:
    from orchestrator.loop import Rank

EXAM = "exam"
"""Split of an exam's episodes."""


def examine_taught(rank: Rank, models: Mapping[str, StartingModel], just_taught: frozenset[str]) -> dict[str, float]:
    """Serve what was taught and examine it. Returns the numbers of the reports, on the rank that has them."""
    numbers: dict[str, float] = {}
    director = rank.director
    if not director:
        return numbers
    for role in (role for role in just_taught - {POLICY} if models[role].served):
        director.push(role, 1, read_folder(Path(models[role].folder)))
    for role, lesson in rank.lessons.items():
        taught = models[role].taught if role in models else None
        if kind_of(lesson) == SFT:
            numbers |= examine(director, lesson, Path(taught) if taught else None, gated=bool(taught))
        elif taught and (Path(taught) / HELD_OUT).is_file():
            report = read_json(Path(taught) / HELD_OUT)
            numbers |= _numbers(role, report)
            write_json(director.folder.exam(role), report | {"gate": dict(lesson.gate)})
            compare(director, lesson, report, gated=True)
    return numbers


def examine(director: Director, lesson: Any, stored: Path | None, gated: bool) -> dict[str, float]:
    """Put a role's model to its exam on held-out data and compare the report with the lesson's gate.

    stored: the folder of the taught weights, where the report of one exam, and its episodes, are kept for the next run; None keeps
    nothing. gated: whether a missed gate stops the run (RunError) or is only announced, for a model that was not taught here.
    Returns the report's numbers by ROLE/NAME. The exam is stored as episodes where the run has no others.
    """
    calls = list(lesson.exam())
    if not calls:
        return {}
    decides = digest([repr(calls), lesson.grading])
    kept = stored / EXAMS.replace("*", decides) if stored else None
    if kept and kept.is_file():
        report = read_json(kept)
    else:
        director.events.announce(f"examining the {lesson.role}: {len(calls):,} questions on held-out data")
        for fleet in director.fleets.values():
            fleet.begin_step("exam")
        answers = insist(calls, director.fleets, director.config.retries())[0]
        report = dict(lesson.report(answers))
        if kept:
            write_json(kept, report)
            _write_exam(kept.with_suffix(".parquet"), lesson, answers)
    write_json(director.folder.exam(lesson.role), report | {"gate": dict(lesson.gate)})
    if POLICY not in director.config.roles() and kept and kept.with_suffix(".parquet").is_file():
        shutil.copyfile(kept.with_suffix(".parquet"), episode_files.path_of(director.folder, EXAM, 0))
    compare(director, lesson, report, gated)
    return _numbers(lesson.role, report)


def _numbers(role: str, report: Mapping[str, Any]) -> dict[str, float]:
    return {f"{role}/{name}": value for name, value in report.items() if isinstance(value, int | float)}


def _write_exam(path: Path, lesson: Any, answers: Sequence[Answer]) -> None:
    """Keep the answers of an exam as episodes, if the lesson makes any of them."""
    if hasattr(lesson, "episodes"):
        groups, gold, labels = lesson.episodes(answers)
        episode_files.write_file(path, 0, groups, {}, EXAM, gold, lambda episode: labels[episode.id])


def compare(director: Director, lesson: Any, report: Mapping[str, Any], gated: bool) -> None:
    """Compare a report with the lesson's gate; see `examine`."""
    measured = {name: report.get(name, nan) for name in lesson.gate}
    missed = [name for name, bound in lesson.gate.items() if not measured[name] >= bound]
    if not missed:
        return
    told = ", ".join(f"{name} is {measured[name]:.3f}, not {lesson.gate[name]:g} or more" for name in missed)
    failed = f"the {lesson.role} failed its exam on held-out data: {told}."
    if not gated:
        director.events.announce(f"{failed} It was not taught here, so the run goes on.")
        return
    lifted = [
        f"{lesson.role}.gate_injection_flips=1" if name == "injection_resistance" else f"{lesson.role}.gate_{name}=0"
        for name in missed
    ]
    raise RunError(
        f"{failed} RL against it would learn its mistakes. Teach it longer ({lesson.role}.training.steps) or, to go on all "
        f"the same, set {' '.join(lifted)}."
    )
