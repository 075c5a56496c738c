"""Eight benchmarks of social reasoning, each by its own published protocol: a run of this workload evaluates a model on them.

    orchestrate evaluate run:NAME social_r1 data.path=FOLDER limit=100
    orchestrate evaluate run:NAME social_r1 data.tombench=FOLDER data.hitom=FOLDER

ToMBench, ToMBench-Hard, SocialIQA, SimpleToM, EmoBench (EA and EU), MotiveBench, Hi-ToM and TactfulToM. Their files are read where they
are given, and are no part of the project. `columns` scores their episodes. Importing this package imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from orchestrator.config.schema import group, setting
from orchestrator.errors import ConfigError
from orchestrator.values import Episode, Task, Verdict
from workloads.benchmarks import BenchmarksConfig, BenchmarksDataConfig, BenchmarksWorkload, split
from workloads.benchmarks.results import Published
from workloads.social_r1.benchmarks import columns
from workloads.social_r1.benchmarks.items import FORMS, Form, Item

LANGUAGES = ("en", "zh")


@dataclass
class SocialDataConfig(BenchmarksDataConfig):
    """Where the published files are."""

    sources: ClassVar[tuple[str, ...]] = tuple(sorted({one.source for one in columns.BENCHMARKS.values()}))

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
class Config(BenchmarksConfig):
    """A run of this workload."""

    published: ClassVar[Mapping[str, Published]] = columns.BENCHMARKS

    data: SocialDataConfig = group(SocialDataConfig, "Where the published files are.")
    languages: str = setting(
        "en", "Languages of benchmarks that have several (ToMBench, EmoBench), with commas: en, zh."
    )
    form: str = setting(
        "direct",
        "How an answer is asked for: `direct`, at once, and `cot`, after steps of thought, each as the protocol has it; `tagged`, in "
        "the tags that Social-R1 trains, alike for all benchmarks.",
        choices=FORMS,
    )


class Workload(BenchmarksWorkload[Item]):
    """Implements `workloads.base.Workload` and `Evaluator`."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        languages = split(config.languages)
        if not languages or any(language not in LANGUAGES for language in languages):
            raise ConfigError(f"languages={config.languages}: name some of {', '.join(LANGUAGES)}.")

    def items(self, name: str, path: str) -> Sequence[Item]:
        """Those in the languages that are asked for."""
        return columns.BENCHMARKS[name].items(path, split(self.config.languages))

    def tries(self, name: str, item: Item) -> Sequence[Task]:
        """One, or as many as the protocol has orders of the options."""
        return columns.BENCHMARKS[name].tasks(item, cast(Form, self.config.form))

    def scored(self, episodes: Sequence[Episode]) -> Sequence[Verdict]:
        """By what the tries of an item name; see `columns`."""
        return columns.scored(episodes)
