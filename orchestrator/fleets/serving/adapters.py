"""LoRA adapters of runs, as folders that an engine adds to the model that they were trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError
from orchestrator.fleets.serving.folder import ServiceFolder
from orchestrator.records.folder import RunFolder, read_json, sha256
from orchestrator.sharing.provenance import provenance
from orchestrator.sharing.public import public
from orchestrator.sharing.source import Source, find_source
from orchestrator.values import POLICY


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter of a run. model: the id by which it is asked. folder: as peft writes it; trained: the model folder that the
    trainer kept of base and adapter together, whose canary the served pair must match. rank, alpha, targets: as it was trained."""

    model: str
    folder: str
    trained: str
    rank: int
    alpha: float
    targets: str
    provenance: Mapping[str, Any]


def adapters_of(runs: Sequence[str], base: Source, service: str, storage: Path) -> tuple[Adapter, ...]:
    """The adapters of runs (RUN or RUN@STEP), each under the id `SERVICE:RUN-STEP`. `write_adapters` writes them.

    Raises ConfigError where a run has none, or trained them on another model than `base`.
    """
    sources = [find_source(run, storage) for run in runs]
    return tuple(_adapter(source, base, service, storage) for source in sources)


def _adapter(source: Source, base: Source, service: str, storage: Path) -> Adapter:
    if source.run is None or source.step is None:
        raise ConfigError(f"--adapter {source.reference}: name a run's checkpoint, RUN or RUN@STEP.")
    checkpoint, began_with = Path(source.folder).parent, _starting(source.run, storage)
    lora = _lora(checkpoint)
    if lora is None:
        raise ConfigError(
            f"--adapter {source.reference}: this run trained all weights (learner.lora_rank=0): serve it by itself."
        )
    if Path(base.folder).resolve() != Path(began_with).resolve() and base.folder != began_with:
        raise ConfigError(
            f"--adapter {source.reference}: its adapters belong to {began_with}, and {base.reference} is another model. "
            f"Serve the model that it began with: orchestrate serve run:{source.run.parent.name}/{source.run.name}@{POLICY}"
        )
    name = f"{source.run.name}-{source.step}"
    # Another checkpoint may come to have this step: what is served stays as it is.
    folder = ServiceFolder.of(storage, service).adapters / f"{name}-{sha256(checkpoint / 'manifest.json')[:8]}"
    return Adapter(
        f"{service}:{name}",
        str(folder),
        source.folder,
        lora["rank"],
        lora["alpha"],
        lora["targets"],
        public(provenance(source)),
    )


def write_adapters(adapters: Sequence[Adapter]) -> None:
    """Write the folders that are not there yet, each whole or not at all. Imports torch."""
    from orchestrator.learning.lora import adapter_folder

    for adapter in adapters:
        if not Path(adapter.folder).is_dir():
            Path(adapter.folder).parent.mkdir(parents=True, exist_ok=True)
            checkpoint = Path(adapter.trained).parent
            adapter_folder(checkpoint, _lora(checkpoint), Path(adapter.folder))


def _starting(run: Path, storage: Path) -> str:
    """The folder or hub id of the policy that the run began RL with."""
    path = RunFolder(run).models
    name = str(read_json(path).get(POLICY, "")) if path.is_file() else ""
    folder = storage / name
    return str(folder) if name and folder.is_dir() else name


def _lora(checkpoint: Path) -> Any:
    """What the checkpoint says of its adapters; None where it has none."""
    return read_json(checkpoint / "state.json").get("lora")
