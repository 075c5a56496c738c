"""The graph of a sweep: what comes after what, and the settings, key and folder of every run. Starts nothing.

A value `node:NAME`, `node:NAME@STEP` or `node:NAME@ROLE` stands for a run of another node: the one of the same seed and arm, the winner
of its search, or its only one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator.cluster.needs import needs_of
from orchestrator.cluster.plan import Plan, make_plan
from orchestrator.cluster.preflight import Node as Machine
from orchestrator.cluster.preflight import check_memory, gpu_memory_gb
from orchestrator.config.compose import Composed, trace, vary
from orchestrator.config.explain import on_one_line
from orchestrator.config.functions import functions_of
from orchestrator.config.keys import files_named, set_at, value_at
from orchestrator.config.layers import Layer, chooses_preset
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError, PreflightError, RunError
from orchestrator.sweep.capacity import at_once, largest
from orchestrator.sweep.folder import PLACE, SweepFolder
from orchestrator.sweep.keys import find_by_key, key_of
from orchestrator.sweep.space import LISTED, reachable
from orchestrator.sweep.spec import Done, Node, Planned, Range, Stage, Sweep
from orchestrator.values import POLICY

_REFERENCE = re.compile(r"node:([^@]*)(@.+)?")
_MODEL = ".name"
"""Ends the settings that name a model; others that name a run read what it has stored."""


class MissingRunError(RunError):
    """A run that another one needs is not there, because it failed or was skipped."""


def node_named(value: Any) -> str | None:
    """The node that a setting's value refers to, if it is such a reference."""
    found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else None


def stages(sweep: Sweep) -> list[Stage]:
    """What is done one after another: the search of each arm of a node, then the node's runs by seed."""
    found: list[Stage] = []
    for node in sweep.nodes:
        found += [Stage(node, arm) for arm in node.arms] if node.search else []
        found += [Stage(node)] if node.seeds else []
    return found


def source_run(of: Node, arm: str, seed: int, user: str) -> tuple[str, int | None]:
    """(arm, seed) of the run of a node that a run of another one refers to; no seed: the winner of the arm's search.

    user: the node that refers. Raises ConfigError where it could be several.
    """
    if len(of.arms) > 1 and arm not in of.arms:
        same = ", ".join(f"{name}: {{}}" for name in of.arms)
        raise ConfigError(
            f"runs.{user}: node:{of.name} could be a run of any of its arms ({', '.join(of.arms)}). Give {user} the same ones: "
            f"arms: {{{same}}}"
        )
    arm = arm if arm in of.arms else next(iter(of.arms))
    if not of.seeds:
        return arm, None
    if len(of.seeds) > 1 and seed not in of.seeds:
        raise ConfigError(
            f"runs.{user}: node:{of.name} has runs of the seeds {', '.join(map(str, of.seeds))}, and none of seed {seed}. Give "
            f"{of.name} one seed or this one too (of a search it is tuning.seed)."
        )
    return arm, seed if seed in of.seeds else of.seeds[0]


def runs_of(sweep: Sweep, stage: Stage, done: Sequence[Done], storage: Path) -> list[Planned]:
    """The runs of a stage without an arm: every arm with every seed, after a search with the winner's point.

    done: winners and runs of the stages before. Raises MissingRunError where a run that one of them needs is not there.
    """
    planned = []
    for arm in stage.node.arms:
        point = _find(done, stage.node.name, arm, None, stage.node.name).point if stage.node.search else {}
        planned += _planned(sweep, stage.node, arm, [(seed, point) for seed in stage.node.seeds], done, storage)
    return planned


def trials_of(
    sweep: Sweep, stage: Stage, points: Sequence[Mapping[str, Any]], done: Sequence[Done], storage: Path
) -> list[Planned]:
    """The runs of points of a search, those of a point with all of its seeds one after another. done: as for `runs_of`."""
    assert stage.arm is not None
    assert stage.node.tuning is not None
    seeds = stage.node.tuning.seeds
    variations = [(seed, point) for point in points for seed in seeds]
    return _planned(sweep, stage.node, stage.arm, variations, done, storage)


def is_of(one: Done, stage: Stage) -> bool:
    """Whether a run is what the stage left to later ones."""
    return one.node == stage.node.name and one.winner == (stage.arm is not None) and stage.arm in (None, one.arm)


def is_as_planned(sweep: Sweep, stage: Stage, done: Sequence[Done], storage: Path) -> bool:
    """Whether the runs of a stage that ended are those that it would have now: a preset, or a file that decides them, may have changed
    since the sweep was stopped. Of a population, whose members are copies, it is not asked."""
    ended = [one for one in done if is_of(one, stage)]
    if stage.arm is not None and stage.node.tuning and stage.node.tuning.scheduler == "pbt":
        return True
    try:
        planned = (
            runs_of(sweep, stage, done, storage)
            if stage.arm is None
            else trials_of(sweep, stage, [one.point for one in ended], done, storage)
        )
    except MissingRunError:
        return False
    names = {Path(one.run).name for one in ended}
    wanted = {one.name for one in planned}
    return wanted <= names if stage.arm is None else names <= wanted


def plan_of(sweep: Sweep, stage: Stage, storage: Path) -> Plan:
    """What the most demanding run of a stage places. A rater is shared where all runs of the stage ask the same one."""
    node, plans = stage.node, []
    asked: defaultdict[str, set[tuple[str, Any]]] = defaultdict(set)
    nodes = {other.name: other for other in sweep.nodes}
    seeds = node.seeds if stage.arm is None or node.tuning is None else node.tuning.seeds
    for arm in node.arms if stage.arm is None else (stage.arm,):
        configured = Configured(sweep, node, arm, storage)
        for point in [{}, *single_points(node.search, configured.settings)]:
            config = configured(seeds[0], point)
            plans.append(make_plan(config))
            for name, rater in config.raters().items():
                of = node_named(configured.settings.get(f"{name}.name"))
                sources = {source_run(nodes[of], arm, seed, node.name) for seed in seeds} if of else {None}
                asked[name] |= {(repr(rater), source) for source in sources}
    return largest(plans, apart=[name for name, models in asked.items() if len(models) > 1])


def single_points(ranges: Sequence[Range], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Points that set one range, to each of its values or to both its ends, and what its condition asks for.

    Without ranges whose condition settings of the arm contradict.
    """
    searched = {item.key for item in ranges}
    found = []
    for item in ranges:
        asked = {name: value for name, value in item.when.items() if name in searched}
        if reachable(item, ranges, settings):
            low, high = (int(item.low), int(item.high)) if item.kind == "int" else (item.low, item.high)
            found += [{**asked, item.key: value} for value in (item.values if item.kind in LISTED else (low, high))]
    return found


class Configured:
    """Configs of one arm of a node. Composed once for each choice of presets; what else differs is set in a copy.

    References to nodes pass as stand-ins, so that runs can be planned before those that they need are there.
    settings: all that is given to `compose`, by dotted key, references as they are written.
    """

    def __init__(self, sweep: Sweep, node: Node, arm: str, storage: Path) -> None:
        self._target, self._origin = node.target, f"sweep {sweep.name}, runs.{node.name}"
        evaluations = SweepFolder(storage.absolute() / PLACE / sweep.name).evaluations
        given = {
            "tracking.group": sweep.name,
            "storage": str(storage.absolute()),
            "contamination.sweep": str(evaluations),
        }
        self.settings: dict[str, Any] = {**given, **node.settings, **node.arms[arm]}
        self._composed: dict[tuple[tuple[str, Any], ...], Composed] = {}

    def base(self, point: Mapping[str, Any]) -> Composed:
        """The arm with the part of a point that chooses presets."""
        choosing = {name: value for name, value in point.items() if chooses_preset(name, value)}
        at = tuple(choosing.items())
        if at not in self._composed:
            values = without_references({**self.settings, **choosing})
            self._composed[at] = trace(self._target, layers=[Layer(self._origin, values)])
        return self._composed[at]

    def __call__(self, seed: int, point: Mapping[str, Any]) -> RunConfig:
        """The config of a run. Raises ConfigError."""
        rest = {name: value for name, value in point.items() if not chooses_preset(name, value)}
        return vary(self.base(point), without_references({"seed": seed, **rest}), self._origin)


def configs_of(sweep: Sweep, storage: Path) -> dict[str, dict[str, RunConfig]]:
    """A config by node and arm; a model that another node's run provides has that one's name, and so its size."""
    found: dict[str, dict[str, RunConfig]] = {}
    for node in sweep.nodes:
        found[node.name] = {}
        for arm in node.arms:
            configured = Configured(sweep, node, arm, storage)
            config = configured(node.seeds[0] if node.seeds else 0, {})
            for name, value in configured.settings.items():
                if (other := node_named(value)) and name.endswith(_MODEL):
                    roles = found[other].get(arm, next(iter(found[other].values()))).roles()
                    role = str(value).partition("@")[2]
                    if not roles.keys() & {role, POLICY}:
                        raise ConfigError(
                            f"runs.{node.name}: {name}={value}: the runs of {other} have no policy. Name a role: node:{other}@"
                            f"{next(iter(roles))}"
                        )
                    set_at(config, name, roles[role if role in roles else POLICY].name)
            found[node.name][arm] = config
    return found


def evaluated_by(sweep: Sweep, storage: Path) -> dict[str, RunConfig]:
    """A config by node, or node and arm, of the runs whose held-out tasks no training data of the sweep may touch.

    Left out are both ends of `data.failures: node:played`: what such a run evaluates comes out of the run that it names, which is still
    to come; and that one is no test but what others learn from.
    """
    configs = configs_of(sweep, storage)
    read = {
        (node.name, arm): _read_by({**node.settings, **node.arms[arm]}) for node in sweep.nodes for arm in node.arms
    }
    sources = set[str]().union(*read.values())
    return {
        f"{node}-{arm}".strip("-"): configs[node][arm]
        for (node, arm), others in read.items()
        if not others and node not in sources
    }


def _read_by(settings: Mapping[str, Any]) -> set[str]:
    """The nodes whose stored runs are read; those whose models are used are not among them."""
    return {other for name, value in settings.items() if (other := node_named(value)) and not name.endswith(_MODEL)}


def check_stages(sweep: Sweep, left: Sequence[Stage], nodes: Sequence[Machine], storage: Path) -> None:
    """Refuse a sweep before anything of it runs where a run of any of these stages could never fit. Raises PreflightError."""
    configs = configs_of(sweep, storage)
    for stage in left:
        try:
            at_once(plan_of(sweep, stage, storage), nodes)
            for arm in stage.node.arms if stage.arm is None else (stage.arm,):
                config = configs[stage.node.name][arm]
                check_memory(needs_of(config, gpu_memory_gb(config.cluster)))
        except PreflightError as error:
            raise PreflightError(f"stage {stage.name}: {error}") from error


def without_references(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with a model in place of each reference to a node, which passes every check that its run will."""
    return {
        name: value if node_named(value) is None else "mini" if name == "model.name" else f"hf:node/{node_named(value)}"
        for name, value in values.items()
    }


def _planned(
    sweep: Sweep,
    node: Node,
    arm: str,
    variations: Sequence[tuple[int, Mapping[str, Any]]],
    done: Sequence[Done],
    storage: Path,
) -> list[Planned]:
    """One run for each (seed, point)."""
    configured = Configured(sweep, node, arm, storage)
    target = (
        str(Path(node.target).expanduser().absolute())
        if node.target.endswith((".py", ".yaml", ".yml"))
        else node.target
    )
    planned = []
    for seed, point in variations:
        config, values = configured(seed, point), {**configured.settings, **point}
        for name, value in values.items():
            if node_named(value) is not None:
                set_at(config, name, _run_named(sweep, node, arm, seed, value, done))
        key = key_of(config)
        stored = find_by_key(storage, key)
        parts = [node.name, arm, f"s{seed}" if seed in node.seeds and len(node.seeds) > 1 else "", key]
        config.name = stored.name if stored else "-".join(filter(None, parts))
        # As the config has them: paths are absolute there, and a trial may be composed in another folder.
        given = dict.fromkeys(
            ["seed", "name", *values, *files_named(config), *(name for name, _ in functions_of(config))]
        )
        overrides = tuple(_override(name, value_at(config, name)) for name in given)
        planned.append(Planned(node.name, arm, seed, target, overrides, key, config.name))
    return planned


@lru_cache(maxsize=4096, typed=True)  # typed: 1 and true are equal
def _override(name: str, value: Any) -> str:
    """As on the command line. Most are the same for all runs, and YAML is slow."""
    return f"{name}={on_one_line(value)}"


def _run_named(sweep: Sweep, node: Node, arm: str, seed: int, reference: str, done: Sequence[Done]) -> str:
    """The reference to a stored run that a reference to a node stands for."""
    found = _REFERENCE.fullmatch(reference)
    assert found is not None
    of = next(other for other in sweep.nodes if other.name == found[1])
    run = _find(done, of.name, *source_run(of, arm, seed, node.name), user=node.name).run
    return f"run:{run}{found[2] or ''}"


def _find(done: Sequence[Done], node: str, arm: str, seed: int | None, user: str) -> Done:
    """The run of a node, or without a seed the winner of its search. Raises MissingRunError where it did not finish."""
    for run in done:
        if (run.node, run.arm) == (node, arm) and (run.winner if seed is None else not run.winner and run.seed == seed):
            return run
    what = "-".join(filter(None, (node, arm, "" if seed is None else f"s{seed}")))
    raise MissingRunError(f"runs.{user} needs {what}, which {'has no winner' if seed is None else 'did not finish'}.")
