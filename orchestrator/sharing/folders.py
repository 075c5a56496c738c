"""Folders that are handed on: whole or not at all, and without passwords."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.errors import RunError
from orchestrator.records.folder import fsync

PASSWORD = re.compile(
    r"""://(?:[^/\s@"]+|[^/\s@":]*:[^\s@"]+)@|[?&][\w-]*(?:api[_-]?key|token|sig|signature|secret|password)=[^&\s"]""",
    re.IGNORECASE,
)
"""USER:PASSWORD@ in a URL, or a key in its query: where a setting may hold a secret. Of a service's key it has but the variable's
name. A password may hold a slash, so an @ behind a port and a path is taken for one: better refused than published."""
TEXTS = (".yaml", ".json", ".jsonl", "")


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` that takes its name when the block ends well, and goes when it does not.

    Raises RunError where the disk takes no more.
    """
    folder = folder.absolute()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for path in temporary.rglob("*"):
            fsync(path)
        fsync(temporary)
        temporary.rename(folder)
        fsync(folder.parent)
    except OSError as error:
        raise RunError(
            f"{folder} cannot be written ({error}). Make room there, or name another folder with --to."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_no_secrets(files: Iterable[Path]) -> None:
    """Look at the settings and logs among files that are about to leave. Raises RunError that names lines with a password."""
    found = [
        f"{path}, line {number}"
        for path in files
        if path.suffix in TEXTS
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if PASSWORD.search(line)
    ]
    if found:
        raise RunError(
            f"{'; '.join(found)}: a URL with a password in it, which would leave this machine. Take it out of the file, and change the "
            "password where it is used."
        )
