"""The miniature law: its code, cases that are judged by hand, reasoning right and wrong, and words that part without blanks."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

from workloads.legal_delta import answers, mini, oracle, scores, world
from workloads.legal_delta.answers import Kind
from workloads.legal_delta.world import ACT, ARREST, CIRCUMSTANCE, STATEMENT, STATION, TIER, Fact, Law, MiniCase

LAW = Law(
    charges={
        ("官员", "窃取"): "贪污",
        ("官员", "索要"): "受贿",
        ("路人", "窃取"): "盗窃",
        ("路人", "索要"): "敲诈勒索",
    },
    articles={"贪污": 382, "受贿": 385, "盗窃": 264, "敲诈勒索": 274, "自首": 67, "坦白": 68, "酌情": 61, "从重": 65},
    ceilings=(3000, 5000, 7000),
    least={"贪污": 36, "受贿": 30, "盗窃": 18, "敲诈勒索": 24},
)
FACTS = (
    Fact("①", "乙", ACT, "索要", "电脑", 4000),
    Fact("②", "甲", STATEMENT, "供述"),
    Fact("③", "甲", ACT, "窃取", "手机", 2000),
    Fact("④", "", "", "当日有雨"),
    Fact("⑤", "甲", STATION, "官员"),
    Fact("⑥", "甲", ARREST, "投案"),
    Fact("⑦", "乙", STATEMENT, "否认"),
    Fact("⑧", "甲", ACT, "窃取", "药材", 4000),
)


def case(kind: Kind, topic: str = "", facts: tuple[Fact, ...] = FACTS) -> MiniCase:
    return MiniCase("by-hand", kind, LAW, "甲", facts, topic)


@cache
def cases() -> dict[str, tuple[MiniCase, ...]]:
    return world.make_cases({"train": 600, "eval": 200}, 0)


BY_HAND = [
    (Kind.CHARGE, "", "[罪名]贪污<eoa>", ("官员", "③窃取贪污", "⑧窃取贪污")),
    (
        Kind.ARTICLE,
        "",
        "[法条]刑法第382条、刑法第67条<eoa>",
        ("贪污382条", "投案", "供述", "情节自首", "自首67条"),
    ),
    (Kind.AMOUNT, "", "[金额]6000.0元<eoa>", ("③2000元", "⑧4000元", "合计6000.0元")),
    (
        Kind.SENTENCE,
        "",
        "[刑期]48月<eoa>",
        (
            *("③2000元", "⑧4000元", "合计6000.0元", "数额巨大", "基准60月"),
            *("投案", "供述", "情节自首", "刑期48月"),
        ),
    ),
    (Kind.CHOICE, CIRCUMSTANCE, "[正确答案]A<eoa>", ("投案", "供述", "情节自首")),
    (Kind.CHOICE, TIER, "[正确答案]C<eoa>", ("③2000元", "⑧4000元", "合计6000.0元", "数额巨大")),
]


@pytest.mark.parametrize(("kind", "topic", "answer", "steps"), BY_HAND)
def test_a_case_by_hand(kind: Kind, topic: str, answer: str, steps: tuple[str, ...]) -> None:
    """2,000 and 4,000 yuan are 6,000: above 5,000, up to 7,000, the third tier. 36 months, 12 more for each of two tiers, 12 less
    for him who gave himself up and confesses: 36 + 24 - 12 = 48. What 乙 did does not count.
    """
    assert case(kind, topic).answer == answer
    assert oracle.steps(case(kind, topic)) == steps
    told = "".join(step + "。" for step in steps)
    assert oracle.reasoned(case(kind, topic)) == f"<reasoning>\n{told}\n</reasoning>\n<answer>\n{answer}\n</answer>"
    assert oracle.direct(case(kind, topic)) == f"<answer>\n{answer}\n</answer>"


def test_perfect_reasoning_is_worth_all_there_is() -> None:
    """R_format 1, R_legal 5. A direct answer has no reasoning: it lacks two tags of 0.125 and the 0.25 for reasoning and answer."""
    for case in cases()["eval"]:
        text, direct = oracle.reasoned(case), oracle.direct(case)
        assert scores.format_reward(text) == 1
        assert scores.format_reward(direct) == 0.5
        for said in map(answers.said, (text, direct)):
            assert scores.legal_reward(case.kind, said.value_of(case.kind), case.answer) == 5


def test_two_acts_may_make_two_charges() -> None:
    """索要 by an official is 受贿, so that there are two charges, in the order of the story, and an article each."""
    facts = (*FACTS[:7], Fact("⑧", "甲", ACT, "索要", "药材", 4000))
    assert case(Kind.CHARGE, facts=facts).answer == "[罪名]贪污;受贿<eoa>"
    assert case(Kind.ARTICLE, facts=facts).answer == "[法条]刑法第382条、刑法第385条、刑法第67条<eoa>"


def test_what_is_asked() -> None:
    asked = mini.case_of(case(Kind.SENTENCE))
    assert asked["story"].startswith("①乙索要电脑4000元。②甲供述。③甲窃取手机2000元。④当日有雨。⑤甲是官员。⑥甲投案。")
    assert asked["question"] == "被告人:甲。罪名:贪污。法条:刑法第382条。" + asked["story"]
    reasoned, direct = (mini.WORDING.messages(asked, direct) for direct in (False, True))
    assert reasoned[1] == direct[1] == {"role": "user", "content": "求刑期" + asked["question"]}
    assert reasoned[0] != direct[0]


@pytest.mark.parametrize("seed", range(5))
def test_no_fact_alone_makes_a_charge(seed: int) -> None:
    """16 pairs of station and act, two for each of 8 charges, of different station and different act."""
    law = Law.enact(seed)
    assert len(law.charges) == 16
    for charge in set(law.charges.values()):
        (station, act), (other_station, other_act) = (pair for pair, made in law.charges.items() if made == charge)
        assert station != other_station
        assert act != other_act
    assert len(set(law.articles.values())) == len(law.articles) == 12


def test_codes_differ_by_seed() -> None:
    assert Law.enact(0) == Law.enact(0)
    assert Law.enact(0) != Law.enact(1)


def test_tiers_end_at_their_ceilings() -> None:
    assert [LAW.tier(total) for total in (2000, 3000, 4000, 5000, 7000, 8000)] == [
        *("较小", "较小", "较大", "较大", "巨大", "特大")
    ]


def test_splits_share_no_story_and_do_not_depend_on_how_many_are_asked_for() -> None:
    stories = [case.story for split in cases().values() for case in split]
    assert len(set(stories)) == len(stories) == 800
    more = world.make_cases({"train": 5, "eval": 200, "warmup": 50}, 0)
    assert more["eval"] == cases()["eval"]
    assert more["train"] == cases()["train"][:5]


def test_tasks_come_in_turn_and_no_answer_is_usual() -> None:
    """600 cases, 120 a task; the most usual answer of a task is right in less than 40 % of its cases."""
    for kind in Kind:
        told = Counter(case.answer for case in cases()["train"] if case.kind is kind)
        assert told.total() == 120
        assert max(told.values()) < 0.4 * 120


def test_all_that_is_written_parts_into_words() -> None:
    """Longest first, as a tokenizer does; reading it back gives the same text, since nothing stands between the words."""
    words = sorted(mini.vocabulary(), key=len, reverse=True)
    assert len(words) == len(set(words)) < 160
    text = re.compile("(?:" + "|".join(map(re.escape, words)) + ")*")
    for case in cases()["train"]:
        system, user = mini.WORDING.messages(mini.case_of(case), False)
        for written in (system["content"], user["content"], oracle.reasoned(case), oracle.direct(case)):
            assert text.fullmatch(written), written


def test_brief_reasoning_is_the_last_step() -> None:
    """Of the nine steps of a sentence one is told: right, and an F1 of 2 x 1 / (1 + 9)."""
    told = answers.said(oracle.reasoned(case(Kind.SENTENCE), brief=True))
    assert (told.reasoning, told.value) == ("刑期48月。", "48月")
    assert oracle.reasoning_quality(oracle.steps(case(Kind.SENTENCE)), told.reasoning) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("reasoning", "quality"),
    [
        ("投案。供述。情节自首。", 1.0),
        ("供述。 投案。情节自首", 1.0),
        ("", 0.0),
        ("投案。供述。情节坦白。", 2 / 3),
        ("投案。情节自首。", 0.8),
        ("投案。投案。供述。情节自首。", 6 / 7),
    ],
)
def test_the_quality_of_reasoning_by_hand(reasoning: str, quality: float) -> None:
    """F1 against three steps: two of three right is 2 x 2 / 6, two said and right 2 x 2 / 5, one said twice 2 x 3 / 7."""
    assert oracle.reasoning_quality(oracle.steps(case(Kind.CHOICE, CIRCUMSTANCE)), reasoning) == pytest.approx(quality)
