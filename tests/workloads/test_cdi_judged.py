"""Which actions of a CDI simulation are judged."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.simulations import conversation, message, scenario_of

from workloads.cdi.apps import Activity
from workloads.cdi.judged import ItemsShared, judged_actions, overlooked, text_of, union


def mail(index: int, user: str, **details: Any) -> Activity:
    filled = {"to_address": "", "subject": "s", "body": "b", "cc_address": "", "bcc_address": ""} | details
    reached = [one.strip() for key in ("to_address", "cc_address", "bcc_address") for one in filled[key].split(",")]
    involved = tuple(one.removesuffix("@gmail.com") for one in reached if one)
    return Activity(index, "Gmail", "send_email", user, (user, *involved), filled)


def test_messages_of_the_sender_to_the_recipient_are_judged() -> None:
    """Neither the recipient's own, nor the sender's to the subject."""
    log = (*conversation("one", "two"), message(6, "ben_hall", "anna_reed", "three"))
    assert [one.index for one in judged_actions(scenario_of(), log)] == [3, 5]
    assert overlooked(scenario_of(), log) == ()


# The local part must be the id itself: two addresses, a copy, a longer id are not.
@pytest.mark.parametrize(
    ("details", "judged", "seen"),
    [
        ({"to_address": "carl_reed@gmail.com"}, True, False),
        ({"to_address": " carl_reed@gmail.com "}, True, False),
        ({"to_address": "carl_reed"}, False, True),
        ({"to_address": "carl_reed@gmail.com", "cc_address": "anna_reed@gmail.com"}, True, False),
        ({"to_address": "carl_reed@gmail.com, anna_reed@gmail.com"}, False, True),
        ({"to_address": "anna_reed@gmail.com,carl_reed@gmail.com"}, False, True),
        ({"to_address": "anna_reed@gmail.com", "bcc_address": "carl_reed@gmail.com"}, False, True),
        ({"to_address": "carl_reed2@gmail.com"}, False, False),
        ({"to_address": "anna_reed@gmail.com"}, False, False),
    ],
)
def test_a_mail_is_judged_where_it_goes_to_the_recipient_alone(
    details: dict[str, str], judged: bool, seen: bool
) -> None:
    scenario, log = scenario_of("Gmail", "send_email"), (mail(1, "ben_hall", **details),)
    assert bool(judged_actions(scenario, log)) is judged
    assert bool(overlooked(scenario, log)) is seen


def test_every_post_of_the_sender_is_judged() -> None:
    log = [
        Activity(number, "Facebook", "create_post", user, (user,), {"content": "x"})
        for number, user in enumerate(("ben_hall", "carl_reed", "ben_hall"), start=1)
    ]
    assert [one.index for one in judged_actions(scenario_of("Facebook", "create_post"), log)] == [1, 3]


def test_another_application_is_not_judged_but_seen() -> None:
    log = (mail(1, "ben_hall", to_address="carl_reed@gmail.com"), *conversation("x")[1:])
    assert [one.app for one in judged_actions(scenario_of(), log)] == ["Messenger"]
    assert [one.index for one in overlooked(scenario_of(), log)] == [1]


def test_what_is_read_of_an_activity() -> None:
    assert text_of(mail(1, "ben_hall", to_address="carl_reed@gmail.com")) == "s\nb"
    assert text_of(message(1, "a", "b", "hello")) == "hello"


def test_facts_are_counted_once() -> None:
    verdicts = (ItemsShared(frozenset({0}), frozenset({1})), ItemsShared(frozenset({0, 2})), ItemsShared())
    assert union(verdicts) == ItemsShared(frozenset({0, 2}), frozenset({1}))
    assert union(()) == ItemsShared()
