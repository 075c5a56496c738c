"""Configs from norms: which norms are taken, what is asked, and what is accepted of the answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DataError, RunError
from orchestrator.values import Answer, Call, Fault, Gathered, Turn, Unscored
from workloads.cdi.generation import GENERATOR, STEPS, VERIFIER, generate, read_object
from workloads.cdi.norms import Norm, read_norms
from workloads.cdi.scenario import Scenario

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
NORMS = SHARED / "privacylens" / "main_data.json"
needs_data = pytest.mark.skipif(not NORMS.is_file(), reason="PrivacyLens' data is not there")


def norm(number: int = 7, applications: tuple[str, ...] = ("Gmail", "Messenger")) -> Norm:
    seed = {"data_type": "debts", "data_recipient": "a landlord", "transmission_principle": "reply an email"}
    return Norm(
        f"example_{number}",
        f"main{number}",
        seed,
        {"story": "A story."},
        ("He owes 50.",),
        applications,
        ("Gmail", "send_email"),
    )


PERSON = {"social_background": "You are somebody.", "public_profile": "Somebody."}
PEOPLE = {"data_subject": PERSON, "data_sender": PERSON, "data_recipient": PERSON}
ANSWERS: Mapping[str, Mapping[str, Any]] = {
    "norm": {"norm": "A friend should not tell a landlord of debts."},
    "people": {
        "data_subject": {"name": "Ann Lee", "background": "A tenant."},
        "data_sender": {"name": "Bob May", "background": "A friend."},
        "data_recipient": {"name": "Cy Orr", "background": "A landlord."},
        "relationship": "Bob is Ann's friend.",
    },
    "config": {
        **PEOPLE,
        "sensitive_data": {"data_type": "debts", "content": ["Ann owes 1.", "Ann owes 2.", "Ann owes 3."]},
    },
    "shareable": {
        **PEOPLE,
        "shareable_data": {
            "data_type": "moving",
            "content": ["Ann moves on May 1.", "Ann has 2 cats.", "Ann has a key."],
        },
        "principle": "Moving may be told, debts may not.",
    },
    "verified": {
        **{claim: {"reason": "It holds.", "holds": True} for claim in ("access", "appropriateness", "motives")},
        "final_judgment": True,
    },
}


def turn(text: str) -> Turn:
    return Turn(GENERATOR, (), (), (), text, "stop", 1.0, 0, 0)


def played(
    norms: Sequence[Norm], changed: Mapping[str, Mapping[str, Any] | str], retries: int = 1
) -> tuple[Gathered, list[Call]]:
    """What comes of the answers above with some changed, by "NORM STEP" or "NORM STEP ATTEMPT"."""
    asked: list[Call] = []

    def answer(call: Call) -> Answer:
        _, name, step, attempt = call.key.split("/")
        said = changed.get(f"{name} {step} {attempt}", changed.get(f"{name} {step}", ANSWERS[step]))
        return turn(said if isinstance(said, str) else json.dumps(said))

    gathering = generate(norms, 500, retries, 0)
    calls = next(gathering)
    while True:
        asked += calls
        try:
            calls = gathering.send([answer(call) for call in calls])
        except StopIteration as end:
            return end.value, asked


def test_a_config_is_made_in_five_steps() -> None:
    found, asked = played([norm(), norm(8, ("Gmail",))], {})
    assert [call.key.split("/")[2] for call in asked[::2]] == [step.name for step in STEPS]
    assert [call.role for call in asked] == [GENERATOR] * 8 + [VERIFIER] * 2
    assert [call.sampling.temperature for call in asked[::2] if call.sampling] == [0.0, 0.0, 1.0, 1.0, 0.0]
    first, second = (Scenario.from_json(row["config"], row["id"]) for row in found.rows)
    assert (first.id, first.original_name, first.leak_application, first.leak_function) == (
        "example_7", "main7", "Gmail", "send_email",
    )  # fmt: skip
    assert (first.sender.application, second.sender.application) == ("Messenger", "Gmail")
    assert first.available_applications == ("Messenger", "Gmail")
    assert (len(first.shareable), first.sensitive[0]) == (3, "Ann owes 1.")
    assert "moving" in first.recipient.task
    assert "moving" not in first.original_tasks["data_recipient_agent"]
    assert "Ann owes 1." in asked[6].messages[1]["content"]
    assert found.told == "2 configs of 2 norms"


def test_a_broken_answer_is_asked_for_again() -> None:
    found, asked = played([norm()], {"example_7 people 0": "Here it is: {}"})
    assert len(found.rows) == 1
    assert [call.key for call in asked if "people" in call.key] == [
        "config/example_7/people/0",
        "config/example_7/people/1",
    ]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"example_7 norm": "no idea"}, "without an answer to the step 'norm'"),
        ({"example_7 verified": {**ANSWERS["verified"], "final_judgment": False}}, "refused by the verifier"),
        ({"example_7 verified": {**ANSWERS["verified"], "access": {"reason": "No.", "holds": False}}}, "refused by the verifier"),
        (
            {"example_7 config": {**ANSWERS["config"], "sensitive_data": {"data_type": "debts", "content": ["Ann owes 1."] * 3}}},
            "with a fact twice",
        ),
        (
            {"example_7 config": {**PEOPLE, "sensitive_data": {"data_type": "debts", "content": ["a 1", "Ann 2", "Ann 3"]}}},
            "with a fact that does not name its subject",
        ),
        (
            {"example_7 people": {**ANSWERS["people"], "data_recipient": {"name": "Bob May", "background": "Both."}}},
            "with a recipient who is the sender or the subject",
        ),
    ],
)  # fmt: skip
def test_what_is_unsound_or_refused_is_left_out_and_counted(changed: Mapping[str, Any], reason: str) -> None:
    found, asked = played([norm(), norm(8)], changed)
    assert [row["id"] for row in found.rows] == ["example_8"]
    assert found.told == f"1 configs of 2 norms; left out: 1 {reason}"
    if "verifier" not in reason:
        assert not any(call.key.startswith("config/example_7/verified") for call in asked)
    with pytest.raises(RunError, match=f"no norm became a config \\(1 {reason}"):
        played([norm()], changed)


SHAPE = {"name": str, "ok": bool, "facts": [str, str]}


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "ok": true}',
        '{"name": "a", "ok": true, "facts": ["b", "c"], "more": 1}',
        '{"name": "a", "ok": true, "facts": ["b"]}',
        '{"name": "a", "ok": "true", "facts": ["b", "c"]}',
        '{"name": " ", "ok": true, "facts": ["b", "c"]}',
        '[{"name": "a", "ok": true, "facts": ["b", "c"]}]',
        '```json\n{"name": "a", "ok": true, "facts": ["b", "c"]}\n```',
    ],
)
def test_an_answer_is_exactly_the_object(text: str) -> None:
    assert isinstance(read_object(turn(text), SHAPE), Unscored)


def test_thinking_stands_before_the_object() -> None:
    text = '<think>Well {"name": 1}.</think> {"name": "a", "ok": false, "facts": ["b", "c"]}'
    assert read_object(turn(text), SHAPE) == {"name": "a", "ok": False, "facts": ["b", "c"]}
    assert read_object(Fault("gone"), SHAPE) == Unscored("gone")


@needs_data
def test_the_norms_that_can_be_played() -> None:
    """Of 493 items 123 use Messenger, Facebook and Gmail alone; 18 of these are told in a group chat."""
    norms = read_norms(NORMS)
    assert len(norms) == 105
    assert {norm.told_with[0] for norm in norms} == {"Messenger", "Gmail", "Facebook"}
    assert not any("group chat" in norm.seed["transmission_principle"].lower() for norm in norms)
    assert read_norms(NORMS, seed=1)[0] != norms[0]


@needs_data
def test_the_shuffle_numbers_the_norms_as_the_published_configs_are() -> None:
    """Those above 100; the others come from an earlier work."""
    names = {norm.id: norm.name for norm in read_norms(NORMS)}
    published = [path for path in (SHARED / "cdi" / "configs").glob("*/*.json") if int(path.stem.split("_")[1]) > 100]
    assert len(published) == 4
    for path in published:
        assert names[path.stem] == json.loads(path.read_text())["original_name"]


def test_other_data_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "norms.json"
    with pytest.raises(DataError, match=r"norms\.json: cannot be read"):
        read_norms(path)
    path.write_text('[{"name": "main1", "trajectory": {}}]')
    with pytest.raises(DataError, match="item 'main1' lacks 'toolkits'"):
        read_norms(path)
    path.write_text("{}")
    with pytest.raises(DataError, match="no list of norms"):
        read_norms(path)
