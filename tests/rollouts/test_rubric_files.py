"""Rubrics as files, criteria in rows, and the question to a judge that was taught nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import RunError
from orchestrator.rollouts.rubric_files import plain_question, read_rubric, with_rubric
from orchestrator.rollouts.rubrics import Criterion, Rubric, official_score, paper_reward
from orchestrator.values import Task

CRITERIA = [
    {"id": "answers", "text": "It answers.", "weight": 2.5, "dimension": "substance"},
    {"id": "scolds", "text": "It scolds.", "weight": -1, "dimension": "tone"},
]
FILE: dict[str, Any] = {"version": 1, "name": "mine", "dimensions": ["substance", "tone"], "criteria": CRITERIA}


def written(folder: Path, values: Any, name: str = "r.json") -> Path:
    path = folder / name
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return path


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    text = """\
\ufeff# mine
version: 1
name: mine
dimensions: [substance, tone]
criteria:
  - {id: answers, text: It answers., weight: 2.5, dimension: substance}
  - id: scolds
    text: It scolds.
    weight: -1
    dimension: tone
"""
    found = read_rubric(written(tmp_path, FILE))
    assert read_rubric(written(tmp_path, text, "r.yaml")) == found
    assert (found.name, found.dimensions) == ("mine", ("substance", "tone"))
    assert found.rubric.criteria == (
        Criterion("answers", "It answers.", 2.5, "substance"),
        Criterion("scolds", "It scolds.", -1, "tone"),
    )


def test_weights_need_not_be_whole() -> None:
    """Positives 2.5 and 0.5, negative 1: with the first met and the negative met, 2.5 / 3 - 1; officially 2.5 of 4."""
    rubric = Rubric((Criterion("a", "a", 2.5), Criterion("b", "b", 0.5), Criterion("c", "c", -1)))
    met = {"a": 1.0, "b": 0.0, "c": 1.0}
    assert paper_reward(rubric, met) == pytest.approx(2.5 / 3 - 1)
    assert official_score(rubric, met) == pytest.approx(2.5 / 4)


def changed(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in (FILE | values).items() if value is not ...}


def with_criterion(**values: Any) -> dict[str, Any]:
    return changed(criteria=[CRITERIA[0], {**CRITERIA[1], **values}])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (changed(version=2), r"r\.json: field 'version' is 2; this software reads version: 1"),
        (changed(version=...), r"field 'version' is None"),
        (changed(version=True), r"field 'version' is True"),
        (changed(name=...), r"field 'name' is None"),
        (changed(weights=[]), r"field 'weights' is unknown; the fields are version, name, dimensions, criteria"),
        (changed(dimensions=["a", "a"]), r"field 'dimensions' is \['a', 'a'\]"),
        (changed(dimensions="tone"), r"field 'dimensions' is 'tone'"),
        (changed(criteria=...), r"r\.json: criteria: field 'criteria' is empty: a rubric needs at least one criterion"),
        (changed(criteria=[]), r"field 'criteria' is empty"),
        (changed(criteria={}), r"r\.json: criteria: is dict; it must be a list"),
        (with_criterion(id="answers"), r"r\.json: criteria: field 'id' is not unique: answers"),
        (with_criterion(weight=0), r"r\.json: criteria\[1\]: criterion 'scolds': field 'weight' is 0"),
        (with_criterion(weight=float("inf")), r"field 'weight' is inf; it must be a number other than 0"),
        (with_criterion(id=3), r"criteria\[1\]: criterion 3: field 'id' is 3; .*a number needs quotes"),
        (with_criterion(text=True), r"field 'text' is True; .*need quotes"),
        (with_criterion(text="a" * 1801), r"criteria\[1\]: .*field 'text' has more than 1,800 bytes; split it"),
        (
            with_criterion(dimension="form"),
            r"criteria\[1\]: .*field 'dimension' is 'form'; the rubric declares substance, tone",
        ),
        (with_criterion(wait=1), r"criteria\[1\]: field 'wait' is unknown"),
        ("{", r"r\.json: is not JSON"),
        ("[]", r"r\.json: must hold the fields version"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, values: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        read_rubric(written(tmp_path, values))


def test_what_is_wrong_in_yaml_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"r\.yaml: is not YAML \(.*line 1"):
        read_rubric(written(tmp_path, "name: [", "r.yaml"))
    with pytest.raises(RunError, match=r"none\.yaml: cannot be read \(No such file"):
        read_rubric(tmp_path / "none.yaml")


def task(**row: Any) -> Task:
    return Task("t", ({"role": "user", "content": "Why?"},), {"row": row, "where": "p.jsonl row 3 (line 4)"})


def test_a_rows_own_criteria_come_after_those_of_the_file(tmp_path: Path) -> None:
    common = read_rubric(written(tmp_path, FILE))
    own = {"id": "own", "text": "It names Paris.", "weight": 3, "dimension": "substance"}
    assert with_rubric(task(), common).reference["rubric"] == CRITERIA
    both = with_rubric(task(criteria=[own]), common)
    assert both.reference["rubric"] == [*CRITERIA, own]
    assert both.reference["where"] == "p.jsonl row 3 (line 4)"
    # in a CSV it is JSON in a cell; without a file it is the whole rubric
    assert with_rubric(task(criteria=json.dumps([own])), None).reference["rubric"] == [own]


@pytest.mark.parametrize(
    ("row", "common", "message"),
    [
        (
            {},
            False,
            r"p\.jsonl row 3 \(line 4\): field 'criteria' is missing, .*: give rubric\.path=FILE, or add the field",
        ),
        ({"criteria": []}, True, r"row 3 \(line 4\): field 'criteria': field 'criteria' is empty"),
        ({"criteria": "x"}, True, r"row 3 \(line 4\): field 'criteria' is a text that is not JSON"),
        ({"criteria": CRITERIA[:1]}, True, r"row 3 .* and the criteria of mine: field 'id' is not unique: answers"),
        (
            {"criteria": [{"id": "own", "text": "t", "weight": 1}]},
            True,
            r"row 3 \(line 4\): field 'criteria'\[0\]: criterion 'own': field 'dimension' is ''",
        ),
    ],
)
def test_what_is_wrong_in_a_rows_criteria_is_named(
    tmp_path: Path, row: dict[str, Any], common: bool, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        with_rubric(task(**row), read_rubric(written(tmp_path, FILE)) if common else None)


def test_the_question_puts_what_all_criteria_share_first() -> None:
    asked = [plain_question(task().messages, "Because.", Criterion(name, f"It is {name}.", 1)) for name in ("a", "b")]
    (first,), (second,) = asked
    assert first["role"] == "user"
    before, after = first["content"].split("Criterion: ")
    assert second["content"] == f"{before}Criterion: It is b."
    assert after == "It is a."
    assert before.startswith("A user asked:\nWhy?\n\nThe response:\nBecause.\n\n")
    assert "yes or no" in before
