"""A copy of the run's folder on any file system that fsspec knows: made at every checkpoint and at the end, by the driver.

Only files that changed are sent. `checkpoints/LATEST` is written after all that it stands for, and what is gone here goes there
after that, so that the copy can be resumed from at any moment. What fails here costs the copy, never the run.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError, RunError
from orchestrator.records.folder import RunFolder, read_json, write_json

MANIFEST = "mirror.json"
"""What the copy holds, written last: path -> [bytes, time of change here]."""
LATEST = "checkpoints/LATEST"
LEFT_OUT = (".lock", "stop")
POLL_S = 1.0
WAITS_S = (1.0, 5.0, 20.0)
"""Between attempts at one copy."""
_logger = logging.getLogger("orchestrator")

State = dict[str, list[int]]


def open_url(url: str) -> tuple[Any, str]:
    """(file system, path in it) of a URL. Raises ConfigError where fsspec does not know it or lacks its package."""
    import fsspec

    try:
        found: tuple[Any, str] = fsspec.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"mirror={url}: cannot be used ({' '.join(str(error).split())}).") from error
    return found


def check_mirror(url: str | None) -> None:
    """Raises ConfigError for a URL that no copy can ever be made to."""
    if url is not None:
        if "://" not in url:
            raise ConfigError(f"mirror={url}: is no URL. Write s3://BUCKET/runs, gs://BUCKET/runs, or file:///FOLDER.")
        open_url(url)


class Mirror:
    """Copies a run's folder in a thread of its own whenever there is a new checkpoint. url None copies nothing.

    The run lies in `url/WORKLOAD/NAME`.
    """

    def __init__(self, url: str | None, folder: RunFolder) -> None:
        self.failure: str | None = None
        self._folder = folder
        self._ending = threading.Event()
        self._sent: State | None = None
        self._thread: threading.Thread | None = None
        if url is not None:
            self._url = f"{url.rstrip('/')}/{folder.workload}/{folder.name}"
            self._thread = threading.Thread(target=self._watch, name="mirror", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Copy what changed since the last time, and say in the summary where that fails. May be called again."""
        if self._thread is None:
            return
        self._ending.set()
        self._thread.join()
        self._copy()
        if self.failure and self._folder.summary.exists():
            told = {"mirror": {"url": self._url, "failure": self.failure}}
            write_json(self._folder.summary, read_json(self._folder.summary) | told)

    def _watch(self) -> None:
        seen = None
        while not self._ending.wait(POLL_S):
            newest = _content(self._folder.path / LATEST)
            if newest != seen:
                seen = newest
                self._copy()

    def _copy(self) -> None:
        """Try until it works, or WAITS_S is used up; then the next checkpoint is the next chance."""
        for wait in (*WAITS_S, None):
            try:
                self._send()
            # Each file system has exceptions of its own, and none of them may end the run.
            except Exception as error:
                self.failure = f"{type(error).__name__}: {error}"
                if wait is not None:
                    time.sleep(wait)
                    continue
                _logger.warning(
                    "mirror=%s failed (%s); the run goes on, and everything is in %s",
                    self._url,
                    self.failure,
                    self._folder.path,
                )
            else:
                self.failure = None
                return

    def _send(self) -> None:
        system, root = open_url(self._url)
        if self._sent is None:
            self._sent = (
                json.loads(system.cat_file(f"{root}/{MANIFEST}")) if system.exists(f"{root}/{MANIFEST}") else {}
            )
        newest = _content(self._folder.path / LATEST)
        there = state_of(self._folder.path)
        for name, state in there.items():
            if self._sent.get(name) == state:
                continue
            try:
                _put(system, self._folder.path / name, f"{root}/{name}")
            except FileNotFoundError:
                # The learner removed an old checkpoint meanwhile. The newest must be whole: the next attempt finds another.
                if newest and name.startswith(f"checkpoints/{newest}/"):
                    raise
                continue
            self._sent[name] = state
        if newest:
            system.makedirs(f"{root}/checkpoints", exist_ok=True)
            system.pipe_file(f"{root}/{LATEST}", newest.encode())
        for name in self._sent.keys() - there.keys():
            if system.exists(f"{root}/{name}"):
                system.rm_file(f"{root}/{name}")
            del self._sent[name]
        system.pipe_file(f"{root}/{MANIFEST}", json.dumps(self._sent).encode())


def _content(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return None


def _put(system: Any, path: Path, target: str) -> None:
    system.makedirs(target.rpartition("/")[0], exist_ok=True)
    system.put_file(str(path), target)


def state_of(folder: Path) -> State:
    """Every file that is copied, LATEST aside: path in the folder -> [bytes, time of change]. Half-written ones are hidden."""
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in _files(folder)}


def _files(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.name in LEFT_OUT or str(name) == LATEST or any(part.startswith(".") for part in name.parts):
            continue
        try:
            if path.is_file():
                yield str(name), path.stat()
        except FileNotFoundError:  # gone since it was listed
            continue


def fetch(url: str, storage: Path) -> Path:
    """Bring a mirrored run back into a folder of runs. Returns its folder there.

    url: of the run itself, `…/WORKLOAD/NAME`. Raises ConfigError where there is none, or it is here already.
    """
    system, root = open_url(url.rstrip("/"))
    workload, name = root.rstrip("/").split("/")[-2:]
    target = storage / workload / name
    if target.exists():
        raise ConfigError(f"--resume {url}: {target} is here already. Resume it by its name ({name}), or move it away.")
    try:
        if not system.exists(f"{root}/{MANIFEST}"):
            raise ConfigError(
                f"--resume {url}: there is no mirrored run (no {MANIFEST}). Name it as URL/WORKLOAD/NAME."
            )
        temporary = target.with_name(f".{name}.fetched")
        shutil.rmtree(temporary, ignore_errors=True)
        for path in (*json.loads(system.cat_file(f"{root}/{MANIFEST}")), LATEST):
            if path == LATEST and not system.exists(f"{root}/{path}"):
                continue
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            system.get_file(f"{root}/{path}", str(temporary / path))
    except OSError as error:
        raise RunError(f"--resume {url}: cannot be fetched ({type(error).__name__}: {error}).") from error
    temporary.rename(target)
    return target
