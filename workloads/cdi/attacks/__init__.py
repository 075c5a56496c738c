"""Attacks on a defended agent: for each held-out config what its recipient should be told so that most leaks earliest (arXiv
2603.02983, strategic and new attacks; 2508.10880).

    orchestrate train cdi.attacks model=run:NAME sender=run:NAME@sender defence=cdi
    orchestrate train cdi attack.held_out=searched attack.searched=run:NAME

The search runs against the sender with its defence on, before anything else (`search_run`); the run then plays what was found against
that same defence, and other runs play it against theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, ClassVar

from orchestrator.config.schema import ServedConfig, group, setting
from orchestrator.errors import ConfigError
from orchestrator.values import Sampling
from workloads.cdi import scripted
from workloads.cdi.attacks.searching import ABOUT, ANALYSIS, METHODS, OPTIMISED, Arena, AttackSearchConfig
from workloads.cdi.defences import Guarding, Instructing
from workloads.cdi.optimiser import Brief, Form, FreeText, Listed
from workloads.cdi.options import ORDINARY, SEARCHED, AttackConfig
from workloads.cdi.playing import Asking
from workloads.cdi.search_run import SearchRunConfig, SearchWorkload
from workloads.cdi.simulations import EVAL, TEST, split_names

WATCHER, THE_MODEL = "watcher", "model"
MOST_WORDS = 50
"""Of a recipient's task (published)."""


@dataclass
class WatcherConfig(ServedConfig):
    """Who instructs or guards while attacks are searched."""

    name: str = setting(
        THE_MODEL, "`model`, what the run's own model names; `hf:ID`, `path:FOLDER`, `run:NAME@STEP` or a URL."
    )


@dataclass
class SearchedAttackConfig(AttackConfig):
    """How the recipient asks once the search is done."""

    held_out: str = setting(f"{ORDINARY},{SEARCHED}", "Attacks on held-out configs, with commas.")


@dataclass
class Config(SearchRunConfig):
    """A run of this workload."""

    searches: ClassVar[bool] = True

    attack: SearchedAttackConfig = group(SearchedAttackConfig, "How the recipient asks once the search is done.")
    search: AttackSearchConfig = group(AttackSearchConfig, "How attacks are searched.")
    watcher: WatcherConfig = group(WatcherConfig, "Who instructs or guards in the search.")

    @property
    def optimised(self) -> bool:
        """By its method alone."""
        return self.search.method == OPTIMISED

    def asked(self) -> dict[str, ServedConfig]:
        """Whoever watches too, where the defence has one: by default with the servers of the policy."""
        if self.defence.name not in (Instructing.name, Guarding.name):
            return super().asked()
        mine = replace(self.watcher, name=self.model.name, model=self.model, fleet=self.rollout.fleet)
        return {**super().asked(), WATCHER: mine if self.watcher.name == THE_MODEL else self.watcher}


class Workload(SearchWorkload):
    """Implements `workloads.base.Workload` and `Gatherer`."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if not config.optimised and not config.mini:
            raise ConfigError(
                f"search.method={config.search.method}: real configs have no strategies to choose from. Set search.method={OPTIMISED}."
            )
        splits = split_names(config.search.splits)
        played = [EVAL, *([TEST] if config.data.test_groups else [])]
        if not set(splits) - ({TEST} - set(played)):
            raise ConfigError("search.splits=test searches nothing with data.test_groups=0: set one of them.")
        if SEARCHED in config.attack.held_out and not set(played) <= set(splits):
            raise ConfigError(
                f"search.splits={config.search.splits}: the run then plays what was found on {' and '.join(played)}. Search all of "
                "them, or set attack.held_out=ordinary."
            )

    @property
    def form(self) -> Form:
        """What an attack is: the recipient's task, or its strategies."""
        cycles = self.config.attack.cycles
        return Listed(scripted.STRATEGIES, cycles, cycles) if self.config.mini else FreeText(MOST_WORDS)

    def search(self) -> Asking[list[dict[str, Any]]]:
        """A row a config."""
        config, simulations = self.config, self.simulations
        defence = simulations.defence
        watched = replace(defence, role=WATCHER)
        arena = Arena(
            self.stage({WATCHER: Sampling(config.rollout.max_completion_tokens, config.rollout.temperature)}),
            lambda scenario, attack: simulations.attacked(scenario, attack, watched),
            simulations.ordinary,
            self.form,
            config.search,
            self.optimiser(Brief(ABOUT, ANALYSIS, "task", self.form)),
        )
        scenarios = [one for split in split_names(config.search.splits) for one in simulations.scenarios[split]]
        found = yield from METHODS[config.search.method](scenarios, arena)
        return [one.row(defence.to_json(), config.search.method, self.form) for one in found]

    def told(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """How well they leak, and at what price."""
        lost = sum(row["lost"] for row in rows)
        return (
            f"attacks on {len(rows):,} configs, mean leak score {fmean(row['leak_score'] for row in rows):.2f}, by "
            f"{sum(row['simulations'] for row in rows):,} simulations" + (f", {lost:,} of them lost" if lost else "")
        )
