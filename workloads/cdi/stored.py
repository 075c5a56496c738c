"""Judged trajectories as the authors' code stores them.

FOLDER/example_N/config.json is a config, log_K/m_evaluation_J.json beside it a simulation with its evaluation: the activity history,
numbered from 1, and for each judged activity the numbers of the items that it shares, from 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import DataError
from workloads.cdi.apps import Activity
from workloads.cdi.judged import judged_actions
from workloads.cdi.judging import Reading, read_evaluations
from workloads.cdi.measures import Counts
from workloads.cdi.scenario import Scenario


@dataclass(frozen=True, slots=True)
class Stored:
    """A judged simulation. log: its number among those of its config."""

    scenario: Scenario
    log: int
    activities: tuple[Activity, ...]
    reading: Reading

    @property
    def counts(self) -> Counts:
        """For PP, HS and AD."""
        mine = self.scenario
        sizes = len(mine.sensitive), len(mine.shareable)
        return Counts.of(mine.id, self.reading.verdicts, *sizes, failed=bool(self.reading.problem))


def read_stored(folder: Path, judgement: int = 0) -> list[Stored]:
    """All judged simulations below a folder, by config and log. judgement: J of m_evaluation_J.json. Raises DataError."""
    found = sorted(folder.glob(f"example_*/log_*/m_evaluation_{judgement}.json"), key=_place)
    if not found:
        raise DataError(
            f"{folder} holds no example_*/log_*/m_evaluation_{judgement}.json: name the folder that the examples are in."
        )
    return [_stored(path) for path in found]


def _place(path: Path) -> tuple[int, int]:
    """(config, log) of an evaluation."""
    config, log = (int(re.sub(r"\D", "", part.name) or 0) for part in (path.parents[1], path.parent))
    return config, log


def _stored(path: Path) -> Stored:
    config = path.parents[1] / "config.json"
    # A config that lies with its simulations also has its own number.
    values = {key: value for key, value in _read(config).items() if key != "example_id"}
    try:
        return stored_of(_read(path), Scenario.from_json(values, config.parent.name), _place(path)[1])
    except (DataError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: is no judged trajectory ({type(error).__name__}: {error}).") from error


def stored_of(values: Mapping[str, Any], scenario: Scenario, log: int) -> Stored:
    """A simulation from {"evaluations": [...], "history": [...]}, as the files and the published rows have it."""
    activities = tuple(_activity(entry) for entry in values["history"])
    judged = [one.index for one in judged_actions(scenario, activities)]
    return Stored(scenario, log, activities, read_evaluations(values["evaluations"], scenario, judged))


def _activity(entry: Mapping[str, Any]) -> Activity:
    """An entry of the history, which does not say who was involved: those that it is addressed to."""
    details = entry["details"]
    to = ",".join(details.get(name, "") for name in ("recipient_id", "to_address", "cc_address", "bcc_address"))
    reached = (part.strip().removesuffix("@gmail.com") for part in to.split(",") if part.strip())
    involved = tuple(dict.fromkeys((entry["user_id"], *reached)))
    return Activity(entry["index"], entry["app_name"], entry["action"], entry["user_id"], involved, details)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is no JSON file that can be read ({error}).") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} is a {type(values).__name__}: it must be an object.")
    return values
