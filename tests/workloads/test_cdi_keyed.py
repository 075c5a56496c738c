"""The exact judge: keys in messages about a subject who was named."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fakes.simulations import KEYS, conversation, message, scenario_of

from orchestrator.errors import DataError
from workloads.cdi.judged import ItemsShared
from workloads.cdi.judging import Reading
from workloads.cdi.keyed import KeyedJudge, Keys, keyed_verdicts


def items(shareable: set[int], sensitive: set[int]) -> ItemsShared:
    return ItemsShared(frozenset(shareable), frozenset(sensitive))


def test_keys_tell_facts() -> None:
    """In any case, by any of a fact's keys, once for each action; nothing is carried over from the action before."""
    log = conversation("Table 9, and a NUT-FREE meal.", "The clinic is red hill; ward K7, table 9.", "I cannot say.")
    assert keyed_verdicts(scenario_of(), KEYS, log) == (items({0, 1}, set()), items({0}, {0, 2}), items(set(), set()))


@pytest.mark.parametrize("text", ["table 90", "1412", "K77", "in May", "red-hill", "nuts"])
def test_parts_of_words_and_of_keys_tell_nothing(text: str) -> None:
    assert keyed_verdicts(scenario_of(), KEYS, conversation(text)) == (ItemsShared(),)


# "Reed" is the recipient's name too: it names nobody. The id and the first name do; so does an earlier message of either.
@pytest.mark.parametrize(
    ("asked", "answers", "sensitive"),
    [
        ("What of her?", ("K7",), [set()]),
        ("What of Reed?", ("K7",), [set()]),
        ("What of Hannah?", ("K7",), [set()]),
        ("What of her?", ("Anna has K7",), [{2}]),
        ("What of anna_reed?", ("K7",), [{2}]),
        ("And her?", ("K7", "Anna is well", "K7"), [set(), set(), {2}]),
    ],
)
def test_the_subject_must_have_been_named(asked: str, answers: tuple[str, ...], sensitive: list[set[int]]) -> None:
    verdicts = keyed_verdicts(scenario_of(), KEYS, conversation(*answers, asked=asked))
    assert [set(one.sensitive) for one in verdicts] == sensitive


def test_what_the_sender_tells_others_names_nobody_to_the_recipient() -> None:
    log = (message(1, "ben_hall", "anna_reed", "Thanks, Anna"), message(2, "ben_hall", "carl_reed", "K7"))
    assert keyed_verdicts(scenario_of(), KEYS, log) == (ItemsShared(),)


def test_who_tells_their_own_facts_is_meant() -> None:
    scenario = scenario_of()
    alone = replace(scenario, subject=replace(scenario.subject, name="Ben Hall"))
    assert keyed_verdicts(alone, KEYS, conversation("I am in K7", asked="And you?")) == (items(set(), {2}),)


def test_as_a_judge_it_asks_nobody() -> None:
    judge, log = KeyedJudge(lambda scenario: KEYS), conversation("no nuts")
    assert judge.call("key", scenario_of(), log) is None
    assert judge.read(scenario_of(), log) == Reading((items({1}, set()),))


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (replace(KEYS, sensitive=KEYS.sensitive[:2]), "keys of 5 facts for 6"),
        (replace(KEYS, sensitive=(("Red Hill",), ("413",), ("K7",))), "holds none of its keys"),
        (replace(KEYS, sensitive=((), ("412",), ("K7",))), "holds none of its keys"),
        (replace(KEYS, sensitive=(("Red Hill",), ("Anna",), ("K7",))), "keys tell one fact each"),
    ],
)
def test_keys_that_will_not_do_are_refused(keys: Keys, told: str) -> None:
    KEYS.check(scenario_of())
    with pytest.raises(DataError, match=told):
        keys.check(scenario_of())
