"""What a search left: the rows of the labels.jsonl of a run of `cdi.attacks` or `cdi.prompts`, read for other runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.config.references import ModelReference, find_run
from orchestrator.errors import ConfigError, DataError
from workloads.cdi.scenario import Scenario

ATTACKED, TEXT = "attack", "text"
"""What a row has that is an attack on a config, and one that is a text in the sender's task."""


def rows_of(run: str, key: str, storage: str, kind: str) -> list[dict[str, Any]]:
    """The rows of a kind that a run gathered, run:NAME. key: of the setting. Raises ConfigError where there are none."""
    from orchestrator.records.folder import RunFolder  # with the records' library, which planning does without

    reference = ModelReference.parse(run)
    if reference.kind != "run":
        raise ConfigError(f"{key}={run}: name a run that searched, run:NAME.")
    labels = RunFolder(find_run(reference.value, storage)).labels
    lines = labels.read_text(encoding="utf-8").split("\n") if labels.is_file() else []
    rows = [row for row in map(json.loads, filter(None, lines)) if kind in row]
    if not rows:
        workload = {ATTACKED: "cdi.attacks", TEXT: "cdi.prompts"}[kind]
        raise ConfigError(f"{key}={run}: that run has found none. Name a run of {workload} that has searched.")
    return rows


def attack_on(scenario: Scenario, rows: Mapping[str, Mapping[str, Any]], where: str) -> Mapping[str, Any]:
    """The row of a config. rows: by the config's id. Raises ConfigError where it was not searched, DataError where the config of that
    id was another one."""
    row = rows.get(scenario.id)
    if row is None:
        raise ConfigError(
            f"{where}: there is no attack on {scenario.id}. Search it too (search.splits and the data settings of the run that "
            "searches), or play what was searched."
        )
    if row["config"] != scenario.to_json():
        raise DataError(
            f"{where}: its config {scenario.id} is another one than this run's. Give both the same data settings."
        )
    return row


def best_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The text of the highest score, the first of equals."""
    return str(max(rows, key=lambda row: float(row["score"]))[TEXT])
