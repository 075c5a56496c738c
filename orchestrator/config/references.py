"""References to models, the same wherever one is named: `mini`, `hf:ID`, `path:FOLDER`, `run:NAME@step` or a URL.

`run:NAME@ROLE` is the model that a run's role began RL with: the judge that was taught in it, or its warmed-up policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ConfigError

FORMS = "mini, hf:ID, path:FOLDER, run:NAME@STEP, run:NAME@ROLE, http://… or https://…"
MODEL_PARTS = {
    "weights": ("*.safetensors", "*.bin"),
    "tokenizer": ("tokenizer.json", "*.model", "*.tiktoken", "vocab.json", "vocab.txt"),
}
"""What a model folder holds beside config.json -> the files that may be it."""


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A parsed reference. kind: "mini", "hf", "path", "run" or "url"; step: of a run's checkpoint, None the newest; role: of
    the run's starting models, in place of a checkpoint."""

    kind: str
    value: str = ""
    step: int | None = None
    role: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelReference:
        """Read a reference as it is written in a setting. Raises ConfigError where it has none of the forms."""
        if text == "mini":
            return cls("mini")
        if text.startswith(("http://", "https://")):
            if not text.partition("://")[2].strip("/"):
                raise ConfigError(f"{text!r} is a URL without a host.")
            return cls("url", text.rstrip("/"))
        kind, colon, value = text.partition(":")
        if not colon or kind not in ("hf", "path", "run"):
            raise ConfigError(f"{text!r} is not a model reference. {_guess(text)}The forms are: {FORMS}.")
        if not value:
            raise ConfigError(f"{text!r} names nothing after the colon. The forms are: {FORMS}.")
        return cls._of_run(text, value) if kind == "run" else cls(kind, value)

    @classmethod
    def _of_run(cls, text: str, value: str) -> ModelReference:
        name, at, which = value.partition("@")
        if not name or (at and not (which.isdecimal() or which.isidentifier())):
            raise ConfigError(
                f"{text!r}: write run:NAME@STEP, the step a whole number, run:NAME for the newest, or run:NAME@ROLE for a model "
                "that the run began RL with."
            )
        if at and not which.isdecimal():
            return cls("run", name, role=which)
        return cls("run", name, int(which) if at else None)

    def __str__(self) -> str:
        if self.kind == "url":
            return self.value
        which = self.role or ("" if self.step is None else str(self.step))
        return f"{self.kind}:{self.value}{'@' if which else ''}{which}" if self.value else self.kind


def _guess(text: str) -> str:
    if text.startswith(("/", "./", "../", "~")):
        return f"Did you mean path:{text}? "
    if text.count("/") == 1 and ":" not in text:
        return f"Did you mean hf:{text}? "
    return ""


def resolve(reference: ModelReference, storage: str | Path) -> Path | str:
    """What a reference stands for: the folder of weights (`path:`, `run:`), the id (`hf:`), the URL, or "mini".

    storage: the folder of all runs. Raises ConfigError where the folder, the run or the checkpoint is missing.
    """
    if reference.kind == "path":
        folder = Path(reference.value).expanduser()
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{reference}: {folder} is not a Hugging Face model folder (it has no config.json).")
        for part, patterns in MODEL_PARTS.items():
            if not any(path.is_file() for pattern in patterns for path in folder.glob(pattern)):
                raise ConfigError(
                    f"{reference}: {folder} holds no {part} ({', '.join(patterns)}). Copy the whole model there: "
                    "`save_pretrained` of the model and of its tokenizer, or a full download."
                )
        return folder
    if reference.kind == "run":
        run = find_run(reference.value, storage)
        return _starting(reference, run, storage) if reference.role else _checkpoint(reference, run)
    return reference.value or reference.kind


def find_run(name: str, storage: str | Path) -> Path:
    """The folder of a run, given as NAME, WORKLOAD/NAME or a path. Raises ConfigError unless there is exactly one."""
    root = Path(storage).expanduser()
    candidates = [Path(name).expanduser(), root / name, *sorted(root.glob(f"*/{name}"))]
    found = {folder.resolve(): folder for folder in candidates if (folder / "config.yaml").is_file()}
    if not found:
        raise ConfigError(f"No run {name!r} in {root}/. `orchestrate list --storage {root}` shows what is there.")
    if len(found) > 1:
        raise ConfigError(f"Several runs are named {name!r}: {', '.join(map(str, found.values()))}. Use WORKLOAD/NAME.")
    return next(iter(found.values()))


def _starting(reference: ModelReference, run: Path, storage: str | Path) -> Path | str:
    """The model that a role of a run began RL with. Raises ConfigError where it has no such role, or taught it never to its end."""
    from orchestrator.records.folder import RunFolder, read_json

    path = RunFolder(run).models
    models = read_json(path) if path.is_file() else {}
    if reference.role not in models:
        there = ", ".join(f"@{role}" for role in models) or "none"
        raise ConfigError(f"{reference}: {run} has no model of that role. Roles that it has: {there}.")
    name = str(models[reference.role])
    folder = Path(storage).expanduser() / name
    if folder.is_dir() and not any(
        path.is_file() for pattern in MODEL_PARTS["weights"] for path in folder.glob(pattern)
    ):
        raise ConfigError(f"{reference}: {folder} holds no weights: the run had none to begin with.")
    if not folder.is_dir() and name.startswith((".", "/")):
        raise ConfigError(
            f"{reference}: {folder} is not there: the run did not teach it to the end. Resume the run first."
        )
    return folder if folder.is_dir() else name


def _checkpoint(reference: ModelReference, run: Path) -> Path:
    from orchestrator.records.folder import (  # which imports the checks of settings, and they this
        RunFolder,
        step_name,
        step_of,
    )

    folder = run / "checkpoints"
    steps = sorted(item.parent for item in folder.glob("step-*/hf"))
    if reference.step is not None:
        wanted = folder / step_name(reference.step)
    else:
        newest = RunFolder(run).newest_checkpoint()
        if newest is None:
            raise ConfigError(f"{reference}: {run} has no finished checkpoint (checkpoints/LATEST names none).")
        wanted = newest
    if wanted not in steps:
        there = ", ".join(f"@{step_of(step)}" for step in steps) or "none"
        raise ConfigError(f"{reference}: {wanted} holds no model folder `hf`. Steps that do: {there}.")
    return wanted / "hf"
