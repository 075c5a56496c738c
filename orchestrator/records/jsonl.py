"""Logs of JSON lines that survive a crash of their writer and can be followed while they grow.

A line counts once its newline is there. A writer that opens a log first cuts off what a crash left half-written, and a
reader leaves it alone. JSON has no NaN: not-a-number and the infinities travel as the strings "NaN", "Infinity" and
"-Infinity" and are floats again after reading.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def encode(value: Mapping[str, Any], indent: int | None = None) -> str:
    """Strict JSON of one object."""
    return json.dumps(_strict(value), ensure_ascii=False, allow_nan=False, indent=indent)


def decode(text: str | bytes) -> dict[str, Any]:
    """The object that `encode` wrote."""
    return _loose(json.loads(text))


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    if isinstance(value, Mapping):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def _loose(value: Any) -> Any:
    if isinstance(value, str):
        return _SPECIAL.get(value, value)
    if isinstance(value, dict):
        return {key: _loose(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_loose(item) for item in value]
    return value


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; [] where there is no file. Raises ValueError for a damaged line that is not the last."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_decode_line(path, number, line) for number, line in enumerate(lines, 1)]


def _decode_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        return decode(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {number} is damaged ({error}): remove that line and read again") from None


class LineLog:
    """Writer of one log. Each line is one write that reaches the operating system before `append` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        if path.exists():
            whole = path.read_bytes().rfind(b"\n") + 1
            if whole < path.stat().st_size:
                os.truncate(path, whole)

    def append(self, value: Mapping[str, Any]) -> None:
        """Add one line. Opened anew each time: `drop_after` of another process may have replaced the file."""
        line = (encode(value) + "\n").encode()
        with self.path.open("ab", buffering=0) as file:
            file.write(line)


class Follower:
    """Reads what was added to a log since the last look, from another process than its writer.

    When the log is replaced by a shorter one (`MetricsLog.drop_after`), the lines that both have in common are not
    given again.
    """

    def __init__(self, path: Path, from_offset: int = 0) -> None:
        """from_offset: bytes to skip; they must end with a line."""
        self.path = path
        self.offset = from_offset
        before = path.read_bytes()[:from_offset] if from_offset else b""
        self._seen = [hash(line) for line in before.split(b"\n")[:-1]]
        self._inode: int | None = path.stat().st_ino if path.exists() else None

    def new(self) -> list[dict[str, Any]]:
        """The rows added since the last call; [] where there are none or no file yet."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return []
        with file:
            status = os.fstat(file.fileno())
            replaced = self._inode not in (None, status.st_ino) or status.st_size < self.offset
            self._inode = status.st_ino
            file.seek(0 if replaced else self.offset)
            content = file.read()
        lines = content.split(b"\n")[:-1]
        if replaced:
            common = 0
            while common < min(len(lines), len(self._seen)) and hash(lines[common]) == self._seen[common]:
                common += 1
            del self._seen[common:]
            self.offset = sum(len(line) + 1 for line in lines[:common])
            lines = lines[common:]
        rows = [_decode_line(self.path, len(self._seen) + number, line) for number, line in enumerate(lines, 1)]
        self._seen += [hash(line) for line in lines]
        self.offset += sum(len(line) + 1 for line in lines)
        return rows
