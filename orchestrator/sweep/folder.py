"""The folder of one sweep: what it is, how far it came, and what it came to.

runs/sweeps/<name>/
    sweep.yaml         the definition
    trials.jsonl       what was tried, evaluated and ended, a line each (`sweep.journal`)
    command            the command line that goes on with it
    state.json         the stages that are done, and the runs that later stages may name
    evaluations.json   settings of what its runs evaluate, with which each run compares its training data
    log.txt            what it said on the terminal, of all its starts
    summary.json       the numbers at the end;  plots/  its pictures
    slots/             a folder for each run at once, locked by the process that has it
    tune/              Ray Tune's own files; nothing is read from them
    stop               asks every run in flight to end with a checkpoint

The runs themselves lie where all runs lie, and are the truth: what a run folder holds is never done again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from orchestrator.config.checks import RUN_NAME
from orchestrator.config.keys import keys_of
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError, RunError
from orchestrator.records.folder import FORMAT, atomic_write, give_back, plain, read_json, take, write_json
from orchestrator.sweep.spec import Done, Stage, Sweep

PLACE = "sweeps"
_FREE = ("about", "at_once")
"""Parts of a definition that change no result."""


@dataclass(frozen=True, slots=True)
class SweepFolder:
    """Paths inside a sweep's folder. Making one touches no disk; `begin` does."""

    path: Path

    @classmethod
    def begin(cls, storage: Path, sweep: Sweep, resume: bool) -> SweepFolder:
        """Take the sweep's folder for this process: a new one, or that of an earlier start with the same definition.

        resume: nodes may have been added since. Raises ConfigError where the definition differs otherwise (also for resume where there
        is none), RunError where another process runs it.
        """
        if not RUN_NAME.fullmatch(sweep.name):
            raise ConfigError(f"a sweep named {sweep.name!r} cannot name a folder: use letters, digits and . _ + = , -")
        folder = cls((storage / PLACE / sweep.name).resolve())
        definition = definition_of(sweep)
        if folder.definition.is_file():
            folder.check(definition, resume)
        elif resume:
            raise ConfigError(f"--resume: no sweep {sweep.name} in {folder.path.parent}. Start it without --resume.")
        if not take(folder.path):
            raise RunError(f"{folder.path} is being run by another process. Wait for it, or stop it first.")
        folder.stop.unlink(missing_ok=True)
        atomic_write(folder.definition, OmegaConf.to_yaml(OmegaConf.create(definition | {"format": FORMAT})))
        return folder

    def end(self) -> None:
        """Give the folder back: this process is done with it."""
        give_back(self.path)

    def check(self, definition: dict[str, Any], resume: bool) -> None:
        """Refuse to go on with a definition that would mix results of two. Raises ConfigError."""
        before = plain(OmegaConf.load(self.definition))
        if before.pop("format") > FORMAT:
            raise ConfigError(f"{self.definition}: written by a newer version; update orchestrator.")
        added = [name for name in definition["nodes"] if name not in before["nodes"]]
        changed = _differences(before, definition)
        if changed:
            told = "\n".join(f"  - {line}" for line in changed)
            raise ConfigError(
                f"{self.path} was begun with another definition:\n{told}\nGo on with that one, or begin another sweep beside it: "
                "name=another-name. Its runs are found by their content, so that nothing is done twice."
            )
        if added and not resume:
            raise ConfigError(
                f"{self.path} was begun without {', '.join(added)}. Go on and add them with --resume, or begin another sweep: "
                "name=another-name."
            )

    # --- what is done ---

    def done(self) -> tuple[dict[str, str], list[Done]]:
        """How each stage ended that needs no further look ("done"), and the runs that later stages may name."""
        if not self.state.is_file():
            return {}, []
        state = read_json(self.state)
        return state["stages"], [Done(**values) for values in state["runs"]]

    def close(self, stage: Stage, done: Sequence[Done]) -> None:
        """A stage needs no further look. done: of all stages so far."""
        stages, _ = self.done()
        write_json(self.state, {"stages": stages | {stage.name: "done"}, "runs": [asdict(one) for one in done]})

    # --- paths ---

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def storage(self) -> Path:
        return self.path.parent.parent

    @property
    def definition(self) -> Path:
        return self.path / "sweep.yaml"

    @property
    def journal(self) -> Path:
        return self.path / "trials.jsonl"

    @property
    def command(self) -> Path:
        return self.path / "command"

    @property
    def state(self) -> Path:
        return self.path / "state.json"

    @property
    def evaluations(self) -> Path:
        return self.path / "evaluations.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def plots(self) -> Path:
        return self.path / "plots"

    @property
    def tune(self) -> Path:
        return self.path / "tune"

    @property
    def stop(self) -> Path:
        """A file that asks every run in flight to end with a checkpoint."""
        return self.path / "stop"

    def slots(self, count: int) -> list[Path]:
        """The folders whose locks say which of `count` runs at once are there."""
        return [self.path / "slots" / str(number) for number in range(count)]


def definition_of(sweep: Sweep) -> dict[str, Any]:
    """A sweep as plain data, its nodes by name."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(sweep)))
    return values | {"nodes": {node["name"]: node for node in values["nodes"]}}


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs, but for nodes that are only there now."""
    lines = [
        f"{key}: {before[key]}, now {now[key]}"
        for key in before
        if key not in (*_FREE, "nodes") and before[key] != now[key]
    ]
    for name, node in before["nodes"].items():
        if name not in now["nodes"]:
            lines.append(f"{name}: is gone")
            continue
        there = _decisive(now["nodes"][name])
        for key, value in _decisive(node).items():
            if value != there[key]:
                lines += _of(f"{name}.{key}", value, there[key])
    return lines


def _decisive(node: dict[str, Any]) -> dict[str, Any]:
    """A node without the settings that change no result. Those of a workload of one's own count."""
    free = {name for name, key in keys_of(RunConfig).items() if key.is_indifferent}

    def rest(settings: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name not in free}

    arms = {name: rest(settings) for name, settings in node["arms"].items()}
    return {**node, "settings": rest(node["settings"]), "arms": arms}


def _of(place: str, before: Any, now: Any) -> list[str]:
    """The differences of a value; of a mapping those of its keys."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [f"{place}: {before}, now {now}"]
    keys = dict.fromkeys([*before, *now])
    return [
        line
        for key in keys
        if before.get(key) != now.get(key)
        for line in _of(f"{place}.{key}", before.get(key), now.get(key))
    ]
