"""A run's model as a Hugging Face folder that can be handed on, with a card and its provenance beside the weights."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError
from orchestrator.records.folder import read_json, write_json
from orchestrator.sharing.card import card_of
from orchestrator.sharing.folders import atomic_folder, size_of
from orchestrator.sharing.provenance import FILE, provenance, weights_of
from orchestrator.sharing.source import Source, find_source

CARD = "README.md"
PLACE = Path("exports")


@dataclass(frozen=True, slots=True)
class Exported:
    """is_new: whether it was written now; the same export may have been there already."""

    folder: Path
    bytes: int
    is_new: bool


def export(target: str, storage: Path, to: Path | None = None) -> Exported:
    """Write the model that a target names (see `find_source`) with its card and provenance, whole or not at all.

    to: the folder; by default exports/NAME-stepSTEP. Raises ConfigError where the model is of no run, or the folder holds
    anything else, RunError where the run's settings hold a password.
    """
    source = find_source(target, storage)
    if source.run is None:
        raise ConfigError(
            f"{source.reference} is of no run: what the project could say of it is nothing. Hand on the folder itself."
        )
    model = Path(source.folder)
    if not model.is_dir():
        raise ConfigError(f"{source.reference} is {source.folder} of the hub, unchanged: there is nothing to export.")
    folder = to or PLACE / _name(source)
    known = provenance(source)
    if folder.is_dir() and any(folder.iterdir()):
        there = folder / FILE
        if not there.is_file() or read_json(there) != known:
            raise ConfigError(
                f"{folder} is there and holds something else. Name another folder with --to, or remove it."
            )
        if wrong := _wrong(folder, model, known):
            raise ConfigError(
                f"{folder} is there and is not what was exported: {', '.join(wrong)}. Remove it, and export again."
            )
        return Exported(folder, size_of(folder), False)
    with atomic_folder(folder) as temporary:
        for name in _names(model):
            shutil.copyfile(model / name, temporary / name)
        write_json(temporary / FILE, known)
        (temporary / CARD).write_text(card_of(known, model, folder), encoding="utf-8")
    return Exported(folder, size_of(folder), True)


def _names(folder: Path) -> list[str]:
    """The files of a model, without those that an export puts beside it."""
    return sorted(path.name for path in folder.iterdir() if path.is_file() and path.name not in (CARD, FILE))


def _wrong(folder: Path, model: Path, known: Mapping[str, Any]) -> list[str]:
    """What of an exported folder is missing, was added or differs, in words. The card is its owner's."""
    copied, there = _names(model), _names(folder)
    wrong = [f"{name} is missing" for name in copied if name not in there]
    wrong += [f"{name} was added" for name in there if name not in copied]
    if not wrong and weights_of(folder) != known["weights"]:
        wrong += ["the weights differ"]
    small = [name for name in copied if name in there and not name.endswith(".safetensors")]
    return wrong + [f"{name} differs" for name in small if not filecmp.cmp(model / name, folder / name, shallow=False)]


def _name(source: Source) -> str:
    assert source.run is not None
    return f"{source.run.name}-" + (source.role if source.step is None else f"step{source.step}")
