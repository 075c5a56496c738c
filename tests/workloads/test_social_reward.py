"""Social-R1's reward against trajectories worked out by hand, and what its raters' answers make of an episode.

Throughout: 2^1.2 = 2.29739671, the worth of a content scalar c = 0; sigma(1) = 0.73105858. A thinking of 1,700 characters is in the
middle of the window, 26 steepnesses from both ends: 1 - 1e-11.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes.answerers import FakeAnswerer

from orchestrator.rollouts.judging import ask
from orchestrator.values import (
    Answer,
    Call,
    Choice,
    Episode,
    Fault,
    Score,
    Scored,
    Task,
    Turn,
    Unscored,
)
from workloads.social_r1.asked import SocialReward, pairs_right, read_score
from workloads.social_r1.prompts import NEUTRAL, REAL, mention, pieces
from workloads.social_r1.reward import SocialRewardConfig, is_right, repetition, reward_of, said, weights, window

MIDDLE = 1700
WORTH = 2.2973967099940698


def plain(characters: int) -> str:
    """A text in which no 16 characters come twice."""
    return "".join(f"{number:05d}" for number in range(characters // 5 + 1))[:characters]


def text_of(thinking: str, letter: str = "B") -> str:
    return f"<think>{thinking}</think>\n<Answer> {letter} </Answer>"


def reward(variant: str, step: int = 0, characters: int = MIDDLE, right: bool = True, **scores: float) -> float:
    answer = said(text_of(plain(characters)))
    given = {"structure": 0.8, "content": 0.0} | scores
    return reward_of(answer, right, given["structure"], given["content"], step, SocialRewardConfig(variant=variant))


# full, structure 0.8, c = 0, right. Step 0: 1 + 2 x 0.8 + 1 x 2.29739671. Step 100: weights 1.5 and 2: 1 + 1.2 + 4.59479342.
# Step 200 and 400: weights 1 and 3: 1 + 0.8 + 6.89219013.
@pytest.mark.parametrize(
    ("step", "value"), [(0, 4.8973967100), (100, 6.7947934200), (200, 8.6921901300), (400, 8.6921901300)]
)
def test_the_full_reward_of_a_right_answer_over_the_curriculum(step: int, value: float) -> None:
    assert reward("full", step) == pytest.approx(value, abs=1e-6)


# Wrong, all else the same: 0.2 of the process. Step 0: 0.2 (1.6 + 2.29739671). Step 200: 0.2 (0.8 + 6.89219013).
@pytest.mark.parametrize(("step", "value"), [(0, 0.7794793420), (200, 1.5384380260)])
def test_a_wrong_answer_earns_a_fifth_of_its_process(step: int, value: float) -> None:
    assert reward("full", step, right=False) == pytest.approx(value, abs=1e-6)


# Step 100. no_content: 1 + 1.5 x 0.8. no_structure: 1 + 2 x 2.29739671. no_length at 400 characters, where the window is half open: as
# full in the middle. outcome: 1 + 1. tom_rl: 0.5 + 0.5. The latter two know no length.
@pytest.mark.parametrize(
    ("variant", "characters", "value"),
    [
        ("no_content", MIDDLE, 2.2),
        ("no_structure", MIDDLE, 5.5947934200),
        ("no_length", 400, 6.7947934200),
        ("full", 400, 3.3973967100),
        ("outcome", 10, 2.0),
        ("tom_rl", 10, 1.0),
    ],
)
def test_the_variants(variant: str, characters: int, value: float) -> None:
    assert reward(variant, 100, characters) == pytest.approx(value, abs=1e-6)


# The letter without the format, the format without the letter, neither. outcome: em + f. tom_rl: half each. Others: 0, or the process.
@pytest.mark.parametrize(
    ("variant", "text", "value"),
    [
        ("outcome", "<Answer>B</Answer>", 1.0),
        ("outcome", "<think>x</think><Answer>C</Answer>", 1.0),
        ("outcome", "B", 0.0),
        ("tom_rl", "<Answer>B</Answer>", 0.5),
        ("tom_rl", "<think>x</think><Answer>C</Answer>", 0.5),
        ("full", "<Answer>B</Answer>", 0.0),
        ("no_length", "so <think>x</think><Answer>B</Answer>", 0.0),
        ("no_length", "<think>x</think><Answer>B</Answer> done", 0.0),
    ],
)
def test_letter_and_format_apart(variant: str, text: str, value: float) -> None:
    answer = said(text)
    right = is_right(answer, {"answer": "B"})
    assert reward_of(answer, right, 1.0, 1.0, 0, SocialRewardConfig(variant=variant)) == value


# 4.89739671 in the middle; at 450 characters x sigma(1), at 350 x sigma(-1) = 0.26894142, at 3,000 x 1/2.
@pytest.mark.parametrize(
    ("characters", "value"), [(450, 3.5802838772), (350, 1.3171128328), (3000, 2.4486983550), (MIDDLE, 4.8973967100)]
)
def test_the_edges_of_the_window(characters: int, value: float) -> None:
    assert reward("full", characters=characters) == pytest.approx(value, abs=1e-6)


# 500 characters twice: 985 16-grams, of which those within the second copy, 485, were there before: q = 485/985 = 0.49238579,
# exp(-8 x 0.39238579) = 0.04332.
def test_what_is_said_twice_costs() -> None:
    settings = SocialRewardConfig()
    twice = plain(500) + plain(500)
    assert repetition(plain(1000), settings) == 1.0
    assert repetition(twice, settings) == pytest.approx(0.0433224, abs=1e-6)
    answer = said(text_of(twice))
    value = 4.8973967100 * 0.9999938558 * repetition(twice, settings)
    assert reward_of(answer, True, 0.8, 0.0, 0, settings) == pytest.approx(value, abs=1e-6)
    assert repetition("short", settings) == 1.0
    # Within the threshold nothing is lost: 20 16-grams, one of them twice, q = 0.05.
    assert repetition("ab" * 9 + plain(17), settings) == 1.0


# The worst with a valid format: 0 + 0.2 (0 + max(0, -2.5 + 2)^1.2) = 0, lifted to 0.01. An empty thinking: 4.9 sigma(-8) = 0.0016 too.
def test_the_floor() -> None:
    assert reward("full", right=False, structure=0.0, content=-2.5) == 0.01
    assert reward("full", characters=0) == 0.01


# c = 1: 3^1.2 = 3.73719282; c = -1.5: 0.5^1.2 = 0.43527528.
def test_the_shift_and_the_power_of_the_content() -> None:
    assert reward("no_structure", content=1.0) == pytest.approx(4.7371928188, abs=1e-6)
    assert reward("no_structure", content=-1.5) == pytest.approx(1.4352752816, abs=1e-6)


def test_weights_are_linear_and_then_constant() -> None:
    settings = SocialRewardConfig()
    assert weights(50, settings) == pytest.approx((1.75, 1.5))
    assert weights(1000, settings) == (1.0, 3.0)


def test_any_length_has_a_window() -> None:
    assert window(10**7, SocialRewardConfig()) == 0.0


def test_an_answer_in_its_parts() -> None:
    whole = said(" <think> a\nb </think> so\n<Answer> C. the box </Answer>\n")
    assert (whole.format, whole.thinking, whole.letter) == (1.0, " a\nb ", "C")
    assert said("<think></think><Answer>b</Answer>").letter is None
    assert is_right(whole, {"answer": "c."})
    assert not is_right(said("none"), {"answer": "A"})


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("<Score>0.8</Score>", 0.8),
        (" <Score> 1 </Score> ", 1.0),
        ("<think><Score>0.1</Score></think><Score>.5</Score>", 0.5),
        ("<Score>0.8</Score> <Score>0.8</Score>", 0.8),
    ],
)
def test_a_score_is_read(text: str, score: float) -> None:
    assert read_score(text) == score


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.8", "wrote no <Score>"),
        ("<Score>0.8", "wrote no <Score>"),
        ("<think> so <Score>0.8</Score>", "wrote no <Score>"),
        ("<Score>1.2</Score>", "is 1.2, which is out of 0 to 1"),
        ("<Score>-0.1</Score>", "no number"),
        ("<Score>nan</Score>", "no number"),
        ("<Score>8/10</Score>", "no number"),
        ("<Score>0.1</Score><Score>0.9</Score>", "wrote 2 <Score>"),
    ],
)
def test_no_score_is_told_with_its_reason(text: str, reason: str) -> None:
    found = read_score(text)
    assert isinstance(found, Unscored)
    assert reason in found.reason


REFERENCE: dict[str, Any] = {
    "story": "Ann leaves.", "question": "Where?", "options": ["in the box", "in the bag"], "answer": "B", "group": "s", "twin": False
}  # fmt: skip


def episode(text: str, step: int = 0) -> Episode:
    turn = Turn("policy", (), (), (), text, "stop", 1.0, 0, 0)
    return Episode(Task("q", ({"role": "user", "content": "?"},), REFERENCE), step, 0, (turn,))


def turn(text: str) -> Turn:
    return Turn("judge", (), (), (), text, "stop", 0.3, 0, 0)


def social(variant: str = "full") -> SocialReward:
    return SocialReward(SocialRewardConfig(variant=variant), REAL)


@pytest.mark.parametrize(
    ("variant", "roles"),
    [
        ("full", ["judge", "content"]),
        ("no_length", ["judge", "content"]),
        ("no_content", ["judge"]),
        ("no_structure", ["content"]),
        ("outcome", []),
        ("tom_rl", []),
    ],
)
def test_a_variant_asks_what_it_needs(variant: str, roles: list[str]) -> None:
    calls = social(variant).calls(episode(text_of(plain(MIDDLE))))
    assert [call.role for call in calls] == roles
    for call in calls:
        assert call.scalar == (call.role == "content")
        assert (call.sampling is None) == call.scalar
        if call.sampling:
            assert (call.sampling.max_tokens, call.sampling.temperature) == (48, 0.3)
        assert call.messages[-1]["role"] == ("assistant" if call.scalar else "user")
        assert not any("<Answer>" in message["content"] for message in call.messages)


def test_a_broken_format_is_worth_nothing_and_nobody_is_asked() -> None:
    broken = episode("<Answer>B</Answer>")
    assert social().calls(broken) == []
    (verdict,) = social().score([broken], [[]])
    assert isinstance(verdict, Scored)
    assert (verdict.reward, verdict.components["format"], verdict.components["correct"]) == (0.0, 0.0, 1.0)
    assert verdict.judgements == {}


# Step 100, 0.6 and c = 1: 1 + 1.5 x 0.6 + 2 x 3.73719282.
def test_the_verdict_holds_what_the_raters_said() -> None:
    asked = episode(text_of(plain(MIDDLE)), step=100)
    (verdict,) = social().score([asked], [[turn("<Score>0.6</Score>"), Score(1.0, 7.5)]])
    assert isinstance(verdict, Scored)
    assert verdict.reward == pytest.approx(9.3743856376, abs=1e-6)
    assert verdict.judgements == {"structure": 0.6, "content": 1.0}
    assert verdict.components == pytest.approx(
        {
            "format": 1.0, "correct": 1.0, "outcome": 1.0, "length": 1.0, "repetition": 1.0, "early_option": 1.0, "structure": 0.6,
            "content": 1.0,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([turn("good"), Score(0.0, 0.0)], "structure: the judge wrote no <Score>"),
        ([turn("<Score>3</Score>"), Score(0.0, 0.0)], "structure: the judge's <Score> is 3"),
        ([Fault("gone"), Score(0.0, 0.0)], "structure: gone"),
        ([turn("<Score>1</Score>"), Fault("gone")], "content: gone"),
    ],
)
def test_a_rater_that_fails_makes_no_number(answers: list[Answer], reason: str) -> None:
    (verdict,) = social().score([episode(text_of(plain(MIDDLE)))], [answers])
    assert isinstance(verdict, Unscored)
    assert verdict.reason.startswith(reason)


def test_an_answer_of_another_kind_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="answered with Choice"):
        social("no_content").score([episode(text_of("x"))], [[Choice({"yes": 1.0})]])


def room(characters: int) -> Any:
    """Raters that read messages up to a length."""

    def answer(call: Call, attempt: int) -> Answer:
        if sum(len(message["content"]) for message in call.messages) > characters:
            return Fault("no room", lasting=True)
        return Score(0.0, 0.0) if call.scalar else turn("<Score>0.8</Score>")

    return FakeAnswerer(answer)


# Beyond the raters' room, which the neutral reasoning is not: structure 0 and content -2 count, and 1 + 0 + 0 of the letter stays.
# Raters that have no room for the neutral one either are at fault.
def test_a_reasoning_beyond_the_raters_room_pays_for_it() -> None:
    long = episode(text_of(plain(2500)))
    fleet = room(2600)
    answers, _ = ask([long], social("no_length"), {"judge": fleet, "content": fleet}, {"judge": 1, "content": 1})
    (verdict,) = social("no_length").score([long], answers)
    assert isinstance(verdict, Scored)
    assert (verdict.reward, verdict.judgements) == (1.0, {"structure": 0.0, "content": -2.0})
    assert {key for key in fleet.asked if "#control" in key} == {"0/q/0/structure#control", "0/q/0/content#control"}
    controls = [call for batch in fleet.batches for call in batch if "#control" in call.key]
    assert all(NEUTRAL in call.messages[-1]["content"] for call in controls)
    tiny = room(10)
    answers, _ = ask([long], social(), {"judge": tiny, "content": tiny}, {"judge": 0, "content": 0})
    (verdict,) = social().score([long], answers)
    assert isinstance(verdict, Unscored)
    assert "failed the control question too" in verdict.reason


def test_only_what_a_call_itself_caused_needs_a_control() -> None:
    asked = episode(text_of("x"))
    call = social().calls(asked)[0]
    for answer in (turn("nothing"), Fault("gone"), turn("<Score>1</Score>")):
        assert social().control(asked, call, answer) is None


# "(B)" at sign 5 of 20; an option's text at sign 4 of 21; "A man" and "I" are words of English, the s and the t after an apostrophe are
# no letters of options, nor is E where there are two; "in the bagpipe" is another text than "in the bag".
@pytest.mark.parametrize(
    ("thinking", "place"),
    [
        ("well (B) and so it is"[:20], 0.25),
        ("now In The Box it was", 4 / 21),
        ("A man and I think so", None),
        ("option a is tempting", 0.0),
        ("it is B then", 0.5),
        ("the answer is A", 4 / 15),
        ("Ann's friend doesn't see the b of it", None),
        ("to answer a question", None),
        ("grade E it is", None),
        ("in the bagpipe", None),
    ],
)
def test_where_an_option_is_first_mentioned(thinking: str, place: float | None) -> None:
    assert mention(thinking, REFERENCE) == place


def test_a_reasoning_in_pieces() -> None:
    """The whole, then each sentence; of more than ten sentences ten runs: 15 sentences make five runs of two and five of one."""
    text = "Ann left. Ben stayed.\nSo he knows"
    assert pieces(text) == (text, "Ann left.", "Ben stayed.", "So he knows")
    many = pieces(" ".join(f"n{number}." for number in range(15)))
    assert len(many) == 11
    assert sorted(len(piece.split()) for piece in many[1:]) == [1] * 5 + [2] * 5
    assert pieces("") == ("",)


def test_another_constant_is_another_reward() -> None:
    """Window and curriculum as a setting: at 60 characters with low 60 and steepness 10 the window is half open."""
    settings = replace(SocialRewardConfig(), length_low=60.0, length_high=400.0, length_steepness=10.0)
    assert window(60, settings) == pytest.approx(0.5, abs=1e-6)


def test_a_pair_is_right_where_both_of_it_are() -> None:
    """Of two answers to each of a pair the first are right on both sides (gold B and C), the second on one; a question without a twin,
    and a third answer to one side alone, are no pair."""

    def episode(group: str, twin: bool, sample: int, letter: str) -> Episode:
        task = Task(f"{group}-{twin}", (), {"group": group, "twin": twin, "answer": "C" if twin else "B"})
        turn = Turn("policy", (1,), (2,), (-0.1,), f"<Answer> {letter} </Answer>", "stop", 1.0, 0, 0)
        return Episode(task, 0, sample, (turn,))

    asked = [
        episode("p", False, 0, "B"),
        episode("p", True, 0, "C"),
        episode("p", False, 1, "B"),
        episode("p", True, 1, "B"),
    ]
    found = pairs_right([*asked, episode("p", False, 2, "B"), episode("alone", False, 0, "B")])
    assert found == {"0/p-False/0": 1.0, "0/p-True/0": 1.0, "0/p-False/1": 0.0, "0/p-True/1": 0.0}
