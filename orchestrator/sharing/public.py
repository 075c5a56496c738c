"""What is known of a model as strangers may read it: without the folders of this machine or the addresses of its servers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

REFERENCES = ("path:", "run:")
"""How a reference begins that may name a folder."""


def public(value: Any) -> Any:
    """A provenance, or a part of it: of an absolute path its last name alone, and of a URL that it is one."""
    if isinstance(value, Mapping):
        return {name: public(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [public(item) for item in value]
    if not isinstance(value, str):
        return value
    if value.startswith(("http://", "https://")):
        return "a server at a URL"
    kind = next((kind for kind in REFERENCES if value.startswith(kind)), "")
    path = value.removeprefix(kind)
    return f"{kind}{Path(path).name}" if path.startswith(("/", "~")) else value


def shown(value: Any) -> str:
    """The same as text."""
    return str(public(value))
