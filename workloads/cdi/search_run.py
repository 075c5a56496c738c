"""What runs have in common that search before they play: attacks (`cdi.attacks`), texts in the sender's task (`cdi.prompts`).

There is no RL: the search is what is gathered, of models that are served side by side; what it found stands in the run's labels.jsonl,
and the run then evaluates it as any run of `cdi` evaluates simulations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from orchestrator.config.schema import ServedConfig, group, setting
from orchestrator.errors import ConfigError
from orchestrator.values import JUDGE, Gathered, Sampling
from workloads import cdi
from workloads.base import Gathering
from workloads.cdi.environment import SimulationEnvironment
from workloads.cdi.optimiser import OPTIMISER, Brief, Optimiser
from workloads.cdi.options import OptimiserConfig
from workloads.cdi.playing import Asking, Stage


@dataclass
class SearchRunConfig(cdi.Config):
    """A run that searches."""

    gathers_at_once: ClassVar[bool] = True

    steps: int = setting(0, "There is no RL: 0.", low=0, high=0)
    optimiser: OptimiserConfig = group(OptimiserConfig, "Who writes what is tried next.")

    @property
    def optimised(self) -> bool:
        """Whether the optimiser is asked."""
        return True

    def asked(self) -> dict[str, ServedConfig]:
        """The models that the search asks, named or not."""
        judge: dict[str, ServedConfig] = {} if self.mini else {JUDGE: self.judge}
        return {**self.agents(), **judge, **({OPTIMISER: self.optimiser} if self.optimised else {})}

    def gathers(self) -> dict[str, ServedConfig]:
        """Those of the search and those that make configs; nobody while one is not named (`unnamed`)."""
        return {} if self.unnamed() else super().gathers() | self.asked()

    def unnamed(self) -> list[str]:
        """The models of the search that are to be built on the spot: there is nothing to ask before they are taught."""
        return [role for role, served in self.asked().items() if served.name == "mini"]


class SearchWorkload(cdi.Workload):
    """A workload whose runs search."""

    config: SearchRunConfig

    def gather(self) -> Gathering:
        """Configs, where they are made of norms, and then the search. Raises ConfigError where a model is not named."""
        if unnamed := self.config.unnamed():
            role = unnamed[0]
            raise ConfigError(
                f"{role}=mini: the search asks the {role} before anything is taught. Name one that is there, such as {role}="
                f"run:NAME@{role}, hf:ID or a URL"
                + (" (watcher: by default what model names)." if role == "watcher" else ".")
            )
        made = yield from super().gather()
        rows = list(made.rows) if made else []
        self.simulations.rows = rows
        found = yield from self.search()
        return Gathered([*rows, *found], self.told(found))

    @abstractmethod
    def search(self) -> Asking[list[dict[str, Any]]]:
        """The rows of what was found."""
        ...

    @abstractmethod
    def told(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """A line about them."""
        ...

    def stage(self, watcher: Mapping[str, Sampling]) -> Stage:
        """Where simulations are played. watcher: how whoever watches is sampled, by role."""
        usual, config = self.environment(), self.config
        environment = SimulationEnvironment({**usual.samplings, **watcher}, usual.structured)
        return Stage(environment, self.judges[0], config.judge.retries, config.seed)

    def optimiser(self, brief: Brief) -> Optimiser:
        """The model that searches."""
        return Optimiser(brief, self.config.optimiser.sampling, self.config.seed)
