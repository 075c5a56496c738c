"""The guard of a run: what it is about to be trained on is compared with all that is evaluated, and what stands there is left out.

The driver looks, once, before anything is taught; what it dropped is kept in the run's folder, from which every rank, and a run that is
resumed, has it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.config.compose import from_values, to_values, trace
from orchestrator.config.evaluation import EvaluationConfig
from orchestrator.config.own_code import own_code
from orchestrator.config.schema import RunConfig
from orchestrator.config.workloads import find_workload
from orchestrator.contamination.items import Item, asked_task, taught_examples, trained_task
from orchestrator.contamination.near import Match, Trained
from orchestrator.errors import ConfigError, DataError
from orchestrator.learning.starting import check_form, is_taught
from orchestrator.records import trained_on
from orchestrator.records.folder import RunFolder, read_json, write_json
from orchestrator.values import Task

log = logging.getLogger("orchestrator")

TASKS = "tasks"
"""The training tasks, beside the roles of lessons as names of what is trained on."""
READS = ("workload", "data")
"""The settings of every workload that decide its tasks; those that only one workload has do too."""

Tell = Callable[[str], None]


@dataclass(slots=True)
class Finding:
    """What of the training data stands in evaluation data. trained, evaluated: items, by what is trained on and what is evaluated.
    found: (what is trained on, what is evaluated) -> matches. inherited: held-out tasks that a named model was trained on before."""

    action: str
    trained: Mapping[str, Sequence[Item]]
    evaluated: Mapping[str, Sequence[Item]]
    found: dict[tuple[str, str], list[Match]] = field(default_factory=dict)
    inherited: list[dict[str, Any]] = field(default_factory=list)

    def touched(self) -> dict[str, list[str]]:
        """The ids of the training items that were found, in their order."""
        places: dict[str, set[int]] = defaultdict(set)
        for (source, _), pairs in self.found.items():
            places[source] |= {match.training for match in pairs}
        return {
            source: [self.trained[source][place].id for place in sorted(places[source])] for source in sorted(places)
        }

    @property
    def dropped(self) -> dict[str, list[str]]:
        """What is left out of training."""
        return self.touched() if self.action == "drop" else {}

    def rest(self) -> dict[str, list[Item]]:
        """What is trained on in the end."""
        dropped = {source: set(ids) for source, ids in self.dropped.items()}
        return {
            source: [item for item in items if item.id not in dropped.get(source, ())]
            for source, items in self.trained.items()
        }

    def in_words(self) -> str:
        """A line: what was found where, and what is done about it."""
        touched, sizes = self.touched(), {name: len(items) for name, items in self.trained.items()}
        parts = [f"{len(ids):,} of {sizes[name]:,} {_named(name)}" for name, ids in touched.items()]
        where = ", ".join(dict.fromkeys(name for _, name in self.found))
        does = {"drop": "left out of training", "report": "trained on all the same (contamination.action=report)"}
        return f"in training and in evaluation data ({where}): {', '.join(parts)}; {does.get(self.action, 'refused')}"

    def to_json(self) -> dict[str, Any]:
        """As contamination.json has it."""
        return {
            "action": self.action,
            "trained": {name: len(items) for name, items in self.trained.items()},
            "evaluated": {name: len(items) for name, items in self.evaluated.items()},
            "touched": {name: len(ids) for name, ids in self.touched().items()},
            "dropped": self.dropped,
            "found": list(self.rows()),
            "inherited": self.inherited,
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row a pair that was found."""
        for (source, name), pairs in self.found.items():
            for match in pairs:
                one, other = self.trained[source][match.training], self.evaluated[name][match.evaluation]
                yield {
                    "trained": source,
                    "id": one.id,
                    "evaluated": name,
                    "evaluation_id": other.id,
                    "similarity": round(match.similarity, 4),
                    "exact": match.exact,
                    "text": one.begins,
                    "evaluation_text": other.begins,
                }


def look(config: RunConfig, workload: Any, tell: Tell) -> Finding:
    """Compare what a run is trained on with its own held-out tasks, and with those of `contamination.against` and of its sweep.

    tell: is given a line where something was found. Raises DataError where the settings refuse that, or nothing is left to train on.
    """
    trained = trained_items(config, workload)
    finding = Finding(
        config.contamination.action, trained, evaluated_items(config, workload) if any(trained.values()) else {}
    )
    for source, items in trained.items():
        ready = Trained.of(items, config.contamination.n)
        for name, asked in finding.evaluated.items():
            if pairs := ready.matches(asked, config.contamination.threshold):
                finding.found[source, name] = pairs
    finding.inherited = _inherited(config, workload)
    for row in finding.inherited:
        tell(f"{row['model']} was trained on {row['tasks']:,} of the {row['of']:,} {row['split']} tasks ({row['run']})")
    if not finding.found:
        return finding
    if finding.action == "refuse":
        first = next(finding.rows())
        raise DataError(
            f"{finding.in_words()}: the first is {first['id']}, {first['text']!r}, beside {first['evaluation_id']} of "
            f"{first['evaluated']}. Take such data out, or set contamination.action=drop."
        )
    for source, ids in finding.dropped.items():
        if len(ids) == len(trained[source]):
            raise DataError(
                f"{finding.in_words()}: none of the {_named(source)} is left. Train on other data, or set contamination.action=report "
                "to train on these."
            )
    tell(finding.in_words())
    return finding


def _inherited(config: RunConfig, workload: Any) -> list[dict[str, Any]]:
    """The held-out tasks that the runs were trained on whose models this one begins with: what is learned cannot be dropped."""
    with own_code("the workload's tasks()", workload):
        splits = {split: workload.tasks(split) for split in config.splits()[1:]}
    found = []
    for model in dict.fromkeys(role.name for role in config.roles().values()):
        for split, touched in (trained_on.touched(model, config.storage, splits, config.contamination) or {}).items():
            found.append({"model": model, "split": split, "tasks": touched.items, "of": touched.of, "run": touched.run})
    return found


def trained_items(config: RunConfig, workload: Any) -> dict[str, list[Item]]:
    """What a run is trained on: its tasks, and the examples of each lesson that it is taught, by the lesson's role."""
    roles = config.roles()
    with own_code("the workload's tasks()", workload):
        tasks: Sequence[Task] = workload.tasks("train") if config.steps and config.learns else ()
        check_form("train", tasks)
    with own_code("the workload's lessons()", workload):
        taught_here = {name for name, role in roles.items() if is_taught(role) and not role.elsewhere}
        lessons = [lesson for lesson in workload.lessons() if lesson.role in taught_here]
        taught = {lesson.role: taught_examples(lesson.examples()) for lesson in lessons}
    return {TASKS: [trained_task(task) for task in tasks], **taught}


def evaluated_items(config: RunConfig, workload: Any) -> dict[str, list[Item]]:
    """What is evaluated: the run's own held-out tasks, what the settings name, and what its sweep evaluates; no tasks twice."""
    found = _asked("", config, workload)
    seen = [_reads(config)]
    for name, other in (*_named_by(config.contamination.against), *_of_sweep(config.contamination.sweep)):
        if _reads(other) not in seen:
            seen.append(_reads(other))
            with own_code(f"contamination: the workload of {name}", find_workload(other.workload).workload):
                asked = _asked(f"{name} ", other, find_workload(other.workload).workload(other))
            found |= asked
    return found


def _asked(prefix: str, config: RunConfig, workload: Any) -> dict[str, list[Item]]:
    """The held-out tasks of a run by split; of an evaluation by the part of each."""
    found: dict[str, list[Item]] = {}
    with own_code("the workload's tasks()", workload):
        for split in config.splits() if config.evaluates else config.splits()[1:]:
            tasks = workload.tasks(split)
            check_form(split, tasks)
            for task in tasks:
                part = task.reference.get("benchmark", split) if config.evaluates else split
                found.setdefault(f"{prefix}{part}", []).append(asked_task(task))
    return found


def _named_by(against: str | None) -> Iterator[tuple[str, RunConfig]]:
    for target in filter(None, (word.strip() for word in (against or "").split(","))):
        try:
            yield Path(target).stem, trace(target).config
        except ConfigError as error:
            raise ConfigError(f"contamination.against={against}: {error}") from error


def _of_sweep(path: str | None) -> Iterator[tuple[str, RunConfig]]:
    if path is None:
        return
    if not Path(path).is_file():
        raise ConfigError(
            f"contamination.sweep={path}: there is no such file. A sweep writes it; set contamination.sweep=null to run without it."
        )
    for name, values in read_json(Path(path)).items():
        yield name, from_values(values)


def written_for_runs(path: Path, configs: Mapping[str, RunConfig]) -> None:
    """Keep what the runs of a sweep evaluate where each of them finds it (`contamination.sweep`). configs: by name."""
    apart: dict[str, tuple[str, RunConfig]] = {}
    for name, config in configs.items():
        apart.setdefault(repr(_reads(config)), (name, config))
    write_json(path, {name: to_values(config) for name, config in apart.values()})


def _reads(config: RunConfig) -> dict[str, Any]:
    """The settings that decide which tasks are evaluated."""
    core = EvaluationConfig if config.evaluates else RunConfig
    shared = core.__dataclass_fields__.keys() - set(READS)
    return {name: value for name, value in to_values(config).items() if name not in shared} | {
        "splits": config.splits()
    }


def keep(folder: RunFolder, finding: Finding) -> None:
    """Write what was found into the run's folder."""
    write_json(folder.contamination, finding.to_json())


def recall(workload: Any, folder: RunFolder | None) -> Any:
    """The workload without the training data that the driver dropped for this run."""
    there = folder and folder.contamination.is_file()
    return without(workload, read_json(folder.contamination)["dropped"]) if folder and there else workload


def without(workload: Any, dropped: Mapping[str, Sequence[str]]) -> Any:
    """The workload without these training tasks and examples of lessons; itself where there are none."""
    return _Rest(workload, {source: frozenset(ids) for source, ids in dropped.items()}) if dropped else workload


class _Rest:
    """A workload less what was dropped. Its own methods still see all of it: words of a tokenizer, the prompts of an exam."""

    def __init__(self, workload: Any, dropped: Mapping[str, frozenset[str]]) -> None:
        self._workload, self._dropped = workload, dropped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workload, name)

    def tasks(self, split: str) -> Sequence[Task]:
        tasks: Sequence[Task] = self._workload.tasks(split)
        dropped = self._dropped.get(TASKS, frozenset()) if split == "train" else frozenset()
        return [task for task in tasks if task.id not in dropped] if dropped else tasks

    def lessons(self) -> Sequence[Any]:
        return [
            _RestOfLesson(lesson, self._dropped[lesson.role]) if lesson.role in self._dropped else lesson
            for lesson in self._workload.lessons()
        ]


class _RestOfLesson:
    def __init__(self, lesson: Any, dropped: frozenset[str]) -> None:
        self._lesson, self._dropped = lesson, dropped

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lesson, name)

    def examples(self) -> Sequence[Any]:
        examples = enumerate(self._lesson.examples())
        return [example for number, example in examples if str(number) not in self._dropped]


def _named(source: str) -> str:
    return "training tasks" if source == TASKS else f"examples that teach the {source}"
