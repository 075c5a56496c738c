"""Privacy norms of PrivacyLens (Shao et al. 2024), from which configs are made: who should not tell whom what about whom."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import DataError

APPLICATIONS = {"Messenger": "Messenger", "FacebookManager": "Facebook", "Gmail": "Gmail"}
"""PrivacyLens' toolkit -> the simulator's application. Norms of others cannot be played."""
SENDS = {
    "MessengerSendMessage": ("Messenger", "send_message"),
    "GmailSendEmail": ("Gmail", "send_email"),
    "FacebookManagerCreatePost": ("Facebook", "create_post"),
}
"""PrivacyLens' final action -> (application, function) of the simulator."""
GROUP_CHAT = "group chat"
SHUFFLE_SEED = 55
FIRST_ID = 100
"""Of the published configs made from the shuffled norms; lower numbers come from an earlier work."""


@dataclass(frozen=True, slots=True)
class Norm:
    """One item. id: "example_N" as the published configs have it, N counting the shuffled items. applications: where its data is kept
    and told; told_with: (application, function) of the action that may leak."""

    id: str
    name: str
    seed: Mapping[str, str]
    vignette: Mapping[str, str]
    sensitive: tuple[str, ...]
    applications: tuple[str, ...]
    told_with: tuple[str, str]


def read_norms(path: Path, seed: int = SHUFFLE_SEED) -> tuple[Norm, ...]:
    """The playable norms of `main_data.json` in shuffled order: of the three applications alone, between single people.

    Raises DataError, naming the file and the item, where it is no such data.
    """
    try:
        items = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: cannot be read as PrivacyLens' main data ({error}): give its main_data.json."
        ) from error
    if not isinstance(items, list) or not items:
        raise DataError(f"{path}: holds no list of norms: give PrivacyLens' main_data.json.")
    random.Random(seed).shuffle(items)
    norms = []
    for place, item in enumerate(items):
        try:
            if _playable(item):
                norms.append(_norm(FIRST_ID + place, item))
        except (KeyError, TypeError, AttributeError) as error:
            name = item.get("name", place) if isinstance(item, dict) else place
            raise DataError(
                f"{path}: item {name!r} lacks {error}: give PrivacyLens' main_data.json unchanged."
            ) from error
    return tuple(norms)


def _playable(item: Mapping[str, Any]) -> bool:
    trajectory: Sequence[str] = item["trajectory"]["toolkits"]
    return set(trajectory) <= set(APPLICATIONS) and GROUP_CHAT not in item["seed"]["transmission_principle"].lower()


def _norm(number: int, item: Mapping[str, Any]) -> Norm:
    trajectory = item["trajectory"]
    names = ("data_type", "data_subject", "data_sender", "data_sender_name", "data_recipient", "transmission_principle")
    return Norm(
        id=f"example_{number}",
        name=item["name"],
        seed={name: item["seed"][name] for name in names},
        vignette=dict(item["vignette"]),
        sensitive=tuple(trajectory["sensitive_info_items"]),
        applications=tuple(APPLICATIONS[toolkit] for toolkit in trajectory["toolkits"]),
        told_with=SENDS[trajectory["final_action"]],
    )
