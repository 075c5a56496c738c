"""LegalΔ (arXiv 2508.12281): a policy reasons about a case before it answers, and is rewarded for the right answer as far as its own
reasoning made it surer of it (information gain).

    orchestrate train legal_delta steps=0 name=base                         # the miniature's policy, in both modes
    orchestrate train legal_delta steps=0 name=distill model=run:base@policy traces=given warmup.named_models=true warmup.steps=60
    orchestrate train legal_delta model=run:distill@policy                  # stage 2: GRPO with information gain

Five tasks in Chinese: articles, charges, length of the sentence, amounts, multiple choice. Data: `mini`, a generated penal code with
exact answers, or files in the released form. Importing this package imports neither torch nor transformers nor ray.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from statistics import fmean
from typing import Any, ClassVar

from orchestrator.config.schema import RunConfig, ServedConfig, group
from orchestrator.values import Episode, Group, Message, Scored, Task, stable_hash
from workloads.base import BaseWorkload, Example, Gathering, Lesson, PolicyLesson, Reward
from workloads.legal_delta import mini, oracle, prompts, world
from workloads.legal_delta.answers import Kind, direct, said
from workloads.legal_delta.data import Case, LegalDataConfig, cases_of, check_data, reference_of, traces_of
from workloads.legal_delta.gain import LegalReward, LegalRewardConfig
from workloads.legal_delta.oracle import reasoning_quality
from workloads.legal_delta.scores import MOST, exact, legal_reward
from workloads.legal_delta.traces import NONE, TracesConfig, written
from workloads.lessons import chat
from workloads.teachers import ORACLE, TEACHER, TeacherConfig

MOST_EXAMPLES = 8192
"""Most generated examples of a lesson, which then repeat: reading them into tokens takes time as well."""
DIRECT = 0.25
"""Share of the warm-up's examples that are answered without reasoning, so that the policy knows what direct mode is."""
BRIEF = {"warmup": 0.5, "traces": 0.25}
"""Share of reasoned examples that tell the last step alone: what stage 1 lessens and stage 2 is to find out is that all steps pay."""
EXACT, REASONING = "exact", "reasoning"
"""Names of the truths about an answer: whether it is just right, and how much of its reasoning is (miniature)."""


@dataclass
class Config(RunConfig):
    """A run of this workload."""

    asks_judge: ClassVar[bool] = False
    has_test: ClassVar[bool] = True

    data: LegalDataConfig = group(LegalDataConfig, "Where cases come from.")
    reward: LegalRewardConfig = group(LegalRewardConfig, "The reward's form.")
    traces: TracesConfig = group(TracesConfig, "What the policy is taught before RL.")
    teacher: TeacherConfig = group(TeacherConfig, "Who writes traces (traces=teacher).")

    def gathers(self) -> dict[str, ServedConfig]:
        """The teacher, where it is asked."""
        asked = self.traces.name == TEACHER and self.teacher.name != ORACLE
        return {TEACHER: self.teacher} if asked else {}


class Workload(BaseWorkload):
    """Implements `workloads.base.Workload` and `Gatherer`."""

    config: Config

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        if not isinstance(config, Config):
            raise TypeError(f"workload legal_delta needs its own Config, not {type(config).__name__}")
        check_data(config.data)
        config.traces.check(self.mini, config.data.traces, config.teacher)
        self._written: Sequence[Mapping[str, Any]] = ()

    @property
    def mini(self) -> bool:
        """Whether the law is the generated one."""
        return self.config.data.source == "mini"

    def tasks(self, split: str) -> Sequence[Task]:
        """One task a case of the split ("train", "eval" or "test"), asked in the mode that was taught."""
        plain = self.config.traces.plain
        return [Task(id, self.messages(reference, plain), reference) for id, reference in self.cases[split].items()]

    def messages(self, reference: Mapping[str, Any], direct: bool = False) -> tuple[Message, ...]:
        """What the policy is asked about a case. direct: for the answer alone, without reasoning."""
        return (mini.WORDING if self.mini else prompts).messages(reference, direct)

    def reward(self) -> Reward:
        """R_format + R_info (equations 5 and 6), by the variant of `reward.gain`."""
        return LegalReward(self.config.reward, lambda reference: self.messages(reference, direct=True))

    def gold(self, episode: Episode) -> float | None:
        """R_legal on a scale of 0 to 1."""
        kind, value, answer = _answered(episode)
        return legal_reward(kind, value, answer) / MOST

    def gold_verdicts(self, episode: Episode) -> Mapping[str, float]:
        """Whether the answer is just right; in the miniature also which share of the reasoning's steps is."""
        truths = {EXACT: float(exact(*_answered(episode)))}
        steps = episode.task.reference.get("steps")
        return truths | ({REASONING: reasoning_quality(steps, said(episode.text).reasoning)} if steps else {})

    def proxy(self, verdict: Scored) -> float:
        """R_legal, which the reward knows as the truth does: the rest of the reward is to serve it."""
        return verdict.components["legal"] / MOST

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Of all answers: exact, worth (R_legal, 0 to 1) also by task, and the miniature's share of right steps of reasoning. Of
        scored ones the means of the reward's components."""
        found: dict[str, list[float]] = defaultdict(list)
        for episode in (episode for one in groups for episode in one.episodes):
            for name, truth in self.gold_verdicts(episode).items():
                found[name].append(truth)
            found[f"worth_{episode.task.reference['kind']}"].append(self.gold(episode) or 0.0)
        for verdict in (verdict for one in groups for verdict in one.verdicts if isinstance(verdict, Scored)):
            for name, value in verdict.components.items():
                found[name].append(value)
        return {name: fmean(values) for name, values in found.items()}

    def gather(self) -> Gathering:
        """The teacher's reasoning, where one is named."""
        if self.config.traces.name != TEACHER:
            return None
        asked = [(id, reference, self.messages(reference)) for id, reference in self._asked.items()]
        return (yield from written(asked, self.config.teacher, self.config.rollout.max_completion_tokens))

    def use(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """What the teacher wrote."""
        self._written = rows

    def lessons(self) -> Sequence[Lesson]:
        """The policy's: traces, or in the miniature without any a warm-up in both modes."""
        if self.config.traces.name != NONE:
            return [PolicyLesson(list(self._taught()))]
        return [PolicyLesson(list(self._warmup()))] if self.mini else ()

    def _warmup(self) -> Iterator[Example]:
        """On many cases of its own, one answer each: the few of RL, again and again, would be remembered instead of read."""
        training, seed = self.config.warmup, self.config.data.seed
        count = min(max(training.steps, 1) * training.examples_per_step, MOST_EXAMPLES)
        rng = random.Random(stable_hash("direct", seed))
        for case in self._more("warmup", count):
            yield self._example(case, direct=rng.random() < DIRECT)

    def _taught(self) -> Iterator[Example]:
        traces, plain = self.config.traces, self.config.traces.plain
        if traces.name == TEACHER:
            asked = self._asked
            found = [(row["case"], asked[row["case"]], row["output"]) for row in self._written]
        elif self.mini:
            yield from (self._example(case, direct=plain) for case in self._more("traces", traces.cases))
            return
        else:
            real = traces_of(self.config.data, self._real)
            found = [(trace.case.id, reference_of(trace.case), trace.output) for trace in real]
        for case, reference, text in found:
            target = direct(reference["answer"]) if plain else text
            yield chat(case, self.messages(reference, direct=plain), [target])

    def _example(self, case: world.MiniCase, direct: bool) -> Example:
        """A generated case with the oracle's answer."""
        split, _, number = case.id.partition("-")
        brief = stable_hash("brief", number) % 100 < 100 * BRIEF[split]
        answer = oracle.direct(case) if direct else oracle.reasoned(case, brief)
        return chat(case.id, self.messages(mini.case_of(case), direct), [answer])

    @property
    def _asked(self) -> Mapping[str, Mapping[str, Any]]:
        """The references of the cases that a teacher is asked about, by id: in the miniature such as RL does not see."""
        cases = self.config.traces.cases
        if self.mini:
            return {case.id: mini.case_of(case) for case in self._more("traces", cases)}
        return dict(islice(self.cases["train"].items(), cases))

    def tokenizer_texts(self) -> tuple[Sequence[str], Sequence[str]]:
        """The closed vocabulary of the generated law, or the texts of the training cases."""
        return (mini.vocabulary(), ()) if self.mini else super().tokenizer_texts()

    @cached_property
    def cases(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """The references of the tasks, by split and id."""
        if self.mini:
            worlds = world.make_cases(self._counts, self.config.data.seed)
            return {split: {case.id: mini.case_of(case) for case in worlds[split]} for split in self._counts}
        return {split: {case.id: reference_of(case) for case in cases} for split, cases in self._real.items()}

    @cached_property
    def _real(self) -> dict[str, list[Case]]:
        return cases_of(self.config.data)

    def _more(self, name: str, count: int) -> tuple[world.MiniCase, ...]:
        """Generated cases of which RL sees none."""
        return world.make_cases(self._counts | {name: count}, self.config.data.seed)[name]

    @property
    def _counts(self) -> dict[str, int]:
        """Cases of the miniature by split."""
        data = self.config.data
        return {"train": data.train_groups, "eval": data.eval_groups, "test": data.test_groups}


def _answered(episode: Episode) -> tuple[Kind, str | None, str]:
    """(task, what was answered, the gold answer)."""
    reference = episode.task.reference
    kind = Kind(reference["kind"])
    return kind, said(episode.text).value_of(kind), str(reference["answer"])
