"""Three benchmarks of Chinese law that LegalΔ is measured on, each task by its own published scorer: a run evaluates a model on them.

    orchestrate evaluate run:NAME legal_delta data.path=FOLDER limit=100
    orchestrate evaluate run:NAME legal_delta data.lawbench=FOLDER data.disclaw=FOLDER form=tagged

Six tasks of LawBench, one of LexEval, five exams of DISC-Law-Eval. Their files are read where they are given, and are no part of the
project. `columns` scores their episodes. Importing this package imports no framework.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, cast

from orchestrator.config.schema import group, setting
from orchestrator.data.tables import Row
from orchestrator.errors import ConfigError
from orchestrator.values import Episode, Task, Verdict
from workloads.benchmarks import BenchmarksConfig, BenchmarksDataConfig, BenchmarksWorkload
from workloads.benchmarks.results import Published
from workloads.legal_delta.benchmarks import columns
from workloads.legal_delta.benchmarks.choices import DiscLaw, examples_of
from workloads.legal_delta.benchmarks.items import FORMS, Form, Item


@dataclass
class LegalBenchmarksDataConfig(BenchmarksDataConfig):
    """Where the published files are."""

    sources: ClassVar[tuple[str, ...]] = tuple(sorted({one.source for one in columns.BENCHMARKS.values()}))

    lawbench: str | None = setting(None, "LawBench: the folder of 3-1.json to 3-7.json.", file=True)
    lexeval: str | None = setting(None, "LexEval: the folder of 3_3.json, or that file.", file=True)
    disclaw: str | None = setting(
        None, "DISC-Law-Eval: the folder of mcq_sing_*.csv, and of mcq_sing_examples.csv for examples.", file=True
    )


@dataclass
class Config(BenchmarksConfig):
    """A run of this workload."""

    published: ClassVar[Mapping[str, Published]] = columns.BENCHMARKS

    data: LegalBenchmarksDataConfig = group(LegalBenchmarksDataConfig, "Where the published files are.")
    form: str = setting(
        "direct",
        "How an answer is asked for: `direct`, at once, in the words of the benchmark; `tagged`, with reasoning, as LegalΔ trains it.",
        choices=FORMS,
    )
    shots: int = setting(
        0,
        "Worked examples before each question of DISC-Law-Eval, the first so many of its file; its own runner shows 4.",
        low=0,
    )


class Workload(BenchmarksWorkload[Item]):
    """Implements `workloads.base.Workload` and `Evaluator`."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        if config.shots and config.form != "direct":
            raise ConfigError(
                f"shots={config.shots}: the examples have no reasoning in tags: leave form={config.form} out, or set shots=0."
            )

    def items(self, name: str, path: str) -> Sequence[Item]:
        """All of its file."""
        return columns.BENCHMARKS[name].items(path)

    def tries(self, name: str, item: Item) -> Sequence[Task]:
        """One; after worked examples where the benchmark has them."""
        benchmark = columns.BENCHMARKS[name]
        examples = self._examples if isinstance(benchmark, DiscLaw) else ()
        return (benchmark.task(item, cast(Form, self.config.form), examples),)

    def scored(self, episodes: Sequence[Episode]) -> Sequence[Verdict]:
        """By the rule of each protocol; see `columns`."""
        return columns.scored(episodes)

    @cached_property
    def _examples(self) -> Sequence[Row]:
        return examples_of(self.config.data.places()["disclaw"], self.config.shots)
