"""From YAML, or a range of seeds, to a sweep. All that can be wrong with any of its runs is told at once, before one starts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from orchestrator.config.checks import RUN_NAME
from orchestrator.config.compose import problems_of, trace, workload_of
from orchestrator.config.keys import Key, keys_of, value_at
from orchestrator.config.layers import Layer, layer_of, read_overrides, read_yaml
from orchestrator.config.own_code import shown_path
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.sweep import forms
from orchestrator.sweep.graph import Configured, node_named, single_points, source_run, without_references
from orchestrator.sweep.space import grid, read_ranges
from orchestrator.sweep.spec import Node, Range, Sweep, Tuning

PROJECT = Path(__file__).parents[2]
SEEDS = re.compile(r"(\d+)\.\.(\d+)")

NAMES = "use letters, digits and . _ + = , -"

_RESERVED = {
    "name": "runs are named by node, arm, seed and key; the sweep's own name is its file's, or name=… on the command line",
    "seed": "write seeds: 0..3 in the node (of a search: tuning.seed)",
    "storage": "give it as --storage FOLDER",
}
"""Settings that a sweep makes itself -> what to write instead."""

_PROXIES = ("reward/", "eval/judge", "eval/reward")
"""Metrics of what a run is trained against."""


def read_sweep(name_or_path: str, overrides: Sequence[str] = ()) -> Sweep:
    """The sweep of a YAML: a path, or the name of one in `sweeps/` of this folder or of the project.

    overrides: `key=value`, settings of all runs in place of those that the file gives to all; what a node, an arm or a search says
    of itself stays (`steps: 0` of a run that only teaches). name=… names the sweep, seeds=0..4 takes the place of all nodes' seeds
    that are several. Raises ConfigError with all that is wrong, and where.
    """
    path = _find(name_or_path)
    name, settings = _own_name(overrides)
    seeds, settings = _own("seeds", settings)
    chosen = read_seeds(int(seeds) if seeds.isdecimal() else seeds) if seeds is not None else None
    if seeds is not None and chosen is None:
        raise ConfigError(f"seeds={seeds} (command line): write seeds=0..3, or a single whole number.")
    return _Reader(shown_path(path), settings, chosen).sweep(read_yaml(path), name or path.stem)


def sweep_of_seeds(target: str, overrides: Sequence[str], seeds: Sequence[int]) -> Sweep:
    """The sweep of one node that runs a target with each seed, named by name=… or else by workload and preset.

    Raises ConfigError.
    """
    name, settings = _own_name(overrides)
    composed = trace(target, settings)
    node = name or composed.config.preset
    written = {"target": target, "runs": {node: {"seeds": list(seeds)}}}
    return _Reader("command line", settings).sweep(written, name or f"{composed.source.name}-{node}")


def read_seeds(written: Any) -> tuple[int, ...] | None:
    """The seeds of `0..3`, of a list or of a single number; None for anything else."""
    if isinstance(written, str) and (found := SEEDS.fullmatch(written)):
        return tuple(range(int(found[1]), int(found[2]) + 1)) or None
    seeds = written if isinstance(written, list) else [written]
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0 for seed in seeds)
    return tuple(dict.fromkeys(seeds)) if whole and seeds else None


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        return Path(name_or_path).expanduser()
    folders = [Path.cwd() / "sweeps", PROJECT / "sweeps"]
    for folder in folders:
        if (path := folder / f"{name_or_path}.yaml").is_file():
            return path
    there = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    nearest = difflib.get_close_matches(name_or_path, there, n=1)
    hint = f"Did you mean {nearest[0]}?" if nearest else f"There are: {', '.join(there) or 'none'}."
    raise ConfigError(f"No sweep is named {name_or_path!r} in sweeps/. {hint} One's own is given as a .yaml file.")


def _own(key: str, overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """(what key=… says, the other overrides)."""
    said = [text.removeprefix(f"{key}=") for text in overrides if text.startswith(f"{key}=")]
    return said[-1] if said else None, [text for text in overrides if not text.startswith(f"{key}=")]


def _own_name(overrides: Sequence[str]) -> tuple[str | None, list[str]]:
    """(what name=… says, the other overrides). Raises ConfigError where it is no folder's name."""
    name, others = _own("name", overrides)
    if name is not None and not RUN_NAME.fullmatch(name):
        raise ConfigError(f"name={name}: a sweep is kept in a folder of its name; {NAMES}")
    return name, others


@dataclass(slots=True)
class _Written:
    """A node as it was read. configs: by arm, with stand-ins for what it refers to. mentioned: references in it. given: keys of the
    command line; taken: those of them that no setting of its own hides."""

    node: Node
    configs: Mapping[str, RunConfig]
    mentioned: Sequence[str]
    given: Set[str]
    taken: Set[str]


@dataclass(slots=True)
class _Reader:
    """Reads one sweep; what is wrong is kept, to be told together. place: the file. overrides: of the command line, each for the nodes
    whose runs have such a setting. seeds: in place of those of nodes that have several. keys: the settings of all nodes."""

    place: str
    overrides: Sequence[str]
    seeds: tuple[int, ...] | None = None
    problems: list[str] = field(default_factory=list)
    keys: dict[str, Key] = field(default_factory=dict)

    def sweep(self, written: Mapping[str, Any], name: str) -> Sweep:
        top = self._form(written, forms.SWEEP, self.place)
        runs = top.get("runs") or {}
        if not runs:
            self.problems.append(f"{self.place}, runs: names no run; write runs: {{NAME: {{seeds: 0..2}}}}.")
        read = [self._node(str(node), content, top) for node, content in runs.items()]
        nodes = self._in_order([item for item in read if item is not None])
        self._check_metric(top, nodes)
        self.problems += read_overrides(self.overrides, self.keys).problems
        self._check_overrides([item for item in read if item is not None])
        self._raise()
        known = {key: top[key] for key in ("metric", "mode", "about", "at_once") if key in top}
        sweep = Sweep(name, tuple(nodes), **known)
        for node in nodes:
            self._try_points(sweep, node)
        self._raise()
        return sweep

    def _raise(self) -> None:
        told = list(dict.fromkeys(self.problems))
        if len(told) == 1:
            raise ConfigError(told[0])
        if told:
            raise ConfigError(
                f"{len(told)} things are wrong with the sweep:\n" + "\n".join(f"  - {text}" for text in told)
            )

    def _form(self, written: Any, form: Mapping[str, Any], place: str) -> dict[str, Any]:
        good, problems = forms.read(written, form, place)
        self.problems += problems
        return good

    def _node(self, name: str, written: Any, top: Mapping[str, Any]) -> _Written | None:
        place = f"{self.place}, runs.{name}"
        if not RUN_NAME.fullmatch(name):
            self.problems.append(f"{place}: runs are kept in folders of its name; {NAMES}")
        parts = self._form(written or {}, forms.NODE, place)
        target = parts.get("target") or top.get("target")
        if target is None:
            self.problems.append(f"{place}: nothing says what is run; write target: rlvr, here or for all runs.")
            return None
        try:
            keys = keys_of(workload_of(target).config)
        except ConfigError as error:
            self.problems.append(f"{place}, target: {error}")
            return None
        self.keys |= keys
        mine = [text for text in self.overrides if text.partition("=")[0].strip() in keys]
        layers = [
            layer_of(top.get("settings", {}), keys, f"{self.place}, settings"),
            read_overrides(mine, keys),
            layer_of(parts.get("settings", {}), keys, f"{place}.settings"),
        ]
        arms = {}
        for arm, content in (parts.get("arms") or {"": {}}).items():
            if not RUN_NAME.fullmatch(str(arm)) and "arms" in parts:
                self.problems.append(f"{place}.arms.{arm}: runs are kept in folders of its name; {NAMES}")
            if not isinstance(content or {}, Mapping):
                self.problems.append(
                    f"{place}.arms.{arm}={content}: must be a mapping of settings, as in {{steps: 40}}."
                )
                content = {}
            arms[str(arm)] = layer_of(content or {}, keys, f"{place}.arms.{arm}")
        settings = {key: value for layer in layers for key, value in layer.values.items()}
        node = Node(name, target, settings, {arm: layer.values for arm, layer in arms.items()}, ())
        configs = {arm: config for arm, layer in arms.items() if (config := self._composed(target, [*layers, layer]))}
        search, tuning = self._search(node, parts, keys, place, configs)
        seeds = read_seeds(parts["seeds"]) if "seeds" in parts else () if search else (0,)
        if self.seeds and seeds and len(seeds) > 1:
            seeds = self.seeds
        if seeds is None:
            self.problems.append(f"{place}, seeds={parts['seeds']}: write 0..3, or a list of whole numbers.")
        elif tuning and (shared := set(tuning.seeds) & set(seeds)):
            self.problems.append(
                f"{place}.tuning, seed={min(shared)}: is one of seeds, on which the winner must not have been chosen. Take another."
            )
        mentioned = list(_references(node, search))
        inputs = tuple(dict.fromkeys(str(node_named(value)) for value in mentioned))
        node = replace(node, seeds=seeds or (), search=search, tuning=tuning, inputs=inputs)
        own = {*layers[2].values, *set.intersection(*(set(layer.values) for layer in arms.values()))}
        own |= {item.key for item in search if "times" not in parts["search"].get(item.key, ())}
        given = layers[1].values.keys()
        return _Written(node, configs, mentioned, given, given - own)

    def _composed(self, target: str, layers: Sequence[Layer]) -> RunConfig | None:
        """The config of an arm, if nothing is wrong with it."""
        self.problems += [
            f"{key} ({layer.origin}): {_RESERVED[key]}." for layer in layers for key in _RESERVED if key in layer.values
        ]
        passing = [replace(layer, values=without_references(layer.values)) for layer in layers]
        try:
            return trace(target, layers=passing).config
        except ConfigError as error:
            self.problems += problems_of(error)
            return None

    def _search(
        self,
        node: Node,
        parts: Mapping[str, Any],
        keys: Mapping[str, Key],
        place: str,
        configs: Mapping[str, RunConfig],
    ) -> tuple[tuple[Range, ...], Tuning | None]:
        if "search" not in parts:
            if "tuning" in parts:
                self.problems.append(
                    f"{place}, tuning: there is no search here; write search: {{KEY: {{choice: […]}}}}."
                )
            return (), None
        ranges, problems = read_ranges(parts["search"], keys, place)
        if configs:
            ranges = [self._multiplied(item, configs, place) for item in ranges]
        written = self._form(parts.get("tuning", {}), forms.TUNING, f"{place}.tuning")
        if written.get("scheduler") == "pbt":
            written.setdefault("searcher", "random")
        tuning = Tuning(**written)
        for arm, settings in node.arms.items():
            there = node.settings.keys() | settings.keys() | {item.key for item in ranges}
            problems += [
                f"{place}, search.{item.key}: it waits for {name}, which {f'arm {arm}' if arm else 'the node'} does not set."
                for item in ranges
                for name in item.when.keys() - there
            ]
        problems += [f"{place}, search.{item.key}: {_RESERVED[item.key]}." for item in ranges if item.key in _RESERVED]
        readable = not problems and all(item.kind != "times" for item in ranges)
        if tuning.searcher == "grid" and readable:
            tuning = self._grid(node, ranges, tuning, written.get("trials"), f"{place}.tuning")
        if tuning.scheduler == "pbt" and (tuning.searcher != "random" or tuning.trials < 2):
            problems.append(
                f"{place}.tuning: pbt has at least 2 trials learn from each other: trials: 4, searcher: random."
            )
        if tuning.scheduler != "none" and tuning.repeats > 1:
            problems.append(
                f"{place}.tuning, repeats={tuning.repeats}: {tuning.scheduler} compares single runs. Leave one of them out."
            )
        self.problems += problems
        return tuple(ranges), tuning

    def _multiplied(self, item: Range, configs: Mapping[str, RunConfig], place: str) -> Range:
        """Multiples of what a key has without the search, as the values that they are."""
        if item.kind != "times":
            return item
        bases = {arm: value_at(config, item.key) for arm, config in configs.items()}
        base = next(iter(bases.values()))
        if not isinstance(base, (int, float)) or isinstance(base, bool) or len(set(bases.values())) > 1:
            told = ", ".join(f"{arm} {value}".strip() for arm, value in bases.items())
            self.problems.append(
                f"{place}, search.{item.key}: multiples are of one number, which all arms have, and it is {told}. Write the values: "
                "{choice: […]}."
            )
        else:
            # Without the last digits of a product, which nobody would write and which are part of a run's key.
            item = replace(item, kind="choice", values=tuple(float(f"{base * factor:.6g}") for factor in item.values))
        return item

    def _grid(self, node: Node, ranges: Sequence[Range], tuning: Tuning, trials: int | None, place: str) -> Tuning:
        try:
            sizes = {arm: len(grid(ranges, {**node.settings, **settings})) for arm, settings in node.arms.items()}
        except ConfigError as error:
            self.problems.append(f"{place}: {error}")
            return tuning
        size = next(iter(sizes.values()))
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{arm} {count}" for arm, count in sizes.items())
            self.problems.append(
                f"{place}: the grids differ in size ({told}), and what is compared gets the same number of trials. Even them out, or "
                "take searcher: random."
            )
        elif trials not in (None, size):
            self.problems.append(f"{place}, trials={trials}: the grid has {size} points. Leave it out.")
        return replace(tuning, trials=size)

    def _in_order(self, read: Sequence[_Written]) -> list[Node]:
        """The nodes, each after its inputs."""
        named = {item.node.name: item for item in read}
        for item in read:
            for text in item.mentioned:
                self._check_reference(item.node, text, named)
        inputs = {name: [other for other in item.node.inputs if other in named] for name, item in named.items()}
        try:
            return [named[name].node for name in TopologicalSorter(inputs).static_order()]
        except CycleError as error:
            self.problems.append(f"{self.place}, runs: {' needs '.join(reversed(error.args[1]))}, which cannot be.")
            return [item.node for item in read]

    def _check_reference(self, node: Node, text: str, named: Mapping[str, _Written]) -> None:
        place = f"{self.place}, runs.{node.name}: {text}"
        of = named.get(str(node_named(text)))
        if of is None:
            nearest = difflib.get_close_matches(str(node_named(text)), named, n=1)
            hint = f"Did you mean node:{nearest[0]}?" if nearest else f"There are: {', '.join(named)}."
            self.problems.append(f"{place}: there is no such node. {hint}")
            return
        suffix = text.partition("@")[2]
        roles = {role for config in of.configs.values() for role in config.roles()}
        if suffix and not suffix.isdecimal() and roles and suffix not in roles:
            self.problems.append(
                f"{place}: write node:NAME, node:NAME@STEP or node:NAME@ROLE ({', '.join(sorted(roles))})."
            )
        seeds = (*node.seeds, *(node.tuning.seeds if node.tuning else ()))
        for arm in node.arms:
            for seed in seeds:
                try:
                    source_run(of.node, arm, seed, node.name)
                except ConfigError as error:
                    self.problems.append(f"{self.place}, {error}")
                    return

    def _check_metric(self, top: Mapping[str, Any], nodes: Sequence[Node]) -> None:
        metric = top.get("metric", "")
        if metric.startswith(_PROXIES) and any(node.search for node in nodes) and not top.get("judge_chooses"):
            self.problems.append(
                f"{self.place}, metric={metric}: the training judge would choose the run that exploits it best. Take a gold metric "
                "(eval/oracle), or say judge_chooses: true where nothing else is known."
            )
        at_once = top.get("at_once", 2)
        if at_once < 2 and any(node.tuning and node.tuning.scheduler == "pbt" for node in nodes):
            self.problems.append(f"{self.place}, at_once={at_once}: pbt needs at least 2 trials side by side.")

    def _check_overrides(self, read: Sequence[_Written]) -> None:
        """What the command line sets must be a setting of some run."""
        hidden = {key for item in read for key in item.given} - {key for item in read for key in item.taken}
        self.problems += [
            f"{key} (command line): every node has its own, in its settings, arms or search. Change it in {self.place}."
            for key in sorted(hidden)
        ]

    def _try_points(self, sweep: Sweep, node: Node) -> None:
        """Every value that a search may set must be one that a run takes."""
        for arm in node.arms:
            configured = Configured(sweep, node, arm, Path("runs"))
            for point in single_points(node.search, configured.settings):
                try:
                    configured(0, point)
                except ConfigError as error:
                    self.problems += [f"{self.place}, runs.{node.name}.search: {text}" for text in problems_of(error)]


def _references(node: Node, search: Sequence[Range]) -> Iterator[str]:
    values = [*node.settings.values(), *(value for arm in node.arms.values() for value in arm.values())]
    values += [value for item in search for value in item.values]
    yield from dict.fromkeys(value for value in values if node_named(value) is not None)
