"""Code of one's own: loading a Python file, and saying where in it something went wrong. Imports no framework."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from types import ModuleType

from orchestrator.errors import ConfigError, RunError

LONGEST = 300
"""Characters of an error's own words that a message repeats."""


def load_module(path: Path, content: bytes | None = None) -> ModuleType:
    """The file as a module; modules beside it can be imported by their name.

    content: what is run in place of what the file holds now. Raises ConfigError that names file and line.
    """
    content = path.read_bytes() if content is None else content
    # Named by content: one file is loaded once, dataclasses find their module, and an edited file is loaded anew.
    name = f"own_{path.stem}_{hashlib.sha256(str(path).encode() + content).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    # At the end: a file of one's own must not stand in for an installed package of the same name.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ConfigError(f"{shown_path(path)}: this file cannot be loaded as Python.")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        # Not by the spec's loader, whose cache beside the file knows an edited one only by size and second.
        exec(compile(content, str(path), "exec"), module.__dict__)
    # Whatever a file does while it is loaded; `sys.exit` there must not end the program without a word.
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{shown_path(path)} cannot be loaded: {described(error, path.parent)}.") from error
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def own_code(what: str, owner: object) -> Iterator[None]:
    """Turns what goes wrong in the block into a ConfigError that names `what`, the file and the line.

    owner: an object or a class whose file and neighbours count as one's own. A RunError passes as it is.
    """
    try:
        yield
    except RunError:
        raise
    # Code of one's own may raise anything; the cause keeps the traceback.
    except Exception as error:
        raise ConfigError(f"{what}: {described(error, folder_of(owner))}.") from error


def described(error: BaseException, folder: Path) -> str:
    """An error in one line: `ValueError: no answer (reward.py:12)`, with the innermost place that is in the folder."""
    told = error.msg if isinstance(error, SyntaxError) else (str(error).strip().splitlines() or [""])[0]
    words = f"{type(error).__name__}: {told[:LONGEST]}" if told else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{words} ({shown_path(Path(error.filename))}:{error.lineno})"
    places = [(frame.f_code.co_filename, line) for frame, line in walk_tb(error.__traceback__)]
    own = [place for place in places if Path(place[0]).is_relative_to(folder) and "site-packages" not in place[0]]
    for file, line in (own or places)[-1:]:
        return f"{words} ({shown_path(Path(file))}:{line})"
    return words


def folder_of(owner: object) -> Path:
    """The folder of the file that an object's class, or a class, is written in."""
    module = sys.modules.get((owner if isinstance(owner, type) else type(owner)).__module__)
    return Path(getattr(module, "__file__", None) or "/").parent


def shown_path(path: Path) -> str:
    """The path as a user would type it: relative to the current folder where it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)
