"""What a role's model is taught before RL: its lesson, on every rank, and the folder that comes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

from orchestrator.learning.calibration import CALIBRATION
from orchestrator.learning.canaries import canary_of, taught_cases
from orchestrator.learning.engine import Engine
from orchestrator.learning.head import sequence_scorer, sequence_settings
from orchestrator.learning.lessons import KINDS
from orchestrator.learning.model import build, load, local_folder, save_folder
from orchestrator.learning.starting import (
    HELD_OUT,
    WEIGHTS,
    StartingModel,
    held_out_of,
    kind_of,
    load_tokenizer,
    publish_folder,
)
from orchestrator.learning.teaching import held_out, in_words, teach
from orchestrator.learning.tokenizer import padding_id
from orchestrator.records.canary import Canary
from orchestrator.records.folder import write_json

if TYPE_CHECKING:
    from orchestrator.loop import Rank


def teach_role(rank: Rank, model: StartingModel) -> StartingModel:
    """One role's lesson; the taught model's folder is written whole and found again by the next run."""
    assert model.taught is not None
    taught = replace(model, folder=model.taught, has_weights=True, to_teach=False)
    if rank.from_rank_0(lambda director: (Path(taught.folder) / WEIGHTS).is_file()):
        return taught  # by an attempt that was lost later
    role, lesson = rank.roles[model.role], rank.lessons[model.role]
    shape, training = role.model, replace(role.training, seed=role.training.seed + role.seed)
    kind, tokenizer, learner = KINDS[kind_of(lesson)], load_tokenizer(model.folder), rank.config.learner
    examples, asked = lesson.examples(), held_out_of(lesson)
    rows, asked_rows = (
        [kind.row_of(example, tokenizer, lesson.end_token, shape) for example in some] for some in (examples, asked)
    )
    classes = kind.classes_of((*examples, *asked)) if kind.classes_of else ()
    settings = sequence_settings(model.folder, tokenizer, classes) if classes else None
    scorer: Any = (
        load(model.folder, shape.dtype, learner)
        if model.has_weights
        else build(model.folder, training.seed, shape.dtype, learner)
    )
    if classes:
        scorer = sequence_scorer(scorer, classes)
    where: dict[str, int] = {"rank": rank.rank, "pad_id": padding_id(tokenizer)}
    tokens = learner.tokens_per_microbatch

    def progress(done: int, loss: float) -> None:
        if rank.director and (done % 10 == 0 or done == training.steps):
            rank.director.events.progress(f"teaching the {model.role}", done, training.steps, f"loss {loss:.3f}")

    with rank.phase("teach"):
        engine = teach(scorer, rows, kind.criterion, training, learner, dtype=shape.dtype, progress=progress, **where)
        report = None
        if kind.right and asked_rows:
            groups = [example.group for example in asked]
            report = held_out(engine, asked_rows, groups, kind.criterion, kind.right, kind.told, tokens=tokens, **where)
            if rank.director:
                rank.director.events.announce(f"the {model.role} on held-out data: {in_words(report)}")
        restricted = any(task.restricted for split in rank.config.splits() for task in rank.workload.tasks(split))
        cases = taught_cases(examples, kind, tokenizer, lesson.end_token, shape) if not restricted else []
        canary = canary_of(engine, cases, tokenizer, shape, tokens=tokens, sequences=bool(classes), **where)
        if settings and kind.told:
            settings = {**settings, **{name: report[name] if report else None for name in CALIBRATION}}
        _save(rank, model, engine, settings, report, canary)
        engine.close()
    return taught


def _save(
    rank: Rank,
    model: StartingModel,
    engine: Engine,
    settings: Mapping[str, Any] | None,
    report: Mapping[str, float] | None,
    canary: Canary,
) -> None:
    tensors = rank.copied_weights(engine)
    if tensors is not None:
        assert model.taught is not None
        folder = Path(model.taught)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            save_folder(tensors, local_folder(model.folder), Path(work) / "taught", settings, canary)
            if report:
                write_json(Path(work) / "taught" / HELD_OUT, report)
            publish_folder(Path(work) / "taught", folder)
    dist.barrier(rank.control)
