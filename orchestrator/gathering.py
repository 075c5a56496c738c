"""What a workload asks of other models before anything is taught: answers to judge, labels to learn from.

the workload's calls -> what is kept of before -> the model's own servers, or its URL -> answers, each kept at once -> rows
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from orchestrator.config.own_code import own_code
from orchestrator.config.references import ModelReference, resolve
from orchestrator.config.schema import RunConfig, ServedConfig
from orchestrator.errors import RunError
from orchestrator.fleets.alone import serving
from orchestrator.fleets.fleet import Answerer
from orchestrator.fleets.remote import RemoteFleet
from orchestrator.fleets.specs import ServerSpec
from orchestrator.fleets.verdict_cache import read, written
from orchestrator.learning.starting import content_of, digest
from orchestrator.records import jsonl
from orchestrator.records.folder import RunFolder, atomic_write, give_back, take
from orchestrator.rollouts.judging import insist
from orchestrator.values import Answer, Call, Fault, Gathered

AT_ONCE = 256
"""Calls of a batch: what was answered before the last one is kept, whatever happens."""
FOLDER, ANSWERS = "gathered", "answers.jsonl"
"""Under the storage's cache, a folder a model; in it a line an answer."""
POLL_S = 1.0
Tell = Callable[[str], None]
Open = Callable[[str, ServedConfig], Any]
"""(role, what is served) -> a context that lends an Answerer."""


def gather(config: RunConfig, workload: Any, tell: Tell, opened: Open | None = None) -> Gathered | None:
    """Ask what the workload wants to know, and let it use that. Returns what is to be kept; None where it wants to know nothing.

    tell: is given a line about how far it is. opened: by default servers of the model's own, or its URL. Raises RunError.
    """
    if not hasattr(workload, "gather"):
        return None
    with ExitStack() as stack:
        asking = _Asking(config, tell, opened or partial(answering, config), stack)
        found = _played(workload, asking)
    if found is None:
        return None
    tell(found.told)
    with own_code("the workload's use()", workload):
        workload.use(found.rows)
    return found


def write_rows(folder: RunFolder, found: Gathered) -> None:
    """Keep what was gathered in the run's folder."""
    atomic_write(folder.labels, "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in found.rows))


def recall(workload: Any, folder: RunFolder) -> None:
    """Let the workload use what the driver gathered for this run."""
    if folder.labels.is_file():
        workload.use([json.loads(line) for line in folder.labels.read_text().split("\n") if line])


def _played(workload: Any, ask: Callable[[Sequence[Call]], list[Answer]]) -> Gathered | None:
    answers = None
    # Closed where an answer cannot be had, too: a search may have a thread of its own.
    with closing(workload.gather()) as gathering:
        while True:
            with own_code("the workload's gather()", workload):
                try:
                    calls = gathering.send(answers)
                except StopIteration as end:
                    if not isinstance(end.value, Gathered | None):
                        raise RunError(
                            f"the workload's gather() returned {end.value!r:.80}; let it return `Gathered`."
                        ) from None
                    return end.value
            answers = ask(calls)


class _Asking:
    """Answers calls of one model at a time, whose servers end when another one is asked; or of all models, side by side, until `stack`
    ends (`RunConfig.gathers_at_once`)."""

    def __init__(self, config: RunConfig, tell: Tell, opened: Open, stack: ExitStack) -> None:
        self._config, self._tell, self._open = config, tell, opened
        self._stack = stack.enter_context(ExitStack())
        self._served = config.gathers()
        self._kept: dict[str, Kept] = {}
        self._fleets: dict[str, Answerer] = {}

    def __call__(self, calls: Sequence[Call]) -> list[Answer]:
        if not calls:
            return []
        self._turn_to({call.role for call in calls})
        missing = [call for call in calls if Kept.key(call) not in self._kept[call.role].answers]
        faults: dict[str, Answer] = {}
        for start in range(0, len(missing), AT_ONCE):
            some = missing[start : start + AT_ONCE]
            asked = list(dict.fromkeys(call.role for call in some))
            for role in asked:
                self._begin(role, missing, calls)
            answers, _ = insist(some, self._fleets, {role: self._served[role].retries for role in asked})
            for role in asked:
                mine = [index for index, call in enumerate(some) if call.role == role]
                self._kept[role].add([some[index] for index in mine], [answers[index] for index in mine])
            faults |= {call.key: found for call, found in zip(some, answers, strict=True) if isinstance(found, Fault)}
            self._tell(f"asking the {' and the '.join(asked)}: {start + len(some):,} of {len(missing):,}")
        kept = self._kept
        return [faults[call.key] if call.key in faults else kept[call.role].answers[Kept.key(call)] for call in calls]

    def _turn_to(self, roles: set[str]) -> None:
        """Have what these roles have answered before, and nothing of others that are not asked at the same time."""
        at_once = self._config.gathers_at_once
        if (len(roles) > 1 and not at_once) or not roles <= self._served.keys():
            raise RunError(
                f"the workload's gather() asks {', '.join(sorted(roles))} at once: "
                f"{'some' if at_once else 'one role'} of {', '.join(self._served) or 'none'} at a time."
            )
        if roles <= self._kept.keys():
            return
        self._stack.close()
        self._fleets = {}
        folders = {role: self._folder(role) for role in (self._served if at_once else roles)}
        # A model may have several roles. In one order for all runs: none then waits for another that waits for it.
        held = {
            folder: self._stack.enter_context(_held(folder, self._tell)) for folder in sorted(set(folders.values()))
        }
        self._kept = {role: held[folder] for role, folder in folders.items()}

    def _begin(self, role: str, missing: Sequence[Call], calls: Sequence[Call]) -> None:
        if role not in self._fleets:
            new, all_ = (sum(call.role == role for call in some) for some in (missing, calls))
            served = self._served[role]
            self._tell(f"asking the {role} ({served.name}): {new:,} of {all_:,} questions are new")
            self._fleets[role] = self._stack.enter_context(self._open(role, served))
        self._fleets[role].begin_step("gather")

    def _folder(self, role: str) -> Path:
        storage = self._config.storage
        return Path(storage) / ".cache" / FOLDER / _identity(self._served[role], storage)


class Kept:
    """What a model has answered, in a file that one process holds. answers: by `key` of the call."""

    def __init__(self, path: Path, answers: dict[str, Answer]) -> None:
        self._path, self.answers = path, answers

    @staticmethod
    def key(call: Call) -> str:
        """Of what is asked and of the seed: another attempt at the same question has another one."""
        drawn = asdict(call.sampling) if call.sampling else None
        asked: list[Any] = [[dict(message) for message in call.messages], call.choices, drawn, call.seed]
        # Where there is none the key is that of answers kept before there were schemas.
        asked += [call.schema] if call.schema is not None else []
        return hashlib.blake2b(json.dumps(asked, sort_keys=True).encode(), digest_size=16).hexdigest()

    def add(self, calls: Sequence[Call], answers: Sequence[Answer]) -> None:
        """Keep what is no fault, on disk before this returns."""
        log = jsonl.LineLog(self._path)
        for call, answer in zip(calls, answers, strict=True):
            if not isinstance(answer, Fault):
                self.answers[self.key(call)] = answer
                log.append({"key": self.key(call), **written(answer)})


@contextmanager
def _held(folder: Path, tell: Tell) -> Iterator[Kept]:
    """A model's answers, for this process alone: two runs that asked the same at once would pay twice."""
    waiting = False
    while not take(folder, POLL_S):
        if not waiting:
            tell("waiting for another run that asks the same model")
        waiting = True
    try:
        path = folder / ANSWERS
        yield Kept(path, {str(line["key"]): read(line) for line in jsonl.read(path)})
    finally:
        give_back(folder)


def _identity(served: ServedConfig, storage: str) -> str:
    """A folder's name for all that decides a model's answers."""
    reference = ModelReference.parse(served.name)
    content = served.name if served.elsewhere else content_of(str(resolve(reference, storage)))
    shape: Mapping[str, Any] = asdict(replace(served.model, name=""))
    return digest(
        [content, served.served_name, {name: shape[name] for name in ("context_tokens", "thinking", "dtype")}]
    )


@contextmanager
def answering(config: RunConfig, role: str, served: ServedConfig, group: str = "") -> Iterator[Answerer]:
    """The servers of a model, which end with the block, or its URL. group: of its settings, if not the role's name."""
    if served.elsewhere:
        yield RemoteFleet.of(served, os.environ.get(served.api_key_env), group or role)
        return
    folder = str(resolve(ModelReference.parse(served.name), config.storage))
    specs = [
        ServerSpec(role, index, folder, True, served.model, served.fleet, scores=served.scores)
        for index in range(served.fleet.servers)
    ]
    with serving(config, specs) as fleet:
        yield fleet
