"""Sweeps as they lie when their runs have ended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from orchestrator.sweep.folder import SweepFolder, definition_of
from orchestrator.sweep.journal import Journal, Tried
from orchestrator.sweep.spec import Node, Sweep


def sweep_of(
    storage: Path,
    tried: Sequence[tuple[str, str, str, str, float]],
    nodes: Sequence[str] = ("policy",),
    mode: str = "max",
) -> SweepFolder:
    """A sweep `mine` and its trials: (stage, arm, run, outcome, score)."""
    folder = SweepFolder(storage / "sweeps" / "mine")
    folder.path.mkdir(parents=True)
    arms = {arm: {} for _, arm, *_ in tried} or {"": {}}
    sweep = Sweep("mine", tuple(Node(name, "rlvr", {}, arms, (0, 1)) for name in nodes), mode=mode)  # type: ignore[arg-type]
    folder.definition.write_text(OmegaConf.to_yaml(OmegaConf.create(definition_of(sweep) | {"format": 1})))
    journal = Journal(folder.journal)
    for number, (stage, arm, run, outcome, score) in enumerate(tried):
        trial = journal.begin(Tried(stage, number, arm, number, {}, f"rlvr/{run}"))
        journal.row(trial, 8, score, {})
        journal.end(trial, outcome)
    return folder
