"""Where a model is from, as plain JSON: the run, its data, settings and versions, the weights' digest, how good it was found to be.

What a run did not record is left out or null; nothing is guessed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.config.references import ModelReference, find_run
from orchestrator.errors import ConfigError
from orchestrator.records import metrics
from orchestrator.records.canary import read_canary
from orchestrator.records.folder import RunFolder, read_json, sha256
from orchestrator.records.headline import EXAM_SHARES
from orchestrator.records.samples import any_restricted
from orchestrator.sharing.folders import check_no_secrets
from orchestrator.sharing.source import Source, best_of
from orchestrator.sweep.standing import sweeps_in
from orchestrator.values import JUDGE, POLICY

FORMAT = 1
FILE = "provenance.json"
"""Its name in a folder that was exported."""
SCORES = ("eval/oracle", "eval/judge", "eval/reward")
TRAINED = (
    "steps", "algorithm.name", "algorithm.kl_weight", "learner.learning_rate", "learner.lora_rank", "rollout.prompts_per_step",
    "rollout.samples_per_prompt", "rollout.max_completion_tokens", "rollout.temperature", "rollout.max_staleness", "model.dtype",
    "model.thinking",
)  # fmt: skip
"""Settings that say how a checkpoint was trained."""


def provenance(source: Source) -> dict[str, Any]:
    """All that is known of where a model is from.

    reference, role, weights (see `weights_of`), tokenizer and chat_template (digests) are there always. Of a run's model also: run,
    workload, preset, step, forked_after (the step after which it went on from another run's checkpoint), objective, started_from (the
    model that it was before, and what that one was before), training, reward, judge (its model and its exam), data, restricted
    (whether texts of it may not be passed on), files (path and SHA-256 when the run began), seeds, versions, commit, scores (held-out,
    with 95 % intervals) and sweep (the one that it is the best run of). Of a folder that was exported, origin: the same of the
    exported model. Raises RunError where what it is read from holds a password.
    """
    known: dict[str, Any] = {"format": FORMAT, "reference": source.reference, "role": source.role}
    known |= {"weights": weights_of(Path(source.folder)), **_written_with(Path(source.folder))}
    if source.run is None:
        return known | _origin(Path(source.folder), known["weights"])
    run = RunFolder.open(source.run)
    check_no_secrets([run.config])
    settings, rows = run.settings(), metrics.read(run.metrics_log)
    return known | {
        "run": f"{run.workload}/{run.name}",
        "workload": run.workload,
        "preset": settings.get("preset"),
        "step": source.step,
        "forked_after": _forked_after(rows),
        "objective": at(settings, "algorithm.name") if source.step is not None else None,
        "started_from": _ancestry(run, source.role),
        "training": _training(run, settings, source),
        "reward": {name: value for name, value in settings.get("reward", {}).items() if value is not None},
        "judge": _judge(run, settings, rows),
        "data": settings.get("data"),
        "restricted": any_restricted(run),
        "files": [{"path": path, "sha256": digest} for path, digest in settings.get("files", {}).items()],
        "seeds": _seeds(settings),
        "versions": {name: value for name, value in settings.get("versions", {}).items() if name != "commit"},
        "commit": at(settings, "versions.commit"),
        "scores": _scores(rows, source),
        "sweep": _won(run) if source.step is not None else None,
    }


def at(settings: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key; None where there is none, as in the settings of an older version."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def weights_of(folder: Path) -> dict[str, Any] | None:
    """SHA-256 of each safetensors file, and of all of them: that of the lines that `sha256sum *.safetensors` prints.

    A checkpoint's come from its manifest. None where there are no such files, as of a hub id.
    """
    manifest = folder.parent / "manifest.json"
    if folder.name == "hf" and manifest.is_file():
        files = read_json(manifest)["files"]
        found = {Path(name).name: digest for name, digest in sorted(files.items()) if _is_weights(name, "hf")}
    else:
        found = {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    lines = "".join(f"{digest}  {name}\n" for name, digest in found.items())
    return {"sha256": hashlib.sha256(lines.encode()).hexdigest(), "files": found} if found else None


def _written_with(folder: Path) -> dict[str, str | None]:
    """Digests of the tokenizer and of the chat template, as the trainer loaded them when it wrote the folder."""
    canary = read_canary(folder)
    return {
        "tokenizer": canary.tokenizer if canary else None,
        "chat_template": canary.chat_template if canary else None,
    }


def _is_weights(name: str, folder: str) -> bool:
    return Path(name).parent.name == folder and name.endswith(".safetensors")


def _origin(folder: Path, weights: Mapping[str, Any] | None) -> dict[str, Any]:
    """What an exported folder says of itself, as long as it holds the weights that were exported."""
    path = folder / FILE
    said = read_json(path) if path.is_file() else {}
    if not weights or said.get("weights") != weights:
        return {}
    check_no_secrets([path])
    return {"origin": said}


def _forked_after(rows: Sequence[metrics.Row]) -> int | None:
    """A run that began at its own step 0 has a row of it."""
    return int(rows[0]["step"]) - 1 if rows and rows[0]["step"] > 0 else None


def _ancestry(run: RunFolder, role: str) -> list[str]:
    """The reference from which the model of a role began; where that is a run's, also that run's own, and so on."""
    found: list[str] = []
    while True:
        settings = run.settings()
        name = at(settings, "model.name" if role == POLICY else f"{role}.name")
        if name is None or name in found:
            return found
        found.append(name)
        if not name.startswith("run:"):
            return found
        reference = ModelReference.parse(name)
        try:
            run, role = RunFolder(find_run(reference.value, run.path.parent.parent)), reference.role or POLICY
        except ConfigError:  # it is not here any more
            return found


def _training(run: RunFolder, settings: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """By dotted key: what a checkpoint was trained with, and the lesson before it; of another model its lesson, if it had one."""
    found = {key: at(settings, key) for key in TRAINED} if source.step is not None else {}
    if Path(_models(run).get(source.role, "")).parent.name == "taught":
        group = "warmup" if source.role == POLICY else f"{source.role}.training"
        found |= {f"{group}.{name}": value for name, value in (at(settings, group) or {}).items()}
    return {key: value for key, value in found.items() if value is not None}


def _models(run: RunFolder) -> dict[str, str]:
    return read_json(run.models) if run.models.is_file() else {}


def _judge(run: RunFolder, settings: Mapping[str, Any], rows: Sequence[metrics.Row]) -> dict[str, Any] | None:
    """The judge of a run and its exam (groups: what its intervals are over); None where the reward asks none."""
    report = read_json(run.judge) if run.judge.is_file() else {}
    if not report and JUDGE not in _models(run) and not any("eval/judge" in row for row in rows):
        return None
    exam = {name: measured(report, name, f"{name}_n") for name in EXAM_SHARES if name in report}
    named = {"model": at(settings, "judge.name"), "served_name": at(settings, "judge.served_name")}
    return {**named, "groups": report.get("dilemmas"), "exam": exam}


def measured(row: Mapping[str, Any], name: str, count: str) -> dict[str, float]:
    """value, low and high of its 95 % interval, n; without what was not measured."""
    keys = {"value": name, "low": f"{name}_low", "high": f"{name}_high", "n": count}
    found = {word: row[key] for word, key in keys.items() if key in row and math.isfinite(row[key])}
    return found | ({"n": int(found["n"])} if "n" in found else {})


def _seeds(settings: Mapping[str, Any], prefix: str = "") -> dict[str, int]:
    """Every setting that is called `seed`, by its dotted key."""
    found: dict[str, int] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _seeds(value, f"{prefix}{name}.")
        elif name == "seed":
            found[f"{prefix}{name}"] = value
    return found


def _scores(rows: Sequence[metrics.Row], source: Source) -> list[dict[str, Any]]:
    """Of the policy: the first evaluation and the last one that is not later than its step."""
    if source.role != POLICY:
        return []
    step = source.step or 0
    evaluated = [row for row in rows if row["step"] <= step and any(name in row for name in SCORES)]
    moments = [evaluated[0], evaluated[-1]] if len(evaluated) > 1 else evaluated
    return [score for row in moments for score in _scores_of(row)]


def _scores_of(row: metrics.Row) -> list[dict[str, Any]]:
    found = []
    for name in SCORES:
        values = measured(row, name, "eval/oracle_n" if name == "eval/oracle" else "eval/n")
        if "value" in values:
            found.append({"metric": name, "step": int(row["step"]), **values})
    gap = measured(row, "judge/gold_gap", "judge/gold_gap_n")
    return [*found, {"metric": "judge/gold_gap", "step": int(row["step"]), **gap}] if gap else found


def _won(run: RunFolder) -> dict[str, Any] | None:
    """The sweep of the same storage that the run is the best of. of: all runs that it was chosen from. mean: of its arm's, `runs` of
    them, with an interval over those runs."""
    for sweep in sweeps_in(run.path.parent.parent):
        best = best_of(sweep)
        if best and best.tried.run == f"{run.workload}/{run.name}":
            found = {"mean": best.mean.mean, "mean_low": best.mean.low, "mean_high": best.mean.high}
            mean = measured(found, "mean", "")
            return {
                "name": best.sweep, "metric": best.metric, "mode": best.mode, "score": best.tried.score, "of": best.of,
                "arm": best.tried.arm, "mean": mean, "runs": best.runs, "settings": dict(best.tried.point),
            }  # fmt: skip
    return None
