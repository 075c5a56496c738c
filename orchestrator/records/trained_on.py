"""What a model was trained on, in its run's folder, and which tasks of an evaluation that touches.

It is what the guard of a run compares (`orchestrator.contamination`), and by the same rule: a benchmark that a run was not compared
with when it began is told as touched when the run is evaluated on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.contamination import ContaminationConfig
from orchestrator.config.references import ModelReference, find_run
from orchestrator.config.schema import RunConfig
from orchestrator.contamination.items import Item, asked_task, bare
from orchestrator.contamination.near import Trained
from orchestrator.records.folder import RunFolder, read_json, write_json
from orchestrator.values import Task


@dataclass(frozen=True, slots=True)
class Touched:
    """How many of a part's items a run was trained on. run: the one that was."""

    items: int
    of: int
    run: str


def keep(
    folder: RunFolder, config: RunConfig, trained: Mapping[str, Collection[Item]], begun_from: Path | None
) -> None:
    """Write what a run is about to be trained on, and what the runs were that its models come from.

    trained: items by what is trained on, as `contamination.guard.trained_items` has them. begun_from: the folder of the run of whose
    checkpoint it is a fork or a continuation.
    """
    before: dict[str, Any] = {}
    for source in _sources(config, begun_from):
        before |= read_json(source.trained_on)["runs"] if source.trained_on.is_file() else {_name(source): None}
    rows = {source: [_row(item) for item in items] for source, items in trained.items()}
    write_json(folder.trained_on, {"runs": before | {_name(folder): rows}})


def _row(item: Item) -> list[Any]:
    return [item.group, bare("\n".join(item.texts)), sorted(item.marks)]


def _sources(config: RunConfig, begun_from: Path | None) -> Iterator[RunFolder]:
    """The runs that the models of a run come from: also what rates answers hands on what it was trained on."""
    if begun_from:
        yield RunFolder(begun_from)
    for role in config.roles().values():
        reference = ModelReference.parse(role.name)
        if reference.kind == "run":
            yield RunFolder(find_run(reference.value, config.storage))


def _name(folder: RunFolder) -> str:
    return f"{folder.workload}/{folder.name}"


def read(folder: RunFolder) -> dict[str, dict[str, list[Item]] | None]:
    """What `keep` wrote: by run the items of each thing that it was trained on, None where that is not known.

    Of runs of before there are marks alone, in one list.
    """
    return {
        run: known if known is None else {name: [*map(_item, rows)] for name, rows in _by_source(known).items()}
        for run, known in read_json(folder.trained_on)["runs"].items()
    }


def _by_source(known: Any) -> dict[str, list[Any]]:
    return known if isinstance(known, dict) else {"": known}


def _item(row: Any) -> Item:
    group, text, marks = (row, "", [row]) if isinstance(row, str) else row
    return Item("", group, (text,), frozenset(marks))


def touched(
    model: str,
    storage: str | Path,
    parts: Mapping[str, Sequence[Task]],
    settings: ContaminationConfig | None = None,
) -> dict[str, Touched] | None:
    """The parts of which the model of a run was trained on any item; None where nobody knows: it is no run's, or of one before which
    nothing was recorded.

    parts: tasks by part; those that are tries of one item have its id in `reference["item"]`. settings: what counts as a
    near-duplicate. Raises ConfigError where the run is not there.
    """
    reference = ModelReference.parse(model)
    if reference.kind != "run":
        return None
    folder = RunFolder(find_run(reference.value, storage))
    if not folder.trained_on.is_file():
        return None
    runs, rule = read(folder), settings or ContaminationConfig()
    trained = {
        run: [Trained.of(items, rule.n) for items in known.values()] for run, known in runs.items() if known is not None
    }
    found: dict[str, Touched] = {}
    for part, tasks in parts.items():
        hits = {run: _hits(known, tasks, rule.threshold) for run, known in trained.items()}
        run = max(hits, key=lambda name: len(hits[name]), default="")
        if run and hits[run]:
            count = len({_of_item(task) for task in tasks})
            found[part] = Touched(len(set().union(*hits.values())), count, run)
    if not found and None in runs.values():
        return None
    return found


def _hits(known: Sequence[Trained], tasks: Sequence[Task], threshold: float) -> set[str]:
    """The items of an evaluation that a run was trained on."""
    asked = [asked_task(task) for task in tasks]
    return {_of_item(tasks[match.evaluation]) for items in known for match in items.matches(asked, threshold)}


def _of_item(task: Task) -> str:
    return str(task.reference.get("item", task.id))
