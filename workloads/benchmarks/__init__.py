"""What workloads that evaluate on published benchmarks share: where the files are, which benchmarks are asked and how much of each.

A benchmark is known by its name, and its files by a setting `data.SOURCE`, which several may share. Importing this package imports no
framework.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from orchestrator.config.evaluation import EvaluationConfig
from orchestrator.config.schema import DataConfig, setting
from orchestrator.errors import ConfigError, DataError
from orchestrator.rollouts.parts import Result
from orchestrator.rollouts.unasked import Unasked
from orchestrator.values import POLICY, Answer, Call, Episode, Group, LogitAnswer, Sampling, Task, Verdict, stable_hash
from workloads.base import BaseWorkload, Environment, Play, Reward
from workloads.benchmarks.results import Published, results
from workloads.files import ENDINGS


class Item(Protocol):
    """What counts once. unit: items that share it are not independent."""

    @property
    def id(self) -> str: ...

    @property
    def unit(self) -> str: ...


ItemT = TypeVar("ItemT", bound=Item)


@dataclass
class BenchmarksDataConfig(DataConfig):
    """Where the published files are. A subclass has a setting of its own for each of its `sources`."""

    sources: ClassVar[tuple[str, ...]] = ()
    """The settings of data that name the files of benchmarks, which are also the names in the folder data.path."""

    source: str = setting("files", "The published files.", choices=("files",))
    path: str | None = setting(
        None,
        "A folder with a folder or a file for each benchmark by the name of its setting: those that are there are asked, from there "
        "unless a setting of their own names them.",
        file=True,
    )
    seed: int = setting(0, "Which items a limit leaves.", low=0)

    @property
    def named(self) -> dict[str, str]:
        """Where the files are that settings of their own name, by source."""
        return {source: path for source in self.sources if (path := getattr(self, source)) is not None}

    def places(self) -> dict[str, str]:
        """Where the files of each source are, those in `path` included. Raises ConfigError where `path` holds none."""
        if self.path is None:
            return self.named
        folder = Path(self.path).expanduser()
        entries = sorted(folder.iterdir()) if folder.is_dir() else []
        found = {entry.stem: entry for entry in entries if entry.suffix.lower() in ENDINGS}
        found |= {entry.name: entry for entry in entries if entry.is_dir()}
        there = {source: str(found[source]) for source in self.sources if source in found}
        if not there:
            raise ConfigError(
                f"data.path={self.path}: must be a folder that holds a folder or a file of one at least of these names: "
                f"{', '.join(self.sources)}."
            )
        return there | self.named


@dataclass
class BenchmarksConfig(EvaluationConfig):
    """A run that asks benchmarks. A subclass has `data` and `published`."""

    published: ClassVar[Mapping[str, Published]] = {}
    """The benchmarks by name, in the order in which they are told."""

    benchmarks: str = setting(
        "all", "Which are asked, by their names, with commas; `all`: those whose files are given."
    )
    limit: int = setting(
        0,
        "Most items of each benchmark, whole stories of them where they fit, by the hash of data.seed. 0: all.",
        low=0,
    )

    def chosen(self, places: Mapping[str, str]) -> list[str]:
        """The benchmarks that are asked, in the order of `published`. places: of files, by source.

        Raises ConfigError for one that is named and whose files are not there.
        """
        if self.benchmarks.strip() == "all":
            return [
                name
                for name, one in self.published.items()
                if one.source in places and one.is_there(places[one.source])
            ]
        asked = split(self.benchmarks)
        for name in asked:
            source = self.published[name].source
            if source not in places:
                raise ConfigError(
                    f"benchmarks={self.benchmarks}: {name} needs its files: data.{source}=FOLDER, or {source} in data.path."
                )
        return [name for name in self.published if name in asked]


def split(text: str) -> list[str]:
    """Words between commas."""
    return [word.strip() for word in text.split(",") if word.strip()]


class AtTemperature:
    """The model answers once, at the temperature of the benchmark's protocol, unless one is set."""

    def __init__(self, published: Mapping[str, Published], temperature: float | None) -> None:
        self._published, self._temperature = published, temperature

    def play(self, task: Task, sampling: Sampling) -> Play:
        protocol = self._published[task.reference["benchmark"]].temperature
        temperature = protocol if self._temperature is None else self._temperature
        yield Call("", POLICY, task.messages, Sampling(sampling.max_tokens, temperature, sampling.stop))


class Scores(Unasked):
    """Scores by the protocols alone. scored: a verdict an episode, of all episodes of an item at once."""

    def __init__(self, scored: Callable[[Sequence[Episode]], Sequence[Verdict]]) -> None:
        self._scored = scored

    def score(
        self,
        episodes: Sequence[Episode],
        answers: Sequence[Sequence[Answer]] = (),
        logits: Sequence[Sequence[LogitAnswer]] = (),
    ) -> Sequence[Verdict]:
        """By the protocols alone."""
        return self._scored(episodes)


class BenchmarksWorkload(BaseWorkload, ABC, Generic[ItemT]):
    """Implements `workloads.base.Workload` and `Evaluator`; a subclass reads items, asks them and scores."""

    config: BenchmarksConfig

    def __init__(self, config: Any) -> None:
        """Raises ConfigError for benchmarks that are not there, or whose files no setting names."""
        super().__init__(config)
        published = self.config.published
        unknown = [name for name in split(self.config.benchmarks) if name not in published]
        if unknown and self.config.benchmarks.strip() != "all":
            raise ConfigError(
                f"benchmarks={self.config.benchmarks}: no {unknown[0]}; there are {', '.join(published)}."
            )
        if self._data.path is None:  # what a folder holds is seen where the run is
            self.config.chosen(self._data.named)

    @property
    def _data(self) -> BenchmarksDataConfig:
        assert isinstance(self.config.data, BenchmarksDataConfig)
        return self.config.data

    @abstractmethod
    def items(self, name: str, path: str) -> Sequence[ItemT]:
        """The items of a benchmark from its files. Raises DataError."""

    @abstractmethod
    def tries(self, name: str, item: ItemT) -> Sequence[Task]:
        """The tasks of an item. Their references have "benchmark", "item", "unit", "views" and "chance", what guessing scores."""

    @abstractmethod
    def scored(self, episodes: Sequence[Episode]) -> Sequence[Verdict]:
        """A verdict an episode: an item's score on each of its tries, and its components, `right` and `found` among them."""

    def tasks(self, split: str) -> Sequence[Task]:
        """Every try of every item. Raises DataError for files that cannot be read, ConfigError where none are given."""
        if split != "test":
            return ()
        places = self._data.places()
        chosen = self.config.chosen(places)
        if not chosen:
            wanted = " or ".join(f"data.{source}=…" for source in self._data.sources)
            raise ConfigError(
                f"no benchmark is given: name the files of one at least, {wanted}, or a folder of them, data.path=FOLDER."
            )
        return [task for name in chosen for task in self._tasks(name, places[self.config.published[name].source])]

    def _tasks(self, name: str, path: str) -> list[Task]:
        items = self.items(name, path)
        if not items:
            raise DataError(f"{path}: holds no item of {name} of the kind that is asked for.")
        repeated = [item for item, count in Counter(item.id for item in items).items() if count > 1]
        if repeated:
            raise DataError(
                f"{path}: {len(repeated):,} items of {name} are there twice ({repeated[0]}): leave one copy of each file there."
            )
        limited = limit(items, self.config.limit, self._data.seed)
        return [task for item in limited for task in self.tries(name, item)]

    def environment(self) -> Environment:
        """One answer at the protocol's temperature."""
        return AtTemperature(self.config.published, self.config.temperature)

    def reward(self) -> Reward:
        """The protocols' scores."""
        return Scores(self.scored)

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """The score of each benchmark, and its interval."""
        found: dict[str, float] = {}
        for one in self.results(groups):
            found |= {one.part: one.score.mean, f"{one.part}_low": one.score.low, f"{one.part}_high": one.score.high}
        return found

    def results(self, groups: Sequence[Group]) -> Sequence[Result]:
        """What each benchmark comes to."""
        return results(groups, self.config.published)


def limit(items: Sequence[ItemT], most: int, seed: int) -> list[ItemT]:
    """At most so many items, in their order: whole units while they fit, by the hash of seed and unit; 0: all."""
    if not most or len(items) <= most:
        return list(items)
    units: dict[str, list[ItemT]] = {}
    for item in items:
        units.setdefault(item.unit, []).append(item)
    ordered = sorted(units, key=lambda unit: stable_hash("limit", seed, unit))
    kept: list[ItemT] = []
    for unit in ordered:
        if len(kept) + len(units[unit]) <= most:
            kept += units[unit]
    chosen = {item.id for item in kept or units[ordered[0]][:most]}
    return [item for item in items if item.id in chosen]
