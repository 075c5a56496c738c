"""MANIFEST.json of a bundle: what it is and the SHA-256 of every file, so that whoever gets it sees whether anything changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError, RunError
from orchestrator.records.folder import RunFolder, read_json, sha256, write_json
from orchestrator.records.versions import versions

FORMAT = 1
MANIFEST = "MANIFEST.json"
_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle as it came. digest: of MANIFEST.json itself. says: a line a run, of how it ended."""

    what: str
    created: str
    files: int
    bytes: int
    redacted: int
    digest: str
    says: tuple[str, ...]


def write_manifest(folder: Path, what: str, runs: list[str], redacted: int) -> None:
    """Describe all files of a folder. runs: their folders in it, as WORKLOAD/NAME. redacted: how many episodes are without text."""
    made_by = versions()
    write_json(
        folder / MANIFEST,
        {
            "format": FORMAT, "what": what, "created": datetime.now(UTC).isoformat(timespec="seconds"), "runs": runs,
            "redacted": redacted, "commit": made_by.pop("commit"), "versions": made_by,
            "files": {name: _entry(folder / name) for name in _files(folder)},
        },
    )  # fmt: skip


def verify(folder: Path) -> Verified:
    """Compare a bundle with its MANIFEST.json, and open its runs.

    Raises RunError that names every file that is missing, differs or was added, ConfigError for a newer format or a folder that is
    no bundle.
    """
    manifest = _read(folder)
    listed, there = manifest["files"], set(_files(folder))
    wrong = [f"{name} is missing" for name in listed if name not in there]
    wrong += [f"{name} differs" for name in sorted(there & listed.keys()) if _entry(folder / name) != listed[name]]
    wrong += [f"{name} was added" for name in sorted(there - listed.keys())]
    if wrong:
        more = [f"and {len(wrong) - _MOST_NAMED} more"] if len(wrong) > _MOST_NAMED else []
        raise RunError(
            f"{folder} is not what was bundled:\n"
            + "\n".join(f"  - {line}" for line in [*wrong[:_MOST_NAMED], *more])
            + "\nAsk for it again, or bundle it anew."
        )
    says = tuple(_of_run(RunFolder.open(folder / name)) for name in manifest["runs"])
    size = sum(entry["bytes"] for entry in listed.values())
    digest = sha256(folder / MANIFEST)
    return Verified(manifest["what"], manifest["created"], len(listed), size, manifest["redacted"], digest, says)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise ConfigError(f"{folder} is no bundle: it holds no {MANIFEST}. `orchestrate bundle RUN` makes one.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        written = int(manifest["format"])
        missing = [name for name in ("what", "created", "runs", "redacted", "files") if name not in manifest]
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error!r}). Ask for the bundle again.") from error
    if written > FORMAT:
        raise ConfigError(f"{path} has format {written}, this version reads up to {FORMAT}: update orchestrator.")
    if missing:
        raise RunError(f"{path} is damaged (it says nothing of {', '.join(missing)}). Ask for the bundle again.")
    return manifest


def _entry(path: Path) -> dict[str, Any]:
    """What the manifest says of a file. A link whose target is gone has neither."""
    return {"sha256": sha256(path), "bytes": path.stat().st_size} if path.is_file() else {}


def _files(folder: Path) -> list[str]:
    """All that is no folder, links and hidden files included, but for the manifest."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    return [name for path in paths if (name := str(path.relative_to(folder))) != MANIFEST]


def _of_run(run: RunFolder) -> str:
    summary = read_json(run.summary) if run.summary.is_file() else {}
    last, by = summary.get("last", {}), str(summary.get("best_by", "")).removeprefix("eval/")
    score = ""
    if by in last:
        score = f", held-out {by} {last[by]:.3f}"
        if f"{by}_low" in last and f"{by}_high" in last:
            score += f" ({last[f'{by}_low']:.3f} to {last[f'{by}_high']:.3f})"
        score += f" at step {last['step']}"
    return f"{run.workload}/{run.name}: {summary.get('status', 'unfinished')}{score}"
