"""The model a role starts from: built on the spot or referred to, and, once a lesson was taught, found again by content.

Runs in the driver, before any process of the run exists; imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.references import ModelReference, resolve
from orchestrator.config.schema import ModelConfig, SftConfig
from orchestrator.errors import ConfigError

LESSON_FORMAT = 1
"""Raise it when the way a lesson is taught changes: taught models of before are then taught anew."""
WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class StartingModel:
    """folder: configuration and tokenizer (a local folder or a hub id). has_weights: whether weights lie there too.
    taught: where the lesson's result belongs, None without a lesson. to_teach: whether the lesson is still to be taught."""

    role: str
    folder: str
    has_weights: bool
    taught: str | None
    to_teach: bool


def starting_model(
    role: str,
    name: str,
    model: ModelConfig,
    training: SftConfig,
    seed: int,
    workload: Any,
    lessons: Sequence[Any],
    storage: Path,
) -> StartingModel:
    """Find or build a role's model. seed: of fresh weights and of the lesson's order, beside training.seed."""
    reference = ModelReference.parse(name)
    cache = storage / ".cache"
    lesson = next((lesson for lesson in lessons if lesson.role == role and training.steps > 0), None)
    if reference.kind == "mini":
        folder, has_weights = str(_build(role, model, workload, cache)), False
        if role != "policy" and lesson is None:
            raise ConfigError(
                f"{role}.name=mini: nothing teaches this model (no lesson, or its steps are 0); name weights instead, such as hf:ID."
            )
    else:
        folder, has_weights = str(resolve(reference, storage)), True
    if lesson is None:
        return StartingModel(role, folder, has_weights, None, False)
    taught = cache / "taught" / f"{role}-{_lesson_key(folder, lesson, training, seed)}"
    if (taught / WEIGHTS).is_file():
        return StartingModel(role, str(taught), True, str(taught), False)
    return StartingModel(role, folder, has_weights, str(taught), True)


def _build(role: str, model: ModelConfig, workload: Any, cache: Path) -> Path:
    """Configuration and tokenizer of a small model, in a folder named by what they are made from."""
    from orchestrator.learning.tokenizer import build_model_folder, build_tokenizer

    words, texts = workload.tokenizer_texts()
    template = workload.chat_template(role)
    folder = cache / "built" / f"{role}-{digest([asdict(model), list(words), list(texts), template])}"
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        tokenizer, built = Path(work) / "tokenizer", Path(work) / "built"
        build_tokenizer(words, texts, model.bpe_tokens, template, tokenizer)
        build_model_folder(model, tokenizer, built)
        publish_folder(built, folder)
    return folder


def publish_folder(finished: Path, folder: Path) -> None:
    """Give a finished folder its name. Another run that made the same one at the same time is let have its way."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        finished.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(finished)


def _lesson_key(folder: str, lesson: Any, training: SftConfig, seed: int) -> str:
    """Content of everything that decides the taught weights; a built folder's name is a digest of its own content."""
    examples = hashlib.sha256()
    for example in lesson.examples():
        examples.update(repr(example).encode())
    return digest(
        [LESSON_FORMAT, Path(folder).name, lesson.role, lesson.end_token, asdict(training), seed, examples.hexdigest()]
    )


def digest(value: Any) -> str:
    """Short content hash of plain JSON data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
