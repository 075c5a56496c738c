"""Scenarios: the published files byte for byte, and what is wrong in one is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.cdi import SENSITIVE, SHAREABLE, scenario

from orchestrator.errors import DataError
from workloads.cdi.scenario import Scenario, address, as_file, read_scenario, read_scenarios, user_id

CONFIGS = Path(__file__).parents[2].parent / "shared" / "data" / "cdi" / "configs"


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the published configurations are not beside the repository")
def test_published_files_come_back_byte_for_byte() -> None:
    paths = [path for split in ("train", "test") for path in sorted((CONFIGS / split).glob("*.json"))]
    assert len(paths) == 35
    for path in paths:
        assert as_file(read_scenario(path)) == path.read_text(encoding="utf-8"), path


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the published configurations are not beside the repository")
def test_published_scenarios_say_what_the_files_say() -> None:
    """Of the files, counted in an editor: example_2 and example_59 have 2 sensitive facts, all others 3, and all 3 shareable ones;
    example_91 leaks by a post; in example_9 subject and sender are one person."""
    train, test = (read_scenarios(CONFIGS / split) for split in ("train", "test"))
    assert [one.id for one in train[:3]] == ["example_6", "example_7", "example_8"]
    assert {one.id for one in (*train, *test) if len(one.sensitive) == 2} == {"example_2", "example_59"}
    assert {len(one.sensitive) for one in train} == {3}
    assert {len(one.shareable) for one in (*train, *test)} == {3}
    leaks = {one.id: (one.leak_application, one.leak_function) for one in train}
    assert leaks["example_91"] == ("Facebook", "create_post")
    assert leaks["example_73"] == ("Gmail", "send_email")
    assert [one.id for one in train if one.subject.user == one.sender.user] == ["example_9"]


def test_a_scenario_is_its_json() -> None:
    made = scenario()
    values = made.to_json()
    assert Scenario.from_json(values, made.id) == made
    assert list(values["simulation_config"]["data_sender_agent"])[-3:] == ["task", "requirement", "sensitive_data"]
    assert (made.sensitive, made.shareable) == (SENSITIVE, SHAREABLE)
    assert made.attacked("Hurry!").recipient.task == "Hurry!"
    assert made.recipient.task == "Get it all."


def test_ids_and_addresses() -> None:
    assert (user_id("Jane Van Thompson"), address("Jane Thompson")) == ("jane_van_thompson", "jane_thompson@gmail.com")


def test_one_without_shareable_facts_comes_back_without() -> None:
    values = scenario().to_json()
    del values["simulation_config"]["data_subject_agent"]["shareable_data"]
    read = Scenario.from_json(values, "old")
    assert read.shareable == ()
    assert read.to_json() == values


def _change(path: str, value: Any) -> Any:
    values = scenario().to_json()
    *way, last = path.split(".")
    inner = values
    for key in way:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("principle", None, r"x lacks 'principle'"),
        ("more", "y", r"x has, and nothing is known of, 'more'"),
        ("simulation_config.data_sender_agent.task", 3, r"data_sender_agent.task is 3: it must be a text"),
        ("simulation_config.data_subject_agent.sensitive_data", "all", "sensitive_data and shareable_data must have"),
        ("available_applications", "Gmail", "available_applications is a str: it must be a list"),
        ("original_tasks", [], "original_tasks is a list"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Scenario.from_json(_change(path, value), "x")


def test_broken_files_and_empty_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no scenarios"):
        read_scenarios(tmp_path)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.json is no JSON file"):
        read_scenarios(tmp_path)


@pytest.mark.parametrize("kind", ["shareable", "sensitive"])
def test_configs_that_cannot_be_measured_are_read_and_not_played(tmp_path: Path, kind: str) -> None:
    """R_AD would divide by no shareable facts, a leak score by no sensitive ones."""
    path = tmp_path / "example_5.json"
    path.write_text(json.dumps(_change(f"simulation_config.data_subject_agent.{kind}_data.content", [])))
    assert getattr(read_scenario(path), kind) == ()
    with pytest.raises(DataError, match=rf"example_5\.json: its subject has no {kind} facts.*leave it out"):
        read_scenarios(tmp_path)
