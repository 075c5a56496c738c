"""Eight benchmarks of social reasoning, each by its own published protocol: a run of this workload evaluates a model on them.

    orchestrate evaluate run:NAME social_r1 data.path=FOLDER limit=100
    orchestrate evaluate run:NAME social_r1 data.tombench=FOLDER data.hitom=FOLDER

ToMBench, ToMBench-Hard, SocialIQA, SimpleToM, EmoBench (EA and EU), MotiveBench, Hi-ToM and TactfulToM. Their files are read where they
are given, and are no part of the project. `columns` has their numbers of stored episodes. Importing this package imports no framework.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from orchestrator.config.evaluation import EvaluationConfig
from orchestrator.config.schema import DataConfig, group, setting
from orchestrator.errors import ConfigError, DataError
from orchestrator.rollouts.parts import Result
from orchestrator.rollouts.unasked import Unasked
from orchestrator.values import POLICY, Answer, Call, Episode, Group, LogitAnswer, Sampling, Task, Verdict, stable_hash
from workloads.base import BaseWorkload, Environment, Play, Reward
from workloads.social_r1.benchmarks import columns
from workloads.social_r1.benchmarks.items import FORMS, Form, Item
from workloads.social_r1.files import ENDINGS

LANGUAGES = ("en", "zh")
SOURCES = tuple(sorted({one.source for one in columns.BENCHMARKS.values()}))
"""The settings of data that name the files of benchmarks, which are also the names in the folder data.path."""


@dataclass
class BenchmarksDataConfig(DataConfig):
    """Where the published files are."""

    source: str = setting("files", "The published files.", choices=("files",))
    path: str | None = setting(
        None,
        "A folder with a folder or a file for each benchmark by its name (tombench, hitom.json): those that are there are asked, from "
        "there unless a setting of their own names them.",
        file=True,
    )
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

    @property
    def named(self) -> dict[str, str]:
        """Where the files are that settings of their own name, by source."""
        return {source: path for source in SOURCES if (path := getattr(self, source)) is not None}

    def places(self) -> dict[str, str]:
        """Where the files of each source are, those in `path` included. Raises ConfigError where `path` holds none."""
        if self.path is None:
            return self.named
        folder = Path(self.path).expanduser()
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        found = {entry.stem: entry for entry in entries if entry.suffix.lower() in ENDINGS}
        found |= {entry.name: entry for entry in entries if entry.is_dir()}
        there = {source: str(found[source]) for source in SOURCES if source in found}
        if not there:
            raise ConfigError(
                f"data.path={self.path}: must be a folder that holds a folder or a file of one at least of these names: "
                f"{', '.join(SOURCES)}."
            )
        return there | self.named


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

    def chosen(self, places: Mapping[str, str]) -> list[str]:
        """The benchmarks that are asked, in the order of `columns.BENCHMARKS`. places: of files, by source.

        Raises ConfigError for one that is named and whose files are not there.
        """
        if self.benchmarks.strip() == "all":
            return [name for name, one in columns.BENCHMARKS.items() if one.source in places]
        asked = split(self.benchmarks)
        for name in asked:
            source = columns.BENCHMARKS[name].source
            if source not in places:
                raise ConfigError(
                    f"benchmarks={self.benchmarks}: {name} needs its files: data.{source}=FOLDER, or {source} in data.path."
                )
        return [name for name in columns.BENCHMARKS if name in asked]


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
        unknown = [name for name in split(config.benchmarks) if name not in columns.BENCHMARKS]
        if unknown and config.benchmarks.strip() != "all":
            raise ConfigError(
                f"benchmarks={config.benchmarks}: no {unknown[0]}; there are {', '.join(columns.BENCHMARKS)}."
            )
        languages = split(config.languages)
        if not languages or any(language not in LANGUAGES for language in languages):
            raise ConfigError(f"languages={config.languages}: name some of {', '.join(LANGUAGES)}.")
        if config.data.path is None:  # what a folder holds is seen where the run is
            config.chosen(config.data.named)

    def tasks(self, split: str) -> Sequence[Task]:
        """Every try of every item. Raises DataError for files that cannot be read, ConfigError where none are given."""
        if split != "test":
            return ()
        places = self.config.data.places()
        chosen = self.config.chosen(places)
        if not chosen:
            wanted = " or ".join(f"data.{source}=…" for source in SOURCES)
            raise ConfigError(
                f"no benchmark is given: name the files of one at least, {wanted}, or a folder of them, data.path=FOLDER."
            )
        return [task for name in chosen for task in self._tasks(name, places[columns.BENCHMARKS[name].source])]

    def _tasks(self, name: str, path: str) -> list[Task]:
        benchmark = columns.BENCHMARKS[name]
        items = benchmark.items(path, split(self.config.languages))
        if not items:
            raise DataError(f"{path}: holds no item of {name} in {self.config.languages}.")
        repeated = [item for item, count in Counter(item.id for item in items).items() if count > 1]
        if repeated:
            raise DataError(
                f"{path}: {len(repeated):,} items of {name} are there twice ({repeated[0]}): leave one copy of each file there."
            )
        limited = limit(items, self.config.limit, self.config.data.seed)
        return [task for item in limited for task in benchmark.tasks(item, cast(Form, self.config.form))]

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
