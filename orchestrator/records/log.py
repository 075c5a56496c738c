"""What a process of many stages says, kept in a text file and read from there by anyone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

POLL_S = 0.5


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """What is said in the block is kept in a file too, each line with its time."""
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%m-%d %H:%M:%S"))
    log = logging.getLogger("orchestrator")
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def lines(path: Path, goes_on: Callable[[], bool], start: int = 0) -> Iterator[str]:
    """The lines of such a file, and those to come as long as `goes_on`. start: the byte to begin at."""
    if not path.is_file():
        return
    with path.open() as file:
        file.seek(start)
        while True:
            more = goes_on()
            yield from (line.rstrip("\n") for line in file)
            if not more:
                return
            time.sleep(POLL_S)
