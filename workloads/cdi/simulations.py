"""Settings -> configs by split -> the simulations that are played of them, whole or from a failure on."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.config.references import ModelReference, find_run
from orchestrator.errors import ConfigError, DataError
from orchestrator.values import Episode, Group, Task, Verdict, stable_hash
from workloads.cdi import mini_play, scripted, searched, world
from workloads.cdi.defences import Defence, Guarding, Instructing, Prompting
from workloads.cdi.failures import decision_of, environment_of, failure_of
from workloads.cdi.options import (
    NORMS,
    ORDINARY,
    SEARCHED,
    STRATEGIC,
    AttackConfig,
    CdiDataConfig,
    DefenceConfig,
    LoopConfig,
)
from workloads.cdi.scenario import ROLES, Scenario, read_scenarios
from workloads.cdi.setup import Setup
from workloads.cdi.simulation import Loop

ATTACK = "attack"
"""In the reference of a simulation: the attack that it is played under."""
AGAINST = "searched_against"
"""In that of one under a searched attack: the defence and the method that it was searched with."""
TRAIN, EVAL, TEST = "train", "eval", "test"
PERSUASION = scripted.STRATEGIES[1:]
"""The strategies that are more than asking."""


class Simulations:
    """What a run plays. storage: where the runs are that its settings name. searches: whether it searches attacks itself."""

    def __init__(
        self,
        data: CdiDataConfig,
        defence: DefenceConfig,
        attack: AttackConfig,
        loop: LoopConfig,
        storage: str,
        searches: bool = False,
    ) -> None:
        self._data, self._defence, self._attack, self._loop, self._storage = data, defence, attack, loop, storage
        self._searches = searches
        self.rows: Sequence[Mapping[str, Any]] = ()
        """What was gathered: configs that were written of norms, attacks or texts that were searched."""
        self._check()

    def _check(self) -> None:
        """Raises ConfigError for settings that do not go together."""
        data, attack = self._data, self._attack
        known = (ORDINARY, SEARCHED, *((STRATEGIC, *scripted.STRATEGIES) if self.mini else ()))
        for key in ("train", "held_out"):
            named = _names(getattr(attack, key))
            if not named:
                raise ConfigError(f"attack.{key} names no attack: use {', '.join(known)}.")
            for name in named:
                if name not in known:
                    raise ConfigError(
                        f"attack.{key}={name}: with data.source={data.source} use {', '.join(known)}. (Configs from files hold their "
                        "ordinary attack in the recipient's task.)"
                    )
        if SEARCHED in _names(f"{attack.train},{attack.held_out}") and not (attack.searched or self._searches):
            raise ConfigError("attack=searched needs attack.searched=run:NAME, the run whose attacks are taken.")
        if data.failures and self._defence.name not in (Instructing.name, Guarding.name):
            raise ConfigError("data.failures trains an instructor or a guard: set defence=cdi or defence=guarding.")
        if data.failures and data.collect:
            raise ConfigError(
                "data.collect plays what data.failures learns from: one run collects, another one learns."
            )
        if data.failures and self._defence.name == Guarding.name and not self._defence.blocks:
            raise ConfigError("defence.blocks=0 never asks the guard that is to be trained: let it be 1 or more.")
        if self._defence.text and self._defence.name != Prompting.name:
            raise ConfigError(
                f"defence.text is told to nobody with defence={self._defence.name}: drop it, or set defence=prompting."
            )

    @property
    def mini(self) -> bool:
        """Whether the configs are generated."""
        return self._data.source == "mini"

    # --- configs ---

    @cached_property
    def scenarios(self) -> Mapping[str, tuple[Scenario, ...]]:
        """By split."""
        data = self._data
        if self.mini:
            return self.generated(0)
        trained, tested = self._written()
        if len(trained) <= data.eval_groups:
            raise ConfigError(
                f"data.eval_groups={data.eval_groups} leaves none of the {len(trained)} configs to train on."
            )
        random.Random(stable_hash("held out", data.seed)).shuffle(trained)
        held_out, rest = trained[: data.eval_groups], trained[data.eval_groups :]
        return {EVAL: tuple(held_out), TRAIN: tuple(rest[: data.train_groups]), TEST: tuple(tested)}

    def _written(self) -> tuple[list[Scenario], Sequence[Scenario]]:
        """Configs to train on and to test on, of files or as models have written them."""
        data, tests = self._data, self._data.test_groups
        if data.source == NORMS:
            made = [Scenario.from_json(row["config"], str(row["id"])) for row in self.rows if "id" in row]
            return made[tests:], made[:tests]
        folder = Path(str(data.path)).expanduser()
        return list(read_scenarios(folder / TRAIN)), read_scenarios(folder / TEST)[:tests] if tests else ()

    def generated(self, further: int) -> Mapping[str, tuple[Scenario, ...]]:
        """The miniature's configs, and `further` ones ("warmup") of which no simulation is played."""
        data = self._data
        counts = {TRAIN: data.train_groups, EVAL: data.eval_groups, TEST: data.test_groups, "warmup": further}
        return world.make_scenarios(counts, data.seed)

    # --- tasks ---

    def tasks(self, split: str) -> list[Task]:
        """Of "train", "eval" or "test". Raises ConfigError, DataError."""
        if self._data.failures and split != TEST:
            return self._environments[split]
        played = [(scenario, _names(self._named(split))) for scenario in self.scenarios[split]]
        if self._data.collect and split == EVAL:
            played += [(scenario, _names(self._attack.train)) for scenario in self.scenarios[TRAIN]]
        # The guard of a sweep reads the tasks of runs that have not searched yet.
        missing = {SEARCHED} if self._searches and not self.rows else set()
        return [
            self._simulation(scenario, attack)
            for scenario, attacks in played
            for attack in attacks
            if attack not in missing
        ]

    def _named(self, split: str) -> str:
        collected = split == EVAL and self._data.collect
        return self._attack.train if split == TRAIN or collected else self._attack.held_out

    @cached_property
    def defence(self) -> Defence:
        """With the text that a search found, where the settings name its run."""
        defence, text = self._defence.made(), self._defence.text
        if not isinstance(defence, Prompting):
            return defence
        mine: Sequence[Mapping[str, Any]] = [row for row in self.rows if searched.TEXT in row]
        if text.startswith("run:") and not mine:
            mine = searched.rows_of(text, "defence.text", self._storage, searched.TEXT)
        return replace(defence, text=searched.best_text(mine)) if mine else defence

    def _simulation(self, scenario: Scenario, attack: str) -> Task:
        """One config under one attack, which says against which defence it was searched."""
        further: dict[str, Any] = {ATTACK: attack}
        asked: Sequence[str]
        if attack == SEARCHED:
            row = self._found(scenario)
            asked = tuple(row["attack"]) if self.mini else (row["attack"],)
            further[AGAINST] = {name: row[name] for name in ("defence", "method")}
        else:
            asked = self._strategies(scenario, attack) if self.mini else self.ordinary(scenario)
        setup = self.attacked(scenario, asked, self.defence)
        # Without the defence: the same simulation under another one is compared with it, and draws the same.
        return setup.task(f"{scenario.id}/{attack}", **further)

    def attacked(self, scenario: Scenario, attack: Sequence[str], defence: Defence) -> Setup:
        """A config under an attack: the recipient's strategies, one a cycle, or (real configs) its one task."""
        if self.mini:
            return mini_play.setup_of(scenario, defence, attack)
        (task,) = attack
        return Setup(scenario.attacked(task), defence, loop=self._real_loop)

    def ordinary(self, scenario: Scenario) -> tuple[str, ...]:
        """How a recipient asks by itself."""
        return (scripted.PLAIN,) * self._attack.cycles if self.mini else (scenario.recipient.task,)

    @property
    def _real_loop(self) -> Loop:
        loop = self._loop
        return Loop(
            steps=loop.steps,
            cycles=loop.cycles,
            cycle_steps=loop.cycle_steps,
            attempts=loop.attempts,
            thinks=ROLES if loop.thinks else (),
            scripted_subject=loop.scripted_subject,
        )

    def _strategies(self, scenario: Scenario, attack: str) -> Sequence[str]:
        """The recipient's, one a cycle."""
        cycles = self._attack.cycles
        if attack == ORDINARY:
            return self.ordinary(scenario)
        if attack == STRATEGIC:
            return random.Random(stable_hash("strategic", self._data.seed, scenario.id)).sample(PERSUASION, cycles)
        return [attack] * cycles

    def _found(self, scenario: Scenario) -> Mapping[str, Any]:
        """What a search found for a config: this run's own, or that of the run that the settings name."""
        where = "the search" if self._searches else f"attack.searched={self._attack.searched}"
        return searched.attack_on(scenario, self._attacks, where)

    @cached_property
    def _attacks(self) -> Mapping[str, Mapping[str, Any]]:
        rows: Sequence[Mapping[str, Any]] = [row for row in self.rows if searched.ATTACKED in row]
        if not self._searches:
            rows = searched.rows_of(str(self._attack.searched), "attack.searched", self._storage, searched.ATTACKED)
        return {str(row["config_id"]): row for row in rows}

    @cached_property
    def _environments(self) -> Mapping[str, list[Task]]:
        """The failures of a stored run, by the split of their config in this one: none is on both sides."""
        split_of = {one.id: split for split in (TRAIN, EVAL) for one in self.scenarios[split]}
        found: dict[str, list[Task]] = {TRAIN: [], EVAL: []}
        for group in self._stored():
            for episode, verdict in zip(group.episodes, group.verdicts, strict=True):
                split = split_of.get(episode.task.reference["config_id"])
                if split and (task := self._goes_on(episode, verdict)):
                    found[split].append(task)
        if not found[TRAIN]:
            raise ConfigError(
                f"data.failures={self._data.failures}: nothing leaked there of this run's training configs. Collect with them "
                "(data.collect=true), under another attack or defence."
            )
        random.Random(stable_hash("failures", self._data.seed)).shuffle(found[EVAL])
        del found[EVAL][self._data.most_failures :]
        return found

    def _goes_on(self, episode: Episode, verdict: Verdict) -> Task | None:
        """What a stored simulation leaves to whoever watches."""
        if isinstance(self.defence, Guarding):
            return decision_of(episode, verdict, self.defence)
        number = failure_of(verdict, self._data.failure_mode)
        return None if number is None else environment_of(episode, number, self.defence)

    @cached_property
    def scenarios_by_id(self) -> Mapping[str, Scenario]:
        """All of this run's."""
        return {one.id: one for mine in self.scenarios.values() for one in mine}

    def _stored(self) -> Iterator[Group]:
        """The groups that the run of data.failures played whole at its beginning. Raises ConfigError, and DataError for a config that
        has the id of one of this run's and is another."""
        # With Parquet's library, which planning does without.
        from orchestrator.records import episodes
        from orchestrator.records.folder import RunFolder

        where, reference = f"data.failures={self._data.failures}", ModelReference.parse(str(self._data.failures))
        if reference.kind != "run":
            raise ConfigError(f"{where}: name a run of this workload, run:NAME.")
        folder = RunFolder(find_run(reference.value, self._storage))
        groups = [group for split in (EVAL, TEST) for group in episodes.read_groups(folder, split, 0)]
        if not groups:
            raise ConfigError(f"{where}: that run has stored no simulations of its step 0. Let it finish.")
        for group in groups:
            told = group.episodes[0].task.reference
            if "config_id" not in told or "resume" in told:
                raise ConfigError(
                    f"{where}: that run played no whole simulations. Name one that did (data.collect=true steps=0)."
                )
            mine = self.scenarios_by_id.get(str(told["config_id"]))
            if mine is not None and mine.to_json() != told["config"]:
                raise DataError(
                    f"{where}: its config {mine.id} is another one than this run's. Give both the same data settings."
                )
            yield group


def split_names(listed: str) -> list[str]:
    """The splits in a setting with commas. Raises ConfigError for one that there is not."""
    names = _names(listed)
    if not names or set(names) - {TRAIN, EVAL, TEST}:
        raise ConfigError(f"search.splits={listed}: name some of {TRAIN}, {EVAL}, {TEST}, with commas.")
    return names


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]
