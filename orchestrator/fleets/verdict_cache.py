"""What a rater has answered, kept in a file: the same question for the same purpose is not put to the same model twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.values import Answer, Call, Choice, Fault, Score, Turn

LARGEST_BYTES = 4 * 2**30
"""Of the file: some thirty million verdicts. Beyond it nothing more is kept; what is there is still found."""
LOCKED_S = 5.0
"""How long another process that holds the file is waited for: a manager that is about to end."""

TABLE = "CREATE TABLE IF NOT EXISTS verdicts (key BLOB PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID"


class VerdictCache:
    """SQLite, held by one process alone, in one thread. A fault is never kept.

    model: key of the weights, their template, precision and context. tell: is given a line where the file cannot be used; then all
    goes on without it, because a cache must not end a run.
    """

    def __init__(self, path: Path, model: str, tell: Callable[[str], None]) -> None:
        self._path, self._model, self._tell = path, model, tell
        self._file: sqlite3.Connection | None = None
        self._full = False
        self.problem = ""
        """Why the file is not used."""

    def open(self) -> None:
        """Make or open the file."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(self._path, timeout=LOCKED_S)
            # Held by one process alone, WAL needs no shared memory, which network file systems do not have.
            self._file.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            (page,) = self._file.execute("PRAGMA page_size").fetchone()
            self._file.execute(f"PRAGMA max_page_count={LARGEST_BYTES // page}")
            with self._file:
                self._file.execute(TABLE)
        except (OSError, sqlite3.Error) as error:
            self._go_without(error)

    def find(self, purpose: str, calls: Sequence[Call]) -> list[Answer | None]:
        """The answer to each call that was kept for this purpose, None where there is none."""
        if self._file is None:
            return [None] * len(calls)
        found: list[Answer | None] = []
        try:
            for call in calls:
                row = self._file.execute("SELECT answer FROM verdicts WHERE key = ?", (self._key(purpose, call),))
                told = row.fetchone()
                found.append(read(json.loads(told[0])) if told else None)
        except sqlite3.Error as error:
            self._go_without(error)
            return [None] * len(calls)
        return found

    def keep(self, purpose: str, calls: Sequence[Call], answers: Sequence[Answer]) -> None:
        """Keep what is no fault."""
        if self._file is None or self._full:
            return
        rows = [
            (self._key(purpose, call), json.dumps(written(answer), separators=(",", ":")))
            for call, answer in zip(calls, answers, strict=True)
            if not isinstance(answer, Fault)
        ]
        try:
            with self._file:
                self._file.executemany("INSERT OR IGNORE INTO verdicts VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                self._full = True
                self._tell(f"{self._path} is full: no further verdicts are kept.")
            else:
                self._go_without(error)

    def close(self) -> None:
        """Let others have the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _key(self, purpose: str, call: Call) -> bytes:
        """Probabilities and scalars do not depend on the seed; a sampled answer is that of its seed alone."""
        drawn = [asdict(call.sampling), call.seed] if call.sampling else None
        asked: list[Any] = [self._model, purpose, [dict(message) for message in call.messages], call.choices, drawn]
        # Where there is none the key is that of answers kept before there were schemas.
        asked += [call.schema] if call.schema is not None else []
        return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).digest()

    def _go_without(self, error: Exception) -> None:
        self.close()
        self.problem = (
            f"the rater's pool goes on without its verdicts of before in {self._path} ({error}). Another pool may hold the file; if it "
            "is broken, delete it."
        )
        self._tell(self.problem)


def written(answer: Choice | Score | Turn) -> dict[str, Any]:
    """An answer as plain JSON data."""
    if isinstance(answer, Choice):
        return {"choice": dict(answer.probabilities)}
    return {"score" if isinstance(answer, Score) else "turn": asdict(answer)}


def read(value: Mapping[str, Any]) -> Answer:
    """The inverse of `written`."""
    if "choice" in value:
        return Choice(value["choice"])
    if "score" in value:
        return Score(**value["score"])
    turn: dict[str, Any] = {
        name: tuple(part) if isinstance(part, list) else part for name, part in value["turn"].items()
    }
    return Turn(**turn)
