"""What others said about the licence of a base model or of data. Read where it is on this machine, never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.records.folder import read_json

KEYS = ("license", "license_name", "license_link")
"""Where the front matter of a card of the hub says it; all but the first belong to `license: other`."""


def licence_of_model(reference: str) -> dict[str, str]:
    """What the card or the config.json of a model says, by `KEYS`; {} where that is not known. Only `hf:` and `path:` have any."""
    kind, _, value = reference.partition(":")
    if kind == "path":
        folder = Path(value).expanduser()
        config = folder / "config.json"
        return _of_card(folder / "README.md") or (_only(read_json(config)) if config.is_file() else {})
    return _of_card(fetched(value, "README.md", "model")) if kind == "hf" else {}


def licence_of_data(path: str | None) -> dict[str, str]:
    """The same of data: a folder with a card, or a data set of the hub."""
    if path is None:
        return {}
    if path.startswith("hf:"):
        return _of_card(fetched(path.removeprefix("hf:"), "README.md", "dataset"))
    found = Path(path)
    return _of_card((found if found.is_dir() else found.parent) / "README.md")


def fetched(hub_id: str, name: str, kind: str) -> Path | None:
    """A file that an earlier download left behind. kind: "model" or "dataset"."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(hub_id, name, repo_type=kind)
    except HFValidationError:  # no id of the hub, so nothing was fetched
        return None
    return Path(path) if isinstance(path, str) else None


def _of_card(path: Path | None) -> dict[str, str]:
    from huggingface_hub import metadata_load
    from yaml import YAMLError

    if path is None or not path.is_file():
        return {}
    try:
        return _only(metadata_load(path) or {})
    except (YAMLError, ValueError):  # a README like any other
        return {}


def _only(said: Mapping[str, Any]) -> dict[str, str]:
    return {key: said[key] for key in KEYS if isinstance(said.get(key), str)} if "license" in said else {}
