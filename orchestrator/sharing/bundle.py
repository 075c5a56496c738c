"""A run, or a sweep with all of its runs, as a folder that a colleague can verify and look at with the same verbs.

It is laid out as a storage: `orchestrate compare A B --storage BUNDLE` works on it as it lies.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.config.references import ModelReference, find_run, resolve
from orchestrator.errors import ConfigError, RunError
from orchestrator.records.folder import RunFolder, is_taken, read_json, sha256
from orchestrator.sharing.folders import atomic_folder, check_no_secrets, size_of
from orchestrator.sharing.manifest import MANIFEST, write_manifest
from orchestrator.sharing.source import find_sweep_alone
from orchestrator.sweep.folder import PLACE, SweepFolder
from orchestrator.sweep.journal import Journal

OF_RUN = (
    "config.yaml", "metrics.jsonl", "metrics.parquet", "ledger.jsonl", "ledger.parquet", "models.json", "judge.json", "summary.json",
    "report.html", "episodes/*.parquet", "rejudged/*/*.parquet", "plots/*.png",
)  # fmt: skip
"""What of a run leaves the machine. Events, W&B's files and checkpoints stay: they tell of the machine, or are large."""
OF_SWEEP = ("sweep.yaml", "trials.jsonl", "command", "state.json", "summary.json", "plots/*.png")


@dataclass(frozen=True, slots=True)
class Contents:
    """What will be bundled. files: where each lies -> its name in the bundle. runs: as WORKLOAD/NAME."""

    what: str
    runs: tuple[str, ...]
    files: tuple[tuple[Path, str], ...]

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path, _ in self.files)


@dataclass(frozen=True, slots=True)
class Bundled:
    """digest: of MANIFEST.json, which stands for all files. redacted: how many episodes are without their texts."""

    folder: Path
    files: int
    bytes: int
    redacted: int
    digest: str


def contents_of(target: str, storage: Path, weights: bool = False) -> Contents:
    """The files of a run or of a sweep and its runs. weights: with the model folder of each run's newest checkpoint.

    Raises ConfigError where it is not there, RunError where a process works on it or a file holds a password.
    """
    sweep = find_sweep_alone(target, storage)
    if sweep:
        _refuse_running(sweep.path)
        runs = _runs_of(sweep)
        listed = [(path, f"{PLACE}/{sweep.name}/{name}") for path, name in _listed(sweep.path, OF_SWEEP)]
    else:
        runs, listed = [RunFolder(find_run(target, storage))], []
    for run in runs:
        _refuse_running(run.path)
        place = f"{run.path.absolute().parent.name}/{run.name}"
        listed += [(path, f"{place}/{name}") for path, name in [*_listed(run.path, OF_RUN), *_weights(run, weights)]]
    names = tuple(f"{run.path.absolute().parent.name}/{run.name}" for run in runs)
    check_no_secrets(path for path, name in listed if "/checkpoints/" not in name)
    return Contents(f"sweep {sweep.name}" if sweep else f"run {names[0]}", names, tuple(listed))


def _refuse_running(folder: Path) -> None:
    if is_taken(folder):
        raise RunError(
            f"{folder} is being run: what is bundled now would be half of it. Wait for its end, or stop it first."
        )


def _runs_of(sweep: SweepFolder) -> list[RunFolder]:
    """Every run that a trial had, where it came to have a folder."""
    tried = Journal(sweep.journal).all()
    folders = [RunFolder(sweep.storage / name) for name in dict.fromkeys(name for one in tried for name in one.runs)]
    found = [run for run in folders if run.config.is_file()]
    if not found:
        raise ConfigError(f"{sweep.path} has no run yet: nothing to bundle.")
    return found


def _listed(folder: Path, patterns: tuple[str, ...]) -> Iterator[tuple[Path, str]]:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not path.name.startswith("."):
                yield path, str(path.relative_to(folder))


def _weights(run: RunFolder, wanted: bool) -> list[tuple[Path, str]]:
    """The newest checkpoint's model folder with what names and checks it."""
    if not wanted:
        return []
    folder = resolve(ModelReference("run", str(run.path)), run.path.parent.parent)
    assert isinstance(folder, Path)
    step = folder.parent.relative_to(run.path)
    return list(_listed(run.path, ("checkpoints/LATEST", f"{step}/manifest.json", f"{step}/hf/*")))


def bundle(contents: Contents, to: Path) -> Bundled:
    """Copy, redact and describe the files, all or nothing. Texts whose source forbids passing them on are not copied.

    Raises ConfigError where the folder holds something already, RunError where the disk takes no more.
    """
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConfigError(f"{to} is there already. Name another folder with --to, or remove it.")
    with atomic_folder(to) as temporary:
        for path, name in contents.files:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, temporary / name)
        redacted = sum(_redact(RunFolder(temporary / name)) for name in contents.runs)
        if redacted:
            _redact_sweeps(temporary)
        write_manifest(temporary, contents.what, list(contents.runs), redacted)
    return Bundled(to, len(contents.files), size_of(to), redacted, sha256(to / MANIFEST))


def _redact(run: RunFolder) -> int:
    """Take the restricted texts out of a copied run. Returns how many episodes it concerned."""
    from orchestrator.sharing.redaction import redact_episodes, redact_summary, restricted_in

    counts = {path: count for path in run.path.rglob("*.parquet") if (count := restricted_in(path))}
    for path in counts:
        redact_episodes(path)
    if counts and run.summary.is_file():
        redact_summary(run.summary)
    if counts and run.report.is_file():  # it may have been written with the texts
        _report(run)
    return sum(counts.values())


def _report(run: RunFolder) -> None:
    """Write the page anew."""
    from orchestrator.records import metrics, page
    from orchestrator.records.diagnosis import diagnose
    from orchestrator.records.report import summarise

    summary = read_json(run.summary) if run.summary.is_file() else summarise(run)
    # The page would say that summary.json holds it.
    summary.pop("reason", None)
    page.write(run, summary, diagnose(metrics.read(run.metrics_log)))


def _redact_sweeps(folder: Path) -> None:
    from orchestrator.sharing.redaction import redact_journal, redact_summary

    for sweep in map(SweepFolder, (folder / PLACE).glob("*")):
        redact_journal(sweep.journal)
        if sweep.summary.is_file():
            redact_summary(sweep.summary)
