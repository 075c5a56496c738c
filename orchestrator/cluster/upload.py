"""What a job takes along: the packages of this project, and the files of one's own that its verb names. Nothing else."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orchestrator
import workloads
from orchestrator.config.compose import Composed, trace
from orchestrator.config.functions import functions_of
from orchestrator.config.job import uploaded
from orchestrator.config.keys import files_named, set_at
from orchestrator.config.layers import COMMAND_LINE
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError

MOST_BYTES = 50 * 2**20
"""Ray itself takes more, slowly and into the head's memory; what is larger belongs on a disk that the nodes share."""
LARGEST = 10
OWN = "own"
"""Folder of the upload for the files that are no part of this project."""
KINDS = (".py", ".yaml", ".json", ".jsonl", ".html", ".css", ".js")
"""Files of the packages, by extension."""
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_SECRET_CHARACTERS = 8
_PACKAGES = ("orchestrator", "workloads")


class Parcel:
    """Files of one's own by their place, a path below OWN. Files of one folder stay together."""

    def __init__(self) -> None:
        self.files: dict[str, Path] = {}
        self._folders: list[Path] = []

    def add(self, path: Path) -> str:
        """Take a file with what it imports from beside it, or a folder with all that it holds. Returns its place."""
        path = Path(os.path.abspath(path))
        if path.parent not in self._folders:
            self._folders.append(path.parent)
        place = f"{OWN}/{self._folders.index(path.parent)}/{path.name}"
        if place in self.files:
            return place
        if path.is_dir():
            self.files |= {f"{place}/{file.relative_to(path)}": file for file in visible(path)}
        else:
            self.files[place] = path
            for beside in neighbours(path) if path.suffix == ".py" else ():
                self.add(beside)
        return place

    def digest(self) -> str:
        """Of places and contents."""
        found = hashlib.sha256()
        for place, path in sorted(self.files.items()):
            found.update(f"{place}\0{path.stat().st_size}\0".encode())
            found.update(path.read_bytes())
        return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Upload:
    """files: place -> the file on this machine. words: the verb and what follows it, as the cluster is to read them."""

    files: Mapping[str, Path]
    words: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())

    def write(self, folder: Path) -> None:
        """Copy the files to their places. Raises ConfigError, with the largest files, where they are too many bytes."""
        if self.bytes > MOST_BYTES:
            sizes = sorted(((path.stat().st_size, str(path)) for path in self.files.values()), reverse=True)
            largest = "\n".join(f"  {size / 2**20:8.1f} MiB  {path}" for size, path in sizes[:LARGEST])
            raise ConfigError(
                f"the upload would be {self.bytes / 2**20:.0f} MiB, and {MOST_BYTES // 2**20} are allowed. Put what is large on a disk "
                f"that the nodes share, and name it by its path there. The largest files:\n{largest}"
            )
        copy(self.files, folder)


def copy(files: Mapping[str, Path], folder: Path) -> None:
    """Copy files to their places below a folder."""
    for place, path in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def pack(verb: Sequence[str], rest: Sequence[str], given: Mapping[str, Any], storage: Path | None) -> Upload:
    """The upload of a verb.

    rest: the words after the verb. given: what they mean, by the names of the verb's parameters. storage: the folder of all runs on
    the cluster. The config of `train` is composed and checked here, without looking for what lies on the cluster alone.
    Raises ConfigError for what is wrong with it, for a storage that no other node would find, and for a secret among the words.
    """
    parcel, named = Parcel(), storage or given.get("storage")
    if verb == ["train"] and given["target"] and not (given["resume"] or given["start_from"] or given["replay"]):
        first = [f"storage={named}"] if named else []
        # A range of seeds is a sweep of this run; each seed is as good as another here.
        settings = [word for word in given["overrides"] or [] if not word.startswith("seed=")]
        composed = trace(given["target"], [*first, *settings], elsewhere=True)
        words, named = _train_words(rest, given, composed, parcel), Path(composed.config.storage)
    else:
        words = [_named(word, parcel) for word in rest]
    if "storage" in given and not (named and named.expanduser().is_absolute()):
        raise ConfigError(
            f"storage={named or 'runs'}: the working folder of a job is removed with it. Name a folder that every node of the cluster "
            f"shares, by its whole path: --storage /shared/runs"
        )
    option = ["--storage", str(storage)] if storage and "storage" in given else []
    check_revealing(words, parcel.files.values())
    return Upload(dict(project_files()) | parcel.files, (*verb, *option, *words))


def project_files() -> Iterator[tuple[str, Path]]:
    """(place, file) of the packages, and of the sweeps and pyproject.toml that lie beside them in a checkout."""
    root = Path(orchestrator.__file__).parents[1]
    for package in (Path(orchestrator.__file__).parent, Path(workloads.__file__).parent, root / "sweeps"):
        for path in visible(package) if package.is_dir() else ():
            if path.suffix in KINDS:
                yield f"{package.name}/{path.relative_to(package)}", path
    if (root / "pyproject.toml").is_file():
        yield "pyproject.toml", root / "pyproject.toml"


def visible(folder: Path) -> Iterator[Path]:
    """The files below a folder, without caches and what is hidden."""
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in parts):
            yield path


def neighbours(path: Path) -> Iterator[Path]:
    """What a file of one's own needs from the folder that it lies in: modules that it imports, and its presets."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as Python ({error}).") from error
    for node in ast.walk(tree):
        names = [item.name for item in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in {name.partition(".")[0] for name in names} - set(_PACKAGES):
            if (path.parent / f"{name}.py").is_file():
                yield path.parent / f"{name}.py"
            elif (path.parent / name / "__init__.py").is_file():
                yield path.parent / name
    if (path.parent / path.stem / "presets").is_dir():
        yield path.parent / path.stem


def own_settings(config: RunConfig) -> dict[str, tuple[Path, str]]:
    """The settings that name files of one's own: key -> (path, what follows the path)."""
    found = {key: (function.path, f":{function.name}") for key, function in functions_of(config)}
    found |= {key: (path, "") for key, path in files_named(config).items()}
    return found | ({"workload": (Path(config.workload), "")} if config.workload.endswith(".py") else {})


def _train_words(words: Sequence[str], given: Mapping[str, Any], composed: Composed, parcel: Parcel) -> list[str]:
    """The words of `train`, with every file of one's own at its place in the upload."""
    target = given["target"]
    place = parcel.add(Path(target).expanduser()) if target.endswith((".py", ".yaml", ".yml")) else target
    _check_workload(composed, target, place, parcel)
    moved = {
        key: f"{key}={parcel.add(path)}{rest}"
        for key, (path, rest) in own_settings(composed.config).items()
        if key != "workload" and path.exists() and composed.origins.get(key)
    }
    replaced = {short for key in moved for short in (key, key.removesuffix(".name"))}
    kept = [word for word in words if word.partition("=")[0] not in replaced]
    return [place if word == target else word for word in kept] + list(moved.values())


def _check_workload(composed: Composed, target: str, place: str, parcel: Parcel) -> None:
    """A YAML finds its workload's file beside itself, here and in the upload."""
    workload = composed.config.workload
    if composed.origins["workload"] == COMMAND_LINE or not workload.endswith(".py"):
        return
    if Path(parcel.add(Path(workload))).parent != Path(place).parent:
        raise ConfigError(
            f"{target}: put it and {workload} into one folder; only then are they found on the cluster too."
        )


def _named(word: str, parcel: Parcel) -> str:
    """A word of a verb; a file that it names, alone or as key=FILE or key=FILE.py:function, at its place in the upload."""
    key, equals, value = word.partition("=") if re.match(r"[a-z_.]+=", word) else ("", "", word)
    path, colon, function = value.partition(":") if ".py:" in value else (value, "", "")
    if not os.path.isfile(os.path.expanduser(path)):
        return word
    return f"{key}{equals}{parcel.add(Path(path).expanduser())}{colon}{function}"


def check_revealing(words: Iterable[str], files: Iterable[Path]) -> None:
    """Refuse a command or a file of one's own that holds the value of a secret. Raises ConfigError with the secret's name."""
    secrets = {
        name: value
        for name, value in os.environ.items()
        if _SECRET.search(name) and len(value) >= _SECRET_CHARACTERS and not os.path.exists(value)
    }
    texts = [("the command", " ".join(words).encode()), *((str(path), path.read_bytes()) for path in files)]
    for where, text in texts if secrets else ():
        for name, value in secrets.items():
            if value.encode() in text:
                raise ConfigError(
                    f"{where} holds the value of {name}, which everybody who sees the cluster could read there. Name it instead: "
                    f"--secret {name}, and set it in the environment of the cluster's nodes."
                )


def keep(config: RunConfig) -> RunConfig:
    """In a job: the config with its files of one's own in the storage, because the upload is gone when the run is resumed.

    Outside a job the config as it is. They lie under the digest of their contents, so that a resumed run finds them again.
    """
    if not uploaded():
        return config
    here, parcel = Path.cwd(), Parcel()
    moved = {
        key: (parcel.add(path), rest)
        for key, (path, rest) in own_settings(config).items()
        if path.is_relative_to(here) and not any(path.is_relative_to(here / package) for package in _PACKAGES)
    }
    folder = Path(config.storage).expanduser().resolve() / ".cache" / "files" / parcel.digest()
    copy(parcel.files, folder)
    for key, (place, rest) in moved.items():
        set_at(config, key, f"{folder / place}{rest}")
    return config
