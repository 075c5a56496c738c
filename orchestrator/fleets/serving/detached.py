"""An owner that outlives the terminal: started in a session of its own, and followed until its service is up."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from orchestrator.errors import RunError
from orchestrator.fleets.serving.folder import STARTING, ServiceFolder
from orchestrator.records.log import lines

TAIL = 2000
"""How many characters of what it wrote are shown where it ends at once."""


def start(folder: ServiceFolder, words: Sequence[str]) -> Iterator[str]:
    """Start `orchestrate` with these words in the background, and give what it says until the service is up.

    Raises RunError where it ends before.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    begin = folder.log.stat().st_size if folder.log.is_file() else 0
    folder.log.touch()
    with folder.output.open("w") as output:
        owner = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *words],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    yield f"process {owner.pid} owns {folder.name}; it goes on without this terminal"

    def goes_on() -> bool:
        state = folder.read()
        return owner.poll() is None and (state is None or state.pid != owner.pid or state.status == STARTING)

    yield from lines(folder.log, goes_on, begin)
    if owner.poll() is not None:
        raise RunError(f"{folder.name} did not come up:\n{folder.output.read_text()[-TAIL:].strip()}")


def end(folder: ServiceFolder, patience_s: float) -> bool:
    """Ask the owner to end and wait for it. Returns whether it has."""
    folder.stop.touch()
    deadline = time.monotonic() + patience_s
    while folder.is_owned() and time.monotonic() < deadline:
        time.sleep(0.2)
    return not folder.is_owned()
