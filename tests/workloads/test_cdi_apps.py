"""The four applications: published tools, what each does, what the log keeps, and that hostile text stays text."""

from __future__ import annotations

import socket
from typing import Any

import jsonschema
import pytest

from orchestrator.errors import DataError
from workloads.cdi.apps import World
from workloads.cdi.tools import APPLICATIONS, TOOLS, checked, tools

ANN, BOB, CLEO = "ann_ash", "bob_oak", "cleo_elm"


@pytest.fixture
def world() -> World:
    return World(["Ann Ash", "Bob Oak", "Cleo Elm"])


def mail(world: World, user: str, to: str, **more: Any) -> dict[str, Any]:
    return world.call(user, "Gmail_send_email", {"to_address": to, "subject": "s", "body": "b", **more})


def test_tools_are_the_published_ones_in_strict_form() -> None:
    published = {
        "Messenger_send_message": ["recipient_id", "message"],
        "Messenger_get_messages": ["max_count", "keyword", "sender_id"],
        "Gmail_send_email": ["to_address", "subject", "body", "cc_address", "bcc_address"],
        "Gmail_search_emails": ["max_count", "keyword", "start_time", "end_time", "from_address", "to_address"],
        "Gmail_get_email": ["email_id"],
        "Facebook_create_post": ["content"],
        "Facebook_get_posts": ["max_count", "keyword", "sender_id"],
    }
    given = {tool["function"]["name"]: tool["function"] for tool in tools("Messenger", "Gmail", "Facebook")}
    assert {name: list(tool["parameters"]["properties"]) for name, tool in given.items()} == published
    for tool in tools(*APPLICATIONS):
        parameters = tool["function"]["parameters"]
        assert tool["type"] == "function"
        assert tool["function"]["strict"] is True
        assert parameters["required"] == list(parameters["properties"])
        assert parameters["additionalProperties"] is False
        jsonschema.Draft202012Validator.check_schema(parameters)
    with pytest.raises(DataError, match="no application 'Fax'"):
        tools("Fax")


def test_arguments_are_checked_as_the_schema_does() -> None:
    """Whoever fills in every optional argument with null is valid by both; leaving one out is by ours alone (published default)."""
    tool = TOOLS["Messenger_get_messages"]
    full = {"max_count": 3, "keyword": None, "sender_id": None}
    for arguments in (full, full | {"max_count": "3"}, full | {"max_count": True}, full | {"thread": 1}):
        strict = jsonschema.Draft202012Validator(tool.arguments).is_valid(arguments)
        assert (tool.problem(arguments) == "") == strict, arguments
    assert checked(tool, {}).arguments == {}
    assert "needs message" in TOOLS["Messenger_send_message"].problem({"recipient_id": BOB})


def test_messages_come_newest_first_in_both_directions(world: World) -> None:
    for user, other, text in ((ANN, BOB, "one"), (BOB, ANN, "two"), (CLEO, BOB, "three"), (CLEO, ANN, "apart")):
        assert world.call(user, "Messenger_send_message", {"recipient_id": other, "message": text})["success"]
    texts = [one["message"] for one in world.call(BOB, "Messenger_get_messages", {})["messages"]]
    assert texts == ["three", "two", "one"]
    ask = {"max_count": 2, "keyword": "O", "sender_id": None}
    assert [one["message"] for one in world.call(BOB, "Messenger_get_messages", ask)["messages"]] == ["two", "one"]
    (only,) = world.call(BOB, "Messenger_get_messages", {"sender_id": CLEO})["messages"]
    assert (only["message"], only["sender_id"]) == ("three", CLEO)
    assert world.take_news(BOB) == {"Messenger": 2}
    assert not world.has_news(BOB)
    assert world.has_news(ANN)


def test_mail_reaches_all_addresses_and_hides_blind_copies(world: World) -> None:
    sent = mail(world, ANN, "bob_oak@gmail.com", bcc_address="cleo_elm@gmail.com")
    (found,) = world.call(BOB, "Gmail_search_emails", {"from_address": "ann_ash@gmail.com"})["emails"]
    assert found["id"] == sent["email_id"]
    assert "body" not in found
    read = world.call(BOB, "Gmail_get_email", {"email_id": found["id"]})["email"]
    assert (read["body"], read["bcc_address"]) == ("b", "")
    assert world.call(ANN, "Gmail_get_email", {"email_id": found["id"]})["email"]["bcc_address"] == "cleo_elm@gmail.com"
    assert world.activities[0].involved == (ANN, BOB, CLEO)
    late = {"start_time": "2027-01-01 00:00:00"}
    assert world.call(BOB, "Gmail_search_emails", late)["emails"] == []


def test_posts_are_for_all_and_pages_for_those_they_are_shared_with(world: World) -> None:
    world.call(ANN, "Facebook_create_post", {"content": "hello"})
    assert world.call(CLEO, "Facebook_get_posts", {})["posts"][0]["content"] == "hello"
    assert world.activities[0].involved == (ANN, BOB, CLEO)
    page = world.call(ANN, "Notion_create_page", {"title": "t", "content": "old"})["page_id"]
    assert "error" in world.call(BOB, "Notion_get_page", {"page_id": page})
    world.call(ANN, "Notion_share_page", {"page_id": page, "user_id": BOB})
    world.call(ANN, "Notion_edit_page", {"page_id": page, "content": "new"})
    assert world.call(BOB, "Notion_get_page", {"page_id": page})["page"]["content"] == "new"
    assert world.call(BOB, "Notion_search_content", {"keyword": "NEW"})["pages"] == [{"id": page, "title": "t"}]
    assert "error" in world.call(BOB, "Notion_edit_page", {"page_id": page, "content": "mine"})


def test_refused_calls_leave_no_trace(world: World) -> None:
    refused = [
        world.call(ANN, "Messenger_send_message", {"recipient_id": "nobody", "message": "x"}),
        mail(world, ANN, "nobody@gmail.com"),
        mail(world, ANN, " , "),
        world.call(ANN, "Gmail_get_email", {"email_id": "email_1"}),
        world.call(ANN, "__init__", {}),
        world.call("nobody", "Facebook_get_posts", {}),
        world.call(ANN, "Facebook_create_post", {"text": "x"}),
    ]
    assert all(set(result) == {"error"} for result in refused)
    assert world.activities == []


def test_the_log_has_the_published_fields(world: World) -> None:
    mail(world, ANN, "bob_oak@gmail.com")
    (logged,) = world.activities
    assert (logged.index, logged.app, logged.action, logged.user_id) == (1, "Gmail", "send_email", ANN)
    assert list(logged.details) == ["to_address", "subject", "body", "cc_address", "bcc_address"]


def test_hostile_text_is_only_text_and_nothing_is_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a simulation reached for the network")

    monkeypatch.setattr(socket, "socket", refuse)
    text = "{0.__class__} %(x)s ${HOME} {{ 7*7 }} <script>alert(1)</script> `rm -rf /`"
    world.call(ANN, "Messenger_send_message", {"recipient_id": BOB, "message": text})
    assert world.call(BOB, "Messenger_get_messages", {})["messages"][0]["message"] == text


def test_what_is_read_cannot_be_changed(world: World) -> None:
    world.call(ANN, "Messenger_send_message", {"recipient_id": BOB, "message": "x"})
    world.call(BOB, "Messenger_get_messages", {})["messages"][0]["message"] = "y"
    assert world.call(BOB, "Messenger_get_messages", {})["messages"][0]["message"] == "x"
