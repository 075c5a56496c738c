"""Checkpoints: everything a run needs to go on, whole or not at all.

checkpoints/
    LATEST                   name of the newest complete checkpoint
    step-000020/
        manifest.json        format, step, checksums of every file
        state.json           steps done, random states, sampler position, W&B id, weight version
        optimizer-00000.safetensors …   master weights and Adam moments in float32, whole tensors, a bucket a file
        hf/                  the weights as a folder that transformers and vLLM load, with their canary

Tensors are stored whole, so a checkpoint fits any number of ranks and any ZeRO stage. Only safetensors and JSON are written.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from orchestrator.errors import RunError
from orchestrator.records.canary import Canary
from orchestrator.records.folder import PINNED, fsync, sha256, step_name

FORMAT = 1
FILE_BYTES = 2 * 2**30
LATEST = "LATEST"


def step_folder(checkpoints: Path, step: int) -> Path:
    return checkpoints / step_name(step)


def write(
    checkpoints: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Iterable[tuple[str, dict[str, torch.Tensor]]],
    served: Mapping[str, torch.Tensor] | None,
    model_folder: Path,
    keep: int,
    writer: bool,
    canary: Canary | None = None,
) -> None:
    """Write one checkpoint under a temporary name, make it durable, then name it LATEST and remove the oldest.

    Collective: every rank consumes `tensors` (their gathering is collective), only the `writer` touches the disk. canary: of the
    served weights. Raises RunError where the disk takes no more; the checkpoints of before are then as they were.
    """
    from safetensors import SafetensorError

    temporary = checkpoints / f".{step_name(step)}.partial"
    try:
        _fill(temporary, step, state, tensors, served, model_folder, writer, canary)
        if writer:
            _publish(checkpoints, temporary, step, keep)
    except (OSError, SafetensorError) as error:
        # Room for the records of a run that ends here.
        shutil.rmtree(temporary, ignore_errors=True)
        marker = checkpoints / LATEST
        remedy = (
            f"go on from {marker.read_text().strip()}: orchestrate train --resume {checkpoints.parent}"
            if marker.is_file()
            else "begin again: there is no earlier one"
        )
        raise RunError(
            f"the checkpoint of step {step} cannot be written to {checkpoints} ({error}). Make room there, then {remedy}."
        ) from error


def _fill(
    temporary: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Iterable[tuple[str, dict[str, torch.Tensor]]],
    served: Mapping[str, torch.Tensor] | None,
    model_folder: Path,
    writer: bool,
    canary: Canary | None,
) -> None:
    """Write all files of the checkpoint to `temporary`, durably."""
    if writer:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    for number, part in enumerate(_parts(tensors)):
        if writer:
            _save(part, temporary / f"optimizer-{number:05d}.safetensors")
    if not writer:
        return
    assert served is not None, "the writer holds the weights"
    from orchestrator.learning.model import save_folder

    save_folder(dict(served), model_folder, temporary / "hf", canary=canary)
    (temporary / "state.json").write_text(json.dumps(state))
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    checksums = {str(path.relative_to(temporary)): sha256(path) for path in files}
    (temporary / "manifest.json").write_text(json.dumps({"format": FORMAT, "step": step, "files": checksums}, indent=1))
    for path in (*files, temporary / "manifest.json", temporary / "hf", temporary):
        fsync(path)


def _publish(checkpoints: Path, temporary: Path, step: int, keep: int) -> None:
    """Give the finished folder its name, and remove the oldest of those that are not pinned."""
    final = step_folder(checkpoints, step)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    marker = checkpoints / f".{LATEST}.partial"
    marker.write_text(final.name)
    fsync(marker)
    marker.rename(checkpoints / LATEST)
    fsync(checkpoints)
    # A run that went back to an older step finds later ones of its former course here; the newest is what was just written.
    kept = [path for path in checkpoints.glob("step-*") if path == final or (path / PINNED).exists()]
    others = sorted(path for path in checkpoints.glob("step-*") if path not in kept)
    for old in others[: max(0, len(others) - keep + 1)]:
        shutil.rmtree(old)


def verify(folder: Path) -> dict[str, Any]:
    """Check every file against its checksum and return `state`. Raises RunError naming the file that differs."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder}/manifest.json: cannot be read ({error}). Resume from an older step instead."
        ) from error
    if manifest["format"] > FORMAT:
        raise RunError(
            f"{folder}: written in format {manifest['format']}, this version reads up to {FORMAT}: update the project."
        )
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file() or sha256(path) != expected:
            raise RunError(
                f"{path}: missing or damaged (its checksum is not the manifest's). Resume from an older step instead."
            )
    return read_state(folder)


def read_state(folder: Path) -> dict[str, Any]:
    """The checkpoint's `state`."""
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    return state


def read_tensors(folder: Path) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """(parameter, its slots) as `write` was given them."""
    from safetensors.torch import load_file

    for path in sorted(folder.glob("optimizer-*.safetensors")):
        slots: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in load_file(path).items():
            name, _, slot = key.rpartition("|")
            slots.setdefault(name, {})[slot] = tensor
        yield from slots.items()


def random_states() -> dict[str, Any]:
    """States of torch's generators in this process, as JSON. Sampling needs none: its seeds follow from step and task."""
    states = {"torch": torch.get_rng_state().tolist()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state().tolist()
    return states


def restore_random(states: dict[str, Any]) -> None:
    """The inverse of `random_states`."""
    torch.set_rng_state(torch.tensor(states["torch"], dtype=torch.uint8))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(states["cuda"], dtype=torch.uint8))


def _parts(tensors: Iterable[tuple[str, dict[str, torch.Tensor]]]) -> Iterator[dict[str, torch.Tensor]]:
    part: dict[str, torch.Tensor] = {}
    used = 0
    for name, slots in tensors:
        size = sum(tensor.nbytes for tensor in slots.values())
        if part and used + size > FILE_BYTES:
            yield part
            part, used = {}, 0
        part |= {f"{name}|{slot}": tensor.contiguous() for slot, tensor in slots.items()}
        used += size
    if part:
        yield part


def _save(part: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(part, path)
