"""What a sweep is: a graph of runs, some of which are searched for. Values only; `sweep.reading` makes them from YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["grid", "choice", "times", "uniform", "loguniform", "int"]


@dataclass(frozen=True, slots=True)
class Range:
    """What a search may set one key to. values: of grid and choice. low, high: of the others, both included. `times`, multiples of
    what the key has without the search, is made a choice when a sweep is read.

    when: the range is searched only where these settings have these values (a condition on the method, say).
    """

    key: str
    kind: Kind
    values: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    when: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tuning:
    """How an arm's settings are searched: the same for every arm of a node, so that all have the same budget.

    searcher: `grid` tries every combination; `random` and `optuna` (TPE) try `trials`. scheduler: `asha` stops the worse ones early,
    `pbt` has them copy the better ones' checkpoints and settings every `every_steps`. trials: points, each of which is tried with
    `repeats` seeds from `seed` on, apart from the seeds on which the winner is run. hours, gpu_hours: of an arm; no further trial
    starts once they are spent. grace_steps: before which ASHA stops nothing; reduction: of how many it keeps one.
    """

    trials: int = 8
    searcher: Literal["grid", "random", "optuna"] = "optuna"
    scheduler: Literal["none", "asha", "pbt"] = "none"
    seed: int = 1000
    repeats: int = 1
    hours: float | None = None
    gpu_hours: float | None = None
    grace_steps: int = 5
    reduction: int = 3
    every_steps: int = 10

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of every point."""
        return tuple(range(self.seed, self.seed + self.repeats))


@dataclass(frozen=True, slots=True)
class Node:
    """Runs that differ by arm and seed alone; where `search` is given, the best settings of each arm are found first.

    target: what `orchestrate train` would be given. settings: by dotted key. arms: settings by the arm's name; one without a name
    ("") where there is nothing to compare. seeds: none where the search itself is all that is wanted. inputs: names of
    nodes whose runs the settings refer to as `node:NAME`.
    """

    name: str
    target: str
    settings: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    seeds: tuple[int, ...]
    search: tuple[Range, ...] = ()
    tuning: Tuning | None = None
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sweep:
    """nodes: each after its inputs. metric, mode: what a winner is chosen by. at_once: a bound on trials side by side."""

    name: str
    nodes: tuple[Node, ...]
    metric: str = "eval/oracle"
    mode: Literal["max", "min"] = "max"
    about: str = ""
    at_once: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """What is run side by side: the runs of a node (`arm` None), or the search of one arm."""

    node: Node
    arm: str | None = None

    @property
    def name(self) -> str:
        """No two stages share it: the names of nodes and arms hold no blanks."""
        return self.node.name if self.arm is None else " ".join(filter(None, (self.node.name, self.arm, "search")))


@dataclass(frozen=True, slots=True)
class Planned:
    """One run of a stage that is ready to start: every reference names a stored run. key: of its content (`sweep.keys`)."""

    node: str
    arm: str
    seed: int
    target: str
    overrides: tuple[str, ...]
    key: str
    name: str


@dataclass(frozen=True, slots=True)
class Done:
    """A run that finished and others may be given. run: `workload/name`. point: what a search set.

    winner: the best trial of an arm's search; trials that did not win are nobody's input and are not kept as `Done`.
    """

    node: str
    arm: str
    seed: int
    run: str
    point: Mapping[str, Any] = field(default_factory=dict)
    winner: bool = False
