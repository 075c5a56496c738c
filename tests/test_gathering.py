"""What is asked before anything is taught: a workload's calls, answered by functions, and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fakes.answerers import FakeAnswerer

from orchestrator import gathering
from orchestrator.cluster.plan import gathering_plans
from orchestrator.config.schema import FleetConfig, RunConfig, ServedConfig
from orchestrator.errors import ConfigError, RunError
from orchestrator.gathering import gather, recall, write_rows
from orchestrator.records import jsonl
from orchestrator.records.folder import RunFolder
from orchestrator.values import Answer, Call, Choice, Fault, Gathered, Message, Sampling

URLS = {"writer": "http://writer/v1", "teacher": "http://teacher/v1"}


@dataclass
class Asking(RunConfig):
    def gathers(self) -> dict[str, ServedConfig]:
        return {role: ServedConfig(url, retries=1) for role, url in URLS.items()}


class AtOnce(Asking):
    gathers_at_once = True


def message(text: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": text},)


class Curious:
    """Asks each role once about each number."""

    def __init__(self, numbers: int, roles: Sequence[str] = ("writer", "teacher")) -> None:
        self.numbers, self.roles = numbers, roles
        self.used: Sequence[Mapping[str, Any]] = ()

    def gather(self) -> Any:
        rows = []
        for role in self.roles:
            said = yield [
                Call(f"{role}/{number}", role, message(f"number {number}"), choices=("yes", "no"))
                for number in range(self.numbers)
            ]
            rows += [{"role": role, "said": str(answer)} for answer in said]
        return Gathered(rows, f"{len(rows)} rows")

    def use(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self.used = rows


class Fleets:
    """Opens a fleet a role; opened: in what order. broken: a call that ends everything."""

    def __init__(self, broken: str = "", faulty: str = "") -> None:
        self.opened: list[str] = []
        self.broken, self.faulty = broken, faulty
        self.fleets = {role: FakeAnswerer(self.answer) for role in URLS}

    def answer(self, call: Call, attempt: int) -> Answer:
        if call.key == self.broken:
            raise RunError("the servers are gone")
        if call.key == self.faulty:
            return Fault("no connection")
        return Choice({"yes": 0.75, "no": 0.25})

    @contextmanager
    def open(self, role: str, served: ServedConfig) -> Iterator[FakeAnswerer]:
        assert served.name == URLS[role]
        self.opened.append(role)
        yield self.fleets[role]
        self.opened.append(f"{role} ends")

    def asked(self, role: str) -> int:
        return len(self.fleets[role].asked)


@pytest.fixture
def config(tmp_path: Path) -> Asking:
    return Asking(workload="curious", storage=str(tmp_path))


def test_one_model_is_asked_after_the_other_and_nothing_twice(config: Asking) -> None:
    fleets, said = Fleets(), list[str]()
    curious = Curious(3)
    found = gather(config, curious, said.append, fleets.open)
    assert found is not None
    assert fleets.opened == ["writer", "writer ends", "teacher", "teacher ends"]
    assert (fleets.asked("writer"), fleets.asked("teacher")) == (3, 3)
    assert curious.used == found.rows
    assert said[0] == "asking the writer (http://writer/v1): 3 of 3 questions are new"
    assert said[-1] == "6 rows"
    # again, with one question more: only that is asked, and a model that has answered all before is not started
    further = Fleets()
    again = gather(config, Curious(4, ("teacher",)), said.append, further.open)
    assert again is not None
    assert (further.opened, further.asked("teacher")) == (["teacher", "teacher ends"], 1)
    assert gather(config, Curious(3), said.append, Fleets(broken="any").open) == found
    assert further.asked("writer") == 0


class Mixed(Curious):
    """Asks the writer and then both in one batch, so many times."""

    def gather(self) -> Any:
        said: list[str] = []
        for number in range(self.numbers):
            for roles in (("writer",), ("writer", "teacher")):
                calls = [
                    Call(f"{role}/{number}/{len(roles)}", role, message(f"{number} of {len(roles)}")) for role in roles
                ]
                said += [type(answer).__name__ for answer in (yield calls)]
        return Gathered([{"said": one} for one in said], "")


def test_models_that_are_served_side_by_side_may_be_asked_in_one_batch(tmp_path: Path) -> None:
    """Two rounds of one and of two questions: four to the writer and two to the teacher, whose servers start once and end
    together. What each has answered is found again, by its model."""
    config, fleets = AtOnce(workload="curious", storage=str(tmp_path)), Fleets(faulty="teacher/1/2")
    found = gather(config, Mixed(2), str, fleets.open)
    assert found is not None
    assert fleets.opened == ["writer", "teacher", "teacher ends", "writer ends"]
    assert [row["said"] for row in found.rows] == ["Choice"] * 5 + ["Fault"]
    assert (fleets.asked("writer"), fleets.asked("teacher")) == (4, 3)  # the faulty one twice
    again = Fleets()
    gather(config, Mixed(2), str, again.open)
    assert (again.opened, again.fleets["teacher"].asked) == (["teacher", "teacher ends"], ["teacher/1/2"])


def test_a_model_may_have_two_roles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which would wait for itself if each role held its answers."""
    monkeypatch.setitem(URLS, "teacher", URLS["writer"])
    fleets = Fleets()
    gather(AtOnce(workload="curious", storage=str(tmp_path)), Mixed(1), str, fleets.open)
    assert (fleets.asked("writer"), fleets.asked("teacher")) == (2, 1)


def test_servers_of_one_time_have_to_fit_together(tmp_path: Path) -> None:
    """Two models of one GPU each: one after the other they fit on one GPU, side by side they need two."""

    @dataclass
    class Big(RunConfig):
        def gathers(self) -> dict[str, ServedConfig]:
            fleet = FleetConfig(gpus_per_server=1)
            return {role: ServedConfig("hf:some/model", fleet=fleet) for role in URLS}

    class BigAtOnce(Big):
        gathers_at_once = True

    assert [plan.gpus for plan in gathering_plans(Big())] == [1, 1]
    assert [plan.gpus for plan in gathering_plans(BigAtOnce())] == [2]


def test_another_form_of_the_answer_is_another_question() -> None:
    call = Call("a", "writer", message("x"), Sampling(4))
    forms = (None, {"type": "string"}, {"type": "null"}, 'root ::= "x"')
    assert len({gathering.Kept.key(replace(call, schema=form)) for form in forms}) == 4


def test_what_was_answered_before_an_interruption_is_kept(config: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of two of five calls; the fifth breaks off, so the last batch is asked again."""
    monkeypatch.setattr(gathering, "AT_ONCE", 2)
    with pytest.raises(RunError, match="the servers are gone"):
        gather(config, Curious(5, ("teacher",)), str, Fleets(broken="teacher/4").open)
    fleets = Fleets()
    gather(config, Curious(5, ("teacher",)), str, fleets.open)
    assert fleets.fleets["teacher"].asked == ["teacher/4"]
    (path,) = (Path(config.storage) / ".cache" / "gathered").glob("*/answers.jsonl")
    assert len(jsonl.read(path)) == 5


def test_a_fault_is_tried_again_handed_on_and_never_kept(config: Asking) -> None:
    fleets = Fleets(faulty="teacher/1")
    found = gather(config, Curious(2, ("teacher",)), str, fleets.open)
    assert found is not None
    assert fleets.fleets["teacher"].asked.count("teacher/1") == 2
    assert ["Fault" in row["said"] for row in found.rows] == [False, True]
    mended = Fleets()
    again = gather(config, Curious(2, ("teacher",)), str, mended.open)
    assert mended.fleets["teacher"].asked == ["teacher/1"]
    assert again is not None
    assert ["Fault" in row["said"] for row in again.rows] == [False, False]


def test_a_rank_uses_what_the_drivers_folder_holds(config: Asking, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "runs", "curious", "x", {})
    other = Curious(0)
    recall(other, folder)
    assert other.used == ()
    rows = [{"role": "writer", "said": "NaN\u2028two\nlines"}, {"role": "teacher", "said": ""}]
    write_rows(folder, Gathered(rows, ""))
    recall(other, folder)
    assert other.used == rows


def test_a_workload_that_asks_nothing_gathers_nothing(config: Asking) -> None:
    assert gather(config, object(), str, Fleets().open) is None


class Wrong(Curious):
    def __init__(self, roles: Sequence[str], ending: Any = None) -> None:
        self.roles, self.ending = roles, ending

    def gather(self) -> Any:
        yield [Call(role, role, message("?"), choices=("yes",)) for role in self.roles]
        if self.ending == "raise":
            raise ValueError("no such row")
        return self.ending


def test_what_a_workload_does_wrong_is_named(config: Asking) -> None:
    with pytest.raises(RunError, match=r"asks teacher, writer at once: one role of writer, teacher at a time"):
        gather(config, Wrong(("writer", "teacher")), str, Fleets().open)
    with pytest.raises(RunError, match="asks critic at once"):
        gather(config, Wrong(("critic",)), str, Fleets().open)
    with pytest.raises(RunError, match="returned 3; let it return `Gathered`"):
        gather(config, Wrong(("writer",), 3), str, Fleets().open)
    with pytest.raises(ConfigError, match=r"the workload's gather\(\): ValueError: no such row"):
        gather(config, Wrong(("writer",), "raise"), str, Fleets().open)


def test_a_gathering_that_breaks_off_is_closed(config: Asking) -> None:
    """At once, not when its error is forgotten: a search may have a thread of its own."""
    ends = []

    class Tidy(Curious):
        def gather(self) -> Any:
            try:
                return (yield from super().gather())
            finally:
                ends.append("closed")

    with pytest.raises(RunError, match="the servers are gone") as gone:
        gather(config, Tidy(2), str, Fleets(broken="writer/1").open)
    assert ends == ["closed"]
    assert gone.value.__traceback__ is not None
