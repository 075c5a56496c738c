"""A run's key: what decides its results, as ten digits. What is stored under a key need not be done again."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path

from orchestrator.config.functions import files_of
from orchestrator.config.keys import keys_of, values_of
from orchestrator.config.references import ModelReference, find_run
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.learning.starting import content_of
from orchestrator.records.folder import RunFolder, read_json, step_of
from orchestrator.sweep.journal import FINISHED

FORMAT = 2
"""Of keys. Another one where settings came to mean something else: then nothing that was stored is found."""

_RUN_OF_A_SWEEP = re.compile(r"run:(?:[^@]*[-/])?([0-9a-f]{10})(@.*)?")


def key_of(config: RunConfig) -> str:
    """Ten hexadecimal digits of all that decides a run's results.

    Files of one's own and folders of models count by their content, wherever they lie; a run of a sweep that is referred to counts by
    its key, whatever it is named, and the newest checkpoint of another one by its step. A model of the hub counts by its id. Raises
    ConfigError where a file cannot be read.
    """
    digests, keys = files_of(config), keys_of(type(config))
    content = {
        name: _by_content(value, digests, config.storage)
        for name, value in values_of(config).items()
        if not keys[name].is_indifferent
    }
    text = json.dumps({"format": FORMAT, **content}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _by_content(value: object, digests: dict[str, str], storage: str) -> object:
    """A value with paths (also those of functions, `path:function`) and references to models replaced by what is there."""
    if not isinstance(value, str):
        return value
    if run := _RUN_OF_A_SWEEP.fullmatch(value):
        return f"run:{run[1]}{run[2] or ''}"
    parts = value.split(",")
    if len(parts) > 1 and any(part.startswith(("path:", "run:")) for part in parts):  # several models
        return ",".join(str(_by_content(part, digests, storage)) for part in parts)
    if value.startswith(("path:", "run:")):
        return _model(ModelReference.parse(value), storage)
    path, colon, function = value.rpartition(":")
    if path in digests:
        return f"{digests[path]}{colon}{function}"
    return digests.get(value, value)


def _model(reference: ModelReference, storage: str) -> str:
    """What a reference to a folder or a run stands for now; the reference itself where that is not there yet."""
    if reference.kind == "path":
        folder = Path(reference.value).expanduser().resolve()
        files = [(path.name, path.stat()) for path in sorted(folder.glob("*"))]
        stamp = tuple((name, found.st_size, found.st_mtime_ns) for name, found in files)
        return f"path:{_content(str(folder), stamp)}" if folder.is_dir() else str(reference)
    if reference.step is not None or reference.role:
        return str(reference)
    try:
        newest = RunFolder(find_run(reference.value, storage)).newest_checkpoint()
    except ConfigError:  # the run is still to come
        newest = None
    return f"{reference}@{step_of(newest)}" if newest else str(reference)


@lru_cache(maxsize=64)
def _content(folder: str, stamp: tuple[tuple[str, int, int], ...]) -> str:
    """Read once for all runs of a sweep: weights are large. stamp: of the files; another one where they were changed."""
    return content_of(folder)


def find_by_key(storage: str | Path, key: str) -> RunFolder | None:
    """The stored run with this key, finished or not, whichever sweep began it; None where there is none."""
    found = sorted(Path(storage).expanduser().glob(f"*/*-{key}/config.yaml"))
    return RunFolder(found[0].parent) if found else None


def is_finished(folder: RunFolder) -> bool:
    """Whether a run did all of its steps and has nothing more to write; its summary may have been lost with its process."""
    if folder.summary.is_file():
        return bool(read_json(folder.summary)["status"] == FINISHED)
    newest, steps = folder.newest_checkpoint(), folder.settings()["steps"]
    return newest is not None and step_of(newest) >= steps > 0
