"""The folder of one run: where everything lies, and how a file gets there whole.

runs/<workload>/<name>/
    config.yaml        resolved settings with versions; can be run again as it is
    metrics.jsonl      one row a step while the run goes on;  metrics.parquet once it is compacted
    events.jsonl       announcements and progress on their way to the display
    episodes/          one Parquet file a step and split
    checkpoints/       resumable states;  LATEST names the newest
    ledger.jsonl       seconds a phase;  ledger.parquet once it is compacted
    models.json        the model that each role began RL with: a folder (under the storage where it was taught) or a hub id
    labels.jsonl       what was gathered of other models before anything was taught, a row an answer
    contamination.json what of the training data stands in evaluation data, and what of it was dropped
    trained_on.json    the texts that the run and those before it were trained on, as they are compared
    answers.jsonl      what an evaluation was answered before it ended
    judge.json         how well the judge was taught; of any other rater ROLE.json
    summary.json       the numbers of the finished run
    report.html        the run as one page;  plots/  its pictures as PNG
    wandb/             W&B's own files;  tracking.json remembers its run id and last step
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from omegaconf import OmegaConf

from orchestrator.config.checks import RUN_NAME
from orchestrator.errors import ConfigError, RunError
from orchestrator.records import jsonl
from orchestrator.records.versions import versions
from orchestrator.values import JUDGE

FORMAT = 1
"""Version of the run folder. A reader accepts its own version and every older one."""


class RunExistsError(RunError, FileExistsError):
    """A run of this name is there already."""


class NoRunError(RunError, FileNotFoundError):
    """A folder is not a run's."""


_held: dict[Path, IO[str]] = {}
"""Locks of this process, by folder; the system frees them when it ends, however it ends."""

PINNED = "pinned"
"""A file in a checkpoint's folder that keeps it, however many newer ones there are."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside a run's folder. Making one touches no disk; `create` and `open` do."""

    path: Path

    def __init__(self, path: str | Path) -> None:
        object.__setattr__(self, "path", Path(path))

    @classmethod
    def create(cls, storage: str | Path, workload: str, name: str, config: object) -> RunFolder:
        """Make the folder of a new run and write its config.yaml.

        config: anything OmegaConf reads (a dataclass, a DictConfig, a mapping).
        Raises ConfigError for a name that is not one path component, RunExistsError where the run exists.
        """
        for what, value in (("workload", workload), ("name", name)):
            if not RUN_NAME.fullmatch(value):
                raise ConfigError(
                    f"{what}={value!r} cannot name a run folder: use letters, digits and . _ + = , - without a path "
                    "(the folder that holds all runs is set with storage=FOLDER)"
                )
        folder = cls(Path(storage) / workload / name)
        try:
            folder.path.mkdir(parents=True)
        except FileExistsError:
            raise RunExistsError(
                f"the run {workload}/{name} exists already in {folder.path}: "
                "choose another name with name=…, or remove that folder"
            ) from None
        for part in (folder.episodes, folder.checkpoints, folder.plots):
            part.mkdir()
        content = plain(config) | {"versions": versions(), "format": FORMAT}
        atomic_write(folder.config, OmegaConf.to_yaml(OmegaConf.create(content)))
        return folder

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run. Raises NoRunError where there is none, ConfigError for a newer format."""
        folder = cls(path)
        if not folder.config.is_file():
            raise NoRunError(f"{folder.path} is not a run: it holds no config.yaml (`orchestrate list` names all)")
        written = folder.settings().get("format", FORMAT)
        if written > FORMAT:
            raise ConfigError(
                f"{folder.config} has format {written}, this version reads up to {FORMAT}: update orchestrator"
            )
        return folder

    def running(self) -> bool:
        """Whether a process, this one or another, works on the run."""
        return is_taken(self.path)

    def begin(self) -> None:
        """Take the folder for this process and clear what the run's last end left there.

        Raises RunError where another process runs it: two writers would spoil each other's records.
        """
        if not take(self.path):
            raise RunError(f"{self.path} is being run by another process. Wait for it, or stop it first.")
        for path in (self.stop, self.summary):
            path.unlink(missing_ok=True)

    def end(self) -> None:
        """Give the folder back: this process is done with it."""
        give_back(self.path)

    def change_setting(self, key: str, value: Any) -> None:
        """Set one top-level setting in config.yaml."""
        atomic_write(self.config, OmegaConf.to_yaml(OmegaConf.create(self.settings() | {key: value})))

    def settings(self) -> dict[str, Any]:
        """config.yaml as plain data: all settings, `versions` and `format`."""
        return plain(OmegaConf.load(self.config))

    def newest_checkpoint(self) -> Path | None:
        """The checkpoint that LATEST names, the newest that is whole; None where there is none.

        Not the one of the highest step: a run that went back to an older one may still hold later ones of its former course.
        """
        marker = self.checkpoints / "LATEST"
        newest = self.checkpoints / marker.read_text().strip() if marker.is_file() else None
        return newest if newest and newest != self.checkpoints and newest.is_dir() else None

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def workload(self) -> str:
        return self.path.parent.name

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics_log(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def metrics_parquet(self) -> Path:
        return self.path / "metrics.parquet"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def episodes(self) -> Path:
        return self.path / "episodes"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def ledger_log(self) -> Path:
        return self.path / "ledger.jsonl"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.parquet"

    @property
    def models(self) -> Path:
        return self.path / "models.json"

    @property
    def labels(self) -> Path:
        return self.path / "labels.jsonl"

    @property
    def trained_on(self) -> Path:
        return self.path / "trained_on.json"

    @property
    def contamination(self) -> Path:
        return self.path / "contamination.json"

    @property
    def answers(self) -> Path:
        return self.path / "answers.jsonl"

    def exam(self, role: str) -> Path:
        """How well a rater does on held-out data."""
        return self.path / f"{role}.json"

    @property
    def judge(self) -> Path:
        return self.exam(JUDGE)

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    @property
    def stop(self) -> Path:
        """A file that asks the run to end after the step it is in."""
        return self.path / "stop"

    @property
    def wandb(self) -> Path:
        return self.path / "wandb"

    @property
    def tracking(self) -> Path:
        return self.path / "tracking.json"


def take(folder: Path, patience_s: float = 1.0) -> bool:
    """Lock a folder for this process, until it gives it back or ends. Returns whether it was free.

    patience_s: for how long it is tried, since `is_taken` locks it too while it looks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / ".lock").open("w")
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                lock.close()
                return False
            time.sleep(0.02)
        else:
            _held[folder.resolve()] = lock
            return True


def give_back(folder: Path) -> None:
    """Unlock a folder that this process has taken."""
    _held.pop(folder.resolve()).close()


def is_taken(folder: Path) -> bool:
    """Whether a process, this one or another, has taken a folder."""
    lock = folder / ".lock"
    if not lock.is_file():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def unwritable(folder: Path) -> str | None:
    """Why nothing can be written to a folder, which need not exist yet; None where it can. Leaves nothing behind."""
    there = nearest(folder)
    if not there.is_dir():
        return f"{there} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x")
            file.flush()
    except OSError as error:
        return f"{there} cannot be written ({error.strerror})"
    return None


def nearest(folder: Path) -> Path:
    """The folder itself or the closest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def check_storage(storage: str) -> None:
    """Raises ConfigError where no run can be written."""
    problem = unwritable(Path(storage))
    if problem:
        raise ConfigError(f"storage={storage}: {problem}. Name a folder that can be written: storage=FOLDER.")


def plain(config: object) -> dict[str, Any]:
    """Resolved settings as plain data, from anything OmegaConf reads."""
    content = OmegaConf.to_container(OmegaConf.create(config), resolve=True)  # type: ignore[call-overload]
    if not isinstance(content, dict):
        raise TypeError(f"a configuration is a mapping, this is a {type(content).__name__}")
    return {str(key): value for key, value in content.items()}


def step_name(step: int) -> str:
    """The name of a checkpoint's folder."""
    return f"step-{step:06d}"


def step_of(checkpoint: Path) -> int:
    """The inverse of `step_name`."""
    return int(checkpoint.name.removeprefix("step-"))


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and goes when it does not.

    Readers see the old file or the new one, never half of one, also after a power cut (fsync of file and folder).
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        fsync(temporary)
        temporary.replace(path)
        fsync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a whole file at once."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object at once. NaN and infinities become the strings that `read_json` turns back."""
    atomic_write(path, jsonl.encode(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote."""
    return jsonl.decode(path.read_bytes())


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """What was written to a file, or renamed in a folder, outlasts a power cut from here on."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
