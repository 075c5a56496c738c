"""CDI (arXiv 2603.02983): an agent that knows somebody's secrets, one who asks for them, and four ways to defend the first: nothing, a
text in its task, a guard that blocks messages, and an instructor who speaks before it acts, trained on what went wrong.

    orchestrate train cdi steps=0 data.collect=true name=played       # simulate, and keep what leaks
    orchestrate train cdi data.failures=run:played                    # GRPO of the instructor on these failures

Configs: `mini`, generated, with exact keys for every fact; or files in the published form. Everything happens in the process: simulated
apps have no network, and simulated text is never executed. Importing this package imports neither torch nor transformers nor ray.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any, ClassVar

from orchestrator.config.schema import RaterConfig, Role, RunConfig, ServedConfig, SftConfig, group
from orchestrator.errors import ConfigError
from orchestrator.values import JUDGE, Episode, Group, Scored, Task
from workloads.base import BaseWorkload, Gathering, Lesson, PolicyLesson, Reward
from workloads.cdi import lessons, mini
from workloads.cdi.asked import RIGHT, CdiReward, Judge
from workloads.cdi.environment import SimulationEnvironment
from workloads.cdi.failures import config_of, played
from workloads.cdi.generation import GENERATOR, VERIFIER, generate
from workloads.cdi.judging import SECOND, ModelJudge
from workloads.cdi.keyed import KeyedJudge
from workloads.cdi.norms import read_norms
from workloads.cdi.options import (
    NONE,
    NORMS,
    AgentConfig,
    AttackConfig,
    CdiDataConfig,
    DefenceConfig,
    LoopConfig,
    SecondConfig,
    SenderConfig,
    WriterConfig,
)
from workloads.cdi.reported import leakage_of, metrics_of, report_of
from workloads.cdi.rewards import AD_REWARD, PP_REWARD, CdiRewardConfig
from workloads.cdi.scenario import RECIPIENT, SENDER, SUBJECT, Scenario
from workloads.cdi.simulations import ATTACK, EVAL, Simulations

MOST_EXAMPLES = 8192
"""Most generated examples of a lesson, which then repeat: reading them into tokens takes time as well."""
WATCHED = {PP_REWARD, AD_REWARD, "acted", RIGHT}
"""Components of one instruction, or of one decision of a guard."""
EXAMINED = 105
"""Configs of the sender's exam at most: fifteen a strategy."""


@dataclass
class Config(RunConfig):
    """A run of this workload."""

    has_test: ClassVar[bool] = True
    searches: ClassVar[bool] = False
    """Whether its runs search the attacks that they play."""

    data: CdiDataConfig = group(CdiDataConfig, "Where configs come from, and what is played of them.")
    defence: DefenceConfig = group(DefenceConfig, "How the sender is defended.")
    attack: AttackConfig = group(AttackConfig, "How the recipient asks.")
    loop: LoopConfig = group(LoopConfig, "Limits of a simulation (real configs).")
    sender: SenderConfig = group(SenderConfig, "The model of the agent that is defended.")
    subject: AgentConfig = group(AgentConfig, "The model of the data's subject (real configs).")
    recipient: AgentConfig = group(AgentConfig, "The model of the agent that asks (real configs).")
    reward: CdiRewardConfig = group(CdiRewardConfig, "What an instruction is worth.")
    second: SecondConfig = group(SecondConfig, "A judge beside the one that trains (real configs).")
    generator: WriterConfig = group(WriterConfig, "Who makes configs of norms (data.source=norms).")
    verifier: WriterConfig = group(WriterConfig, "Who checks them.")

    @property
    def mini(self) -> bool:
        """Whether configs are generated, two agents scripted and facts exact."""
        return self.data.source == "mini"

    def agents(self) -> dict[str, AgentConfig]:
        """Those that models play, by role."""
        played: dict[str, AgentConfig] = {SENDER: self.sender}
        if not self.mini:
            played |= {RECIPIENT: self.recipient} | ({} if self.loop.scripted_subject else {SUBJECT: self.subject})
        return played

    def gathers(self) -> dict[str, ServedConfig]:
        """Generator and verifier, where configs are made of norms."""
        return {GENERATOR: self.generator, VERIFIER: self.verifier} if self.data.source == NORMS else {}

    def raters(self) -> dict[str, RaterConfig]:
        """Agents and judges: all models that are asked besides the policy."""
        judges: dict[str, RaterConfig] = {} if self.mini else {JUDGE: self.judge}
        if not self.mini and self.second.name != NONE:
            judges[SECOND] = self.second
        return {**self.agents(), **judges}

    def roles(self) -> dict[str, Role]:
        """Also with a reward of one's own there are agents."""
        roles = super().roles()
        for name, agent in self.agents().items():
            roles[name] = Role(agent.name, agent.model, agent.fleet, agent.training, 0, agent.shared)
        return roles


class Workload(BaseWorkload):
    """Implements `workloads.base.Workload` and `Gatherer`."""

    config: Config

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if not isinstance(config, Config):
            raise TypeError(f"workload cdi needs its own Config, not {type(config).__name__}")
        if config.data.collect and config.steps:
            raise ConfigError(
                f"data.collect plays all configs once, and steps={config.steps} would train on them: set steps=0."
            )
        self.simulations = Simulations(
            config.data, config.defence, config.attack, config.loop, config.storage, config.searches
        )

    def gather(self) -> Gathering:
        """Configs of as many norms as there are to be configs, where they are made of norms."""
        data, writer = self.config.data, self.config.generator
        if data.source != NORMS:
            return None
        norms = read_norms(Path(str(data.path)).expanduser())
        wanted = data.train_groups + data.eval_groups + data.test_groups
        return (yield from generate(norms[:wanted], writer.max_tokens, writer.retries, data.seed))

    def use(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """What generator and verifier made, or what was searched."""
        self.simulations.rows = rows

    def tasks(self, split: str) -> Sequence[Task]:
        """Simulations of the split's configs, or failures to go on from."""
        return self.simulations.tasks(split)

    def environment(self) -> SimulationEnvironment:
        """Agents are sampled as their settings say."""
        agents = self.config.agents()
        return SimulationEnvironment(
            {role: agent.sampling for role, agent in agents.items()},
            frozenset(role for role, agent in agents.items() if agent.structured),
        )

    def reward(self) -> Reward:
        """R_PP and R_AD of an instruction; AD of a whole simulation."""
        return CdiReward(self.config.reward, self.judges, played)

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The first one's word is trained on."""
        if self.config.mini:
            return (_EXACT,)
        settings = self.config.reward
        names = [name for name in (JUDGE, SECOND) if name in self.config.raters()]
        return tuple(ModelJudge(name, settings.judge_max_tokens, settings.judge_temperature) for name in names)

    def gold(self, episode: Episode) -> float | None:
        """The miniature's exact AD: of a simulation, or of all that is judged by the instruction's act."""
        return None if (verdict := self._exactly(episode)) is None else self.proxy(verdict)

    def gold_verdicts(self, episode: Episode) -> Mapping[str, float]:
        """Which facts were truly shared (miniature)."""
        return {} if (verdict := self._exactly(episode)) is None else verdict.judgements

    def _exactly(self, episode: Episode) -> Scored | None:
        if not self.config.mini:
            return None
        verdict = CdiReward(CdiRewardConfig(), (_EXACT,), played).verdict(episode, ())
        assert isinstance(verdict, Scored)
        return verdict

    def proxy(self, verdict: Scored) -> float:
        """AD, whichever reward is trained on."""
        return verdict.components.get(AD_REWARD, verdict.reward)

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Of whole simulations pp, hs, ad and both readings of silence and unreadable judges (`reported.metrics_of`) and how early they
        leak (`leakage_of`), also by attack, the former also by the second judge; of instructions the means of pp, ad and acted, of a
        guard's decisions the share that is right."""
        whole = [one for one in groups if "resume" not in one.episodes[0].task.reference]
        found = _measured(whole, "")
        attacks = dict.fromkeys(_attack(one) for one in whole)
        if len(attacks) > 1:
            for attack in attacks:
                found |= _measured([one for one in whole if _attack(one) == attack], f"_{attack}")
        if SECOND in self.config.raters():
            found |= _measured(whole, f"_{SECOND}", SECOND)
        parts: dict[str, list[float]] = defaultdict(list)
        for verdict in (verdict for one in groups if one not in whole for verdict in one.verdicts):
            if isinstance(verdict, Scored):
                for name in WATCHED & verdict.components.keys():
                    parts[f"watched_{name}"].append(verdict.components[name])
        return found | {name: fmean(values) for name, values in parts.items()}

    def lessons(self) -> Sequence[Lesson]:
        """In the miniature the sender's, and the policy's where it instructs or guards; real data have none."""
        if not self.config.mini:
            return ()
        seed, further = self.config.data.seed, self._further
        sender = lessons.SenderLesson(
            further[: _examples(self.config.sender.training)],
            self.simulations.scenarios[EVAL][:EXAMINED],
            seed,
            self.config.sender.least_obedience,
        )
        return [sender, self._policy_lesson(further[: _examples(self.config.warmup)], seed)]

    def _policy_lesson(self, scenarios: Sequence[Scenario], seed: int) -> PolicyLesson:
        if self.config.defence.name == "guarding":
            return lessons.guard_lesson(scenarios, seed)
        return lessons.instructor_lesson(scenarios, seed)

    @cached_property
    def _further(self) -> Sequence[Scenario]:
        """Configs of which no simulation is played: the few of RL, again and again, would be remembered instead of read."""
        count = max(_examples(self.config.sender.training), _examples(self.config.warmup))
        return self.simulations.generated(count)["warmup"]

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """The miniature's closed vocabulary, or the texts of the training configs."""
        if self.config.mini:
            return mini.vocabulary(), ()
        texts = [
            text
            for scenario in self.simulations.scenarios["train"]
            for agent in (scenario.subject, scenario.sender, scenario.recipient)
            for text in (agent.background, agent.profile, agent.task, *scenario.shareable, *scenario.sensitive)
        ]
        return (), texts


_EXACT = KeyedJudge(mini.exact_keys)


def _measured(groups: Sequence[Group], suffix: str, judge: str = "") -> dict[str, float]:
    found = metrics_of(report_of(groups, lambda episode: config_of(episode.task), judge))
    if not judge:
        found |= leakage_of(verdict for one in groups for verdict in one.verdicts)
    return {f"{name}{suffix}": value for name, value in found.items()}


def _attack(one: Group) -> str:
    return str(one.episodes[0].task.reference[ATTACK])


def _examples(training: SftConfig) -> int:
    """As many examples as the training reads, up to `MOST_EXAMPLES`."""
    return min(max(training.steps, 1) * training.examples_per_step, MOST_EXAMPLES)
