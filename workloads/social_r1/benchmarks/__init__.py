"""Eight benchmarks of social reasoning, each by its own published protocol: a run of this workload evaluates a model on them.

    orchestrate evaluate run:NAME social_r1 data.tombench=FOLDER data.hitom=FOLDER limit=100

ToMBench, ToMBench-Hard, SocialIQA, SimpleToM, EmoBench (EA and EU), MotiveBench, Hi-ToM and TactfulToM. Their files are read where they
are given, and are no part of the project. `columns` has their numbers of stored episodes. Importing this package imports no framework.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from orchestrator.config.evaluation import EvaluationConfig
from orchestrator.config.schema import DataConfig, group, setting
from orchestrator.errors import ConfigError
from orchestrator.rollouts.parts import Result
from orchestrator.rollouts.unasked import Unasked
from orchestrator.values import POLICY, Answer, Call, Episode, Group, LogitAnswer, Sampling, Task, Verdict, stable_hash
from workloads.base import BaseWorkload, Environment, Play, Reward
from workloads.social_r1.benchmarks import columns
from workloads.social_r1.benchmarks.items import FORMS, Item

LANGUAGES = ("en", "zh")


@dataclass
class BenchmarksDataConfig(DataConfig):
    """Where the published files are."""

    source: str = setting("files", "The published files.", choices=("files",))
    seed: int = setting(0, "Which items a limit leaves.", low=0)
    tombench: str | None = setting(None, "ToMBench: the folder of its 20 .jsonl files.", file=True)
    tombench_hard: str | None = setting(
        None, "ToMBench-Hard: a file of story, question, options and answer.", file=True
    )
    socialiqa: str | None = setting(
        None, "SocialIQA: a file of its development set, or hf:allenai/social_i_qa.", file=True
    )
    simpletom: str | None = setting(
        None, "SimpleToM: the folder of its three sets of questions, or hf:allenai/SimpleToM.", file=True
    )
    emobench: str | None = setting(None, "EmoBench: the folder of EA.jsonl and EU.jsonl.", file=True)
    motivebench: str | None = setting(None, "MotiveBench: the folder of its three .json files.", file=True)
    hitom: str | None = setting(None, "Hi-ToM: Hi-ToM_data.json, or its folder.", file=True)
    tactfultom: str | None = setting(None, "TactfulToM: the folder of Tactful_conv_set_*.json.", file=True)


@dataclass
class Config(EvaluationConfig):
    """A run of this workload."""

    data: BenchmarksDataConfig = group(BenchmarksDataConfig, "Where the published files are.")
    benchmarks: str = setting(
        "all",
        "Which are asked, with commas: tombench_hard, tombench, socialiqa, simpletom, emobench_ea, emobench_eu, motivebench, hitom, "
        "tactfultom; `all`: those whose files are given.",
    )
    limit: int = setting(
        0,
        "Most items of each benchmark, whole stories of them where they fit, by the hash of data.seed. 0: all.",
        low=0,
    )
    languages: str = setting(
        "en", "Languages of benchmarks that have several (ToMBench, EmoBench), with commas: en, zh."
    )
    form: str = setting(
        "direct",
        "How an answer is asked for: `direct`, at once, and `cot`, after steps of thought, each as the protocol has it; `tagged`, in "
        "the tags that Social-R1 trains, alike for all benchmarks.",
        choices=FORMS,
    )
    temperature: float | None = setting(
        None, "Sampling temperature. null: the protocol's, 0 for all but TactfulToM (0.2).", low=0
    )

    @property
    def chosen(self) -> list[str]:
        """The names of the benchmarks that are asked, in the order of `columns.BENCHMARKS`."""
        given = {item.name for item in fields(self.data) if item.name in SOURCES and getattr(self.data, item.name)}
        if self.benchmarks.strip() == "all":
            return [name for name, one in columns.BENCHMARKS.items() if one.source in given]
        asked = split(self.benchmarks)
        return [name for name in columns.BENCHMARKS if name in asked]


SOURCES = frozenset(one.source for one in columns.BENCHMARKS.values())


def split(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


class Protocol:
    """The model answers once, at the temperature of the benchmark's protocol, unless one is set."""

    def __init__(self, temperature: float | None) -> None:
        self._temperature = temperature

    def play(self, task: Task, sampling: Sampling) -> Play:
        protocol = columns.BENCHMARKS[task.reference["benchmark"]].temperature
        temperature = protocol if self._temperature is None else self._temperature
        yield Call("", POLICY, task.messages, Sampling(sampling.max_tokens, temperature, sampling.stop))


class Scores(Unasked):
    """An item's score on each of its tries; see `columns`. All episodes of an item are scored at once."""

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]] = (),
        logits: Sequence[Sequence[LogitAnswer]] = (),
    ) -> Sequence[Verdict]:
        """By the protocols alone."""
        return columns.scored(episodes)


class Workload(BaseWorkload):
    """Implements `workloads.base.Workload` and `Evaluator`."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        unknown = [name for name in split(config.benchmarks) if name != "all" and name not in columns.BENCHMARKS]
        if unknown:
            raise ConfigError(
                f"benchmarks={config.benchmarks}: no {unknown[0]}; there are {', '.join(columns.BENCHMARKS)}."
            )
        languages = split(config.languages)
        if not languages or any(language not in LANGUAGES for language in languages):
            raise ConfigError(f"languages={config.languages}: name some of {', '.join(LANGUAGES)}.")
        for name in config.chosen:
            source = columns.BENCHMARKS[name].source
            if getattr(config.data, source) is None:
                raise ConfigError(f"benchmarks={config.benchmarks}: {name} needs its files: data.{source}=FOLDER.")

    def tasks(self, split: str) -> Sequence[Task]:
        """Every try of every item. Raises DataError for files that cannot be read, ConfigError where none are given."""
        if split != "test":
            return ()
        if not self.config.chosen:
            wanted = " or ".join(f"data.{source}=…" for source in sorted(SOURCES))
            raise ConfigError(f"no benchmark is given: name the files of one at least, {wanted}.")
        return [task for name in self.config.chosen for task in self._tasks(name)]

    def _tasks(self, name: str) -> list[Task]:
        benchmark, path = columns.BENCHMARKS[name], str(getattr(self.config.data, columns.BENCHMARKS[name].source))
        items = benchmark.items(path, self._languages)
        if not items:
            raise ConfigError(f"data.{benchmark.source}={path}: holds no item in {self.config.languages}.")
        form = next(form for form in FORMS if form == self.config.form)
        limited = limit(items, self.config.limit, self.config.data.seed)
        return [task for item in limited for task in benchmark.tasks(item, form)]

    @property
    def _languages(self) -> list[str]:
        return split(self.config.languages)

    def environment(self) -> Environment:
        """One answer at the protocol's temperature."""
        return Protocol(self.config.temperature)

    def reward(self) -> Reward:
        """The protocols' scores."""
        return Scores()

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """The score of each benchmark, and its interval."""
        found: dict[str, float] = {}
        for one in columns.results(groups):
            found |= {one.part: one.score.mean, f"{one.part}_low": one.score.low, f"{one.part}_high": one.score.high}
        return found

    def results(self, groups: Sequence[Group]) -> Sequence[Result]:
        """What each benchmark comes to."""
        return columns.results(groups)


def limit(items: Sequence[Item], most: int, seed: int) -> list[Item]:
    """At most so many items, in their order: whole units while they fit, by the hash of seed and unit; 0: all."""
    if not most or len(items) <= most:
        return list(items)
    units: dict[str, list[Item]] = {}
    for item in items:
        units.setdefault(item.unit, []).append(item)
    ordered = sorted(units, key=lambda unit: stable_hash("limit", seed, unit))
    kept: list[Item] = []
    for unit in ordered:
        if len(kept) + len(units[unit]) <= most:
            kept += units[unit]
    chosen = {item.id for item in kept or units[ordered[0]][:most]}
    return [item for item in items if item.id in chosen]
