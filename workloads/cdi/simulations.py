"""Settings -> configs by split -> the simulations that are played of them, whole or from a failure on."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from orchestrator.config.references import ModelReference, find_run
from orchestrator.errors import ConfigError, DataError
from orchestrator.values import Episode, Group, Scored, Task, Verdict, stable_hash
from workloads.cdi import mini_play, scripted, world
from workloads.cdi.defences import Guarding, Instructing
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
from workloads.cdi.scenario import RECIPIENT, ROLES, Scenario, read_scenarios
from workloads.cdi.setup import Setup
from workloads.cdi.simulation import Loop

ATTACK = "attack"
"""In the reference of a simulation: the attack that it is played under."""
TRAIN, EVAL, TEST = "train", "eval", "test"
PERSUASION = scripted.STRATEGIES[1:]
"""The strategies that are more than asking."""


class Simulations:
    """What a run plays. storage: where the runs are that its settings name."""

    def __init__(
        self, data: CdiDataConfig, defence: DefenceConfig, attack: AttackConfig, loop: LoopConfig, storage: str
    ) -> None:
        self._data, self._defence, self._attack, self._loop, self._storage = data, defence, attack, loop, storage
        self.rows: Sequence[Mapping[str, Any]] = ()
        """What was written of norms."""
        self._check()

    def _check(self) -> None:
        """Raises ConfigError for settings that do not go together."""
        data, attack = self._data, self._attack
        known = (ORDINARY, *((STRATEGIC, SEARCHED, *scripted.STRATEGIES) if self.mini else ()))
        for key in ("train", "held_out"):
            for name in _names(getattr(attack, key)):
                if name not in known:
                    raise ConfigError(
                        f"attack.{key}={name}: with data.source={data.source} use {', '.join(known)}. (Configs from files hold their "
                        "attack in the recipient's task.)"
                    )
        if SEARCHED in _names(f"{attack.train},{attack.held_out}") and not attack.searched:
            raise ConfigError("attack=searched needs attack.searched=run:NAME, the run whose attacks are taken.")
        if data.failures and self._defence.name not in (Instructing.name, Guarding.name):
            raise ConfigError("data.failures trains an instructor or a guard: set defence=cdi or defence=guarding.")

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
            made = [Scenario.from_json(row["config"], str(row["id"])) for row in self.rows]
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
        return [self._simulation(scenario, attack) for scenario, attacks in played for attack in attacks]

    def _named(self, split: str) -> str:
        collected = split == EVAL and self._data.collect
        return self._attack.train if split == TRAIN or collected else self._attack.held_out

    def _simulation(self, scenario: Scenario, attack: str) -> Task:
        """One config under one attack."""
        defence = self._defence.made()
        if self.mini:
            setup = mini_play.setup_of(scenario, defence, self._strategies(scenario, attack))
        else:
            setup = Setup(scenario, defence, loop=self._real_loop)
        return setup.task(f"{scenario.id}/{defence.name}/{attack}", **{ATTACK: attack})

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
            return [scripted.PLAIN] * cycles
        if attack == STRATEGIC:
            return random.Random(stable_hash("strategic", self._data.seed, scenario.id)).sample(PERSUASION, cycles)
        if attack == SEARCHED:
            return self._found[scenario.id]
        return [attack] * cycles

    @cached_property
    def _found(self) -> Mapping[str, Sequence[str]]:
        """By config the strategies that leaked most and earliest: the lowest mean leak score, the first of equals."""
        scores: dict[str, dict[tuple[str, ...], list[float]]] = defaultdict(lambda: defaultdict(list))
        for group in self._stored(str(self._attack.searched), "attack.searched", self.scenarios_by_id):
            for episode, verdict in zip(group.episodes, group.verdicts, strict=True):
                if isinstance(verdict, Scored):
                    reference = episode.task.reference
                    tried = tuple(reference["directions"][RECIPIENT])
                    scores[reference["config_id"]][tried].append(verdict.components["leak_score"])
        missing = self.scenarios_by_id.keys() - scores.keys() - {one.id for one in self.scenarios[TRAIN]}
        if missing:
            raise ConfigError(
                f"attack.searched={self._attack.searched}: that run has not played {', '.join(sorted(missing))}."
            )
        return {
            config: min((fmean(found), strategies) for strategies, found in tried.items())[1]
            for config, tried in scores.items()
        }

    @cached_property
    def _environments(self) -> Mapping[str, list[Task]]:
        """The failures of a stored run, by the split of their config in this one: none is on both sides."""
        split_of = {one.id: split for split in (TRAIN, EVAL) for one in self.scenarios[split]}
        found: dict[str, list[Task]] = {TRAIN: [], EVAL: []}
        for group in self._stored(str(self._data.failures), "data.failures", self.scenarios_by_id):
            for episode, verdict in zip(group.episodes, group.verdicts, strict=True):
                split = split_of.get(episode.task.reference["config_id"])
                if split and (task := self._goes_on(episode, verdict)):
                    found[split].append(task)
        random.Random(stable_hash("failures", self._data.seed)).shuffle(found[EVAL])
        del found[EVAL][self._data.most_failures :]
        return found

    def _goes_on(self, episode: Episode, verdict: Verdict) -> Task | None:
        """What a stored simulation leaves to whoever watches."""
        defence = self._defence.made()
        if isinstance(defence, Guarding):
            return decision_of(episode, verdict, defence)
        number = failure_of(verdict, self._data.failure_mode)
        return None if number is None else environment_of(episode, number, defence)

    @cached_property
    def scenarios_by_id(self) -> Mapping[str, Scenario]:
        """All of this run's."""
        return {one.id: one for mine in self.scenarios.values() for one in mine}

    def _stored(self, run: str, key: str, known: Mapping[str, Scenario]) -> Iterator[Group]:
        """The groups that a run played whole at its beginning. Raises ConfigError, and DataError for a config that has the id of one of
        this run's and is another."""
        # With Parquet's library, which planning does without.
        from orchestrator.records import episodes
        from orchestrator.records.folder import RunFolder

        reference = ModelReference.parse(run)
        if reference.kind != "run":
            raise ConfigError(f"{key}={run}: name a run of this workload, run:NAME.")
        folder = RunFolder(find_run(reference.value, self._storage))
        groups = [group for split in (EVAL, TEST) for group in episodes.read_groups(folder, split, 0)]
        if not groups:
            raise ConfigError(f"{key}={run}: that run has stored no simulations of its step 0. Let it finish.")
        for group in groups:
            told = group.episodes[0].task.reference
            mine = known.get(str(told.get("config_id")))
            if mine is not None and mine.to_json() != told["config"]:
                raise DataError(
                    f"{key}={run}: its config {mine.id} is another one than this run's. Give both the same data settings."
                )
            yield group


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]
