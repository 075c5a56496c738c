"""A run's key: what decides its results, as ten digits. What is stored under a key need not be done again."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from orchestrator.config.functions import files_of
from orchestrator.config.keys import values_of
from orchestrator.config.schema import RunConfig
from orchestrator.records.folder import RunFolder

FORMAT = 1
"""Of keys. Another one where settings came to mean something else: then nothing that was stored is found."""

INDIFFERENT = ("name", "storage", "tracking.", "cluster.", "limits.exposed_wait_notice_s")
"""Settings, and groups of them, that change no result."""

_RUN_OF_A_SWEEP = re.compile(r"run:(?:[^@]*[-/])?([0-9a-f]{10})(@.*)?")


def key_of(config: RunConfig) -> str:
    """Ten hexadecimal digits of all that decides a run's results.

    Files of one's own count by their content, wherever they lie; a run of a sweep that is referred to counts by its key, whatever
    it is named. Raises ConfigError where a file cannot be read.
    """
    digests = files_of(config)
    values = {name: value for name, value in values_of(config).items() if not name.startswith(INDIFFERENT)}
    content = {name: _by_content(value, digests) for name, value in values.items()}
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _by_content(value: object, digests: dict[str, str]) -> object:
    """A value with paths (also those of functions, `path:function`) and references to runs replaced by what is there."""
    if not isinstance(value, str):
        return value
    if run := _RUN_OF_A_SWEEP.fullmatch(value):
        return f"run:{run[1]}{run[2] or ''}"
    path, colon, function = value.rpartition(":")
    if path in digests:
        return f"{digests[path]}{colon}{function}"
    return digests.get(value, value)


def find_by_key(storage: str | Path, key: str) -> RunFolder | None:
    """The stored run with this key, finished or not, whichever sweep began it; None where there is none."""
    found = sorted(Path(storage).expanduser().glob(f"*/*-{key}/config.yaml"))
    return RunFolder(found[0].parent) if found else None
