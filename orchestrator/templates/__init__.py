"""Starting files for code of one's own, which `orchestrate new` copies. Each runs as it stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.checks import RUN_NAME
from orchestrator.errors import ConfigError

KINDS = ("workload", "reward", "environment")
"""Each is a file of this folder, in which its own name stands wherever the new file's shall stand."""


@dataclass(frozen=True, slots=True)
class Started:
    """A file that was written, and the command that trains with it."""

    path: Path
    command: str


def start_file(name: str, kind: str) -> Started:
    """Write NAME.py into the current folder, or where NAME says. Raises ConfigError for a bad name or kind, or a file that is there."""
    if kind not in KINDS:
        raise ConfigError(f"--kind {kind}: there are {', '.join(KINDS)}.")
    path = Path(name.removesuffix(".py") + ".py").expanduser()
    if not RUN_NAME.fullmatch(path.stem):
        raise ConfigError(f"{name}: a file is named with letters, digits and . _ + = , -, for example my_{kind}.")
    text = (Path(__file__).parent / f"{kind}.py").read_text(encoding="utf-8").replace(f"{kind}.py", str(path))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{path} is there already: choose another name, or remove it.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}).") from error
    target = f"rlvr reward={path}:reward" if kind == "reward" else str(path)
    return Started(path, f"orchestrate train {target} steps=5")
