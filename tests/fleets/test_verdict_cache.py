"""What is kept of a judge's answers, and what is never mixed up."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.fleets import verdict_cache
from orchestrator.fleets.verdict_cache import VerdictCache
from orchestrator.values import Call, Choice, Fault, Sampling, Score, Turn

CALL = Call("1/task/0/c0", "judge", ({"role": "user", "content": "is it so ?"},), choices=("yes", "no"), seed=3)
SAMPLED = replace(CALL, choices=(), sampling=Sampling(8, 0.5))
YES = Choice({"yes": 0.75, "no": 0.125})
TURN = Turn("judge", (1, 2), (3, 4), (-0.5, -0.25), "it is", "stop", 0.5, 0, 3)


class Opened(VerdictCache):
    """Of the file `verdicts` of a folder; `told` is what it said."""

    def __init__(self, folder: Path, model: str = "m") -> None:
        self.told: list[str] = []
        super().__init__(folder / "a" / "verdicts", model, self.told.append)
        self.open()


def test_answers_are_found_again_by_another_process_to_the_last_bit(tmp_path: Path) -> None:
    third = Choice({"yes": 1 / 3})
    other = replace(CALL, messages=({"role": "user", "content": "é\ud800 ?"},))
    first = Opened(tmp_path)
    scalar, score = replace(CALL, choices=(), scalar=True), Score(1 / 3, -2 / 3)
    first.keep("train", [CALL, SAMPLED, other, scalar], [YES, TURN, third, score])
    first.close()
    second = Opened(tmp_path)
    assert second.find("train", [other, CALL, SAMPLED, scalar]) == [third, YES, TURN, score]
    assert (first.told, second.told) == ([], [])


@pytest.mark.parametrize(
    "other",
    [
        replace(CALL, messages=({"role": "user", "content": "is it so?"},)),
        replace(CALL, messages=({"role": "system", "content": "is it so ?"},)),
        replace(CALL, choices=("yes",)),
        replace(CALL, schema={"type": "string"}),
        replace(CALL, schema='root ::= "yes"'),
        SAMPLED,
    ],
)
def test_another_question_is_not_answered(tmp_path: Path, other: Call) -> None:
    cache = Opened(tmp_path)
    cache.keep("train", [CALL], [YES])
    assert cache.find("train", [other]) == [None]


def test_purposes_and_models_do_not_cross(tmp_path: Path) -> None:
    cache = Opened(tmp_path)
    cache.keep("train", [CALL], [YES])
    assert [cache.find(purpose, [CALL])[0] for purpose in ("train", "eval", "exam")] == [YES, None, None]
    cache.close()
    assert Opened(tmp_path, "other").find("train", [CALL]) == [None]


def test_probabilities_belong_to_the_question_alone_and_samples_to_their_seed(tmp_path: Path) -> None:
    """Neither the call's name nor its route is part of the question."""
    cache = Opened(tmp_path)
    cache.keep("train", [CALL, SAMPLED], [YES, TURN])
    renamed = [replace(call, key="2/task/1/c0", route="2/task/1") for call in (CALL, SAMPLED)]
    assert cache.find("train", renamed) == [YES, TURN]
    assert cache.find("train", [replace(call, seed=4) for call in renamed]) == [YES, None]
    warmer = replace(SAMPLED, sampling=Sampling(8, 0.75))
    assert cache.find("train", [warmer]) == [None]


def test_faults_are_never_kept(tmp_path: Path) -> None:
    cache = Opened(tmp_path)
    other = replace(CALL, choices=("yes",))
    cache.keep("train", [CALL, other], [Fault("no room", lasting=True), YES])
    assert cache.find("train", [CALL, other]) == [None, YES]


def test_a_file_that_is_no_database_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "verdicts"
    path.write_text("not a database, but longer than one header of it" * 9)
    cache = Opened(tmp_path)
    cache.keep("train", [CALL], [YES])
    assert cache.find("train", [CALL]) == [None]
    (told,) = cache.told
    assert told == cache.problem
    assert "goes on without" in told
    assert str(path) in told
    assert "not a database" in told
    assert path.read_text().startswith("not a database")


def test_a_file_that_another_process_holds_is_not_waited_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdict_cache, "LOCKED_S", 0.2)
    first = Opened(tmp_path)
    second = Opened(tmp_path)
    second.keep("train", [CALL], [YES])
    assert (first.told, second.find("train", [CALL])) == ([], [None])
    assert "locked" in second.problem
    first.keep("train", [CALL], [YES])
    assert first.find("train", [CALL]) == [YES]


def test_a_file_that_breaks_in_use_ends_nothing(tmp_path: Path) -> None:
    """Its table is gone: the first look says so, and later ones are quiet."""
    cache = Opened(tmp_path)
    assert cache._file is not None
    cache._file.execute("DROP TABLE verdicts")
    assert cache.find("train", [CALL, CALL]) == [None, None]
    cache.keep("train", [CALL], [YES])
    assert len(cache.told) == 1


def test_a_full_file_keeps_no_more_and_is_still_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten pages of 4,096 bytes hold some hundreds of verdicts, and not ten thousand."""
    monkeypatch.setattr(verdict_cache, "LARGEST_BYTES", 10 * 4096)
    cache = Opened(tmp_path)
    cache.keep("train", [CALL], [YES])
    many = [replace(CALL, messages=({"role": "user", "content": str(n)},)) for n in range(10_000)]
    cache.keep("train", many, [YES] * len(many))
    cache.keep("train", many[:1], [YES])
    assert cache.find("train", [CALL, many[0]]) == [YES, None]
    (told,) = cache.told
    assert "full" in told


def test_a_verdict_takes_about_a_hundred_bytes(tmp_path: Path) -> None:
    """16 bytes of key and 60 of two probabilities with all their digits, and what the tree leaves free."""
    cache = Opened(tmp_path)
    calls = [replace(CALL, messages=({"role": "user", "content": str(n)},)) for n in range(10_000)]
    cache.keep("train", calls, [Choice({"yes": 1 / (3 + n), "no": 1 - 1 / (3 + n)}) for n in range(len(calls))])
    cache.close()
    size = (tmp_path / "a" / "verdicts").stat().st_size / len(calls)
    assert 60 < size < 160
    with sqlite3.connect(tmp_path / "a" / "verdicts") as file:
        assert file.execute("SELECT count(*) FROM verdicts").fetchone() == (10_000,)
