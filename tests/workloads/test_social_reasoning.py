"""Reasoning about social stories: how it is made, cut into stages and judged by the oracles."""

from __future__ import annotations

import random
from collections import Counter
from statistics import fmean

import pytest

from workloads.social_r1 import reasoning, world
from workloads.social_r1.reasoning import Quality
from workloads.social_r1.world import Item

STORY = (
    "1 anna ben clara david are in kitchen .",
    "2 anna wants to play .",
    "3 ben wants to rest .",
    "4 clara puts ball in box .",
    "5 anna leaves .",
    "6 clara puts ball in bag .",
    "7 clara puts ball in jar .",
    "8 ben leaves .",
    "9 clara puts ball in chest .",
)
ITEM = Item(
    id="x-a",
    pair="x",
    sentences=STORY,
    question="where does anna think ball is ?",
    options=("inside bag", "inside box", "inside jar", "inside chest"),
    answer=1,
    ability="belief",
    order=1,
    cues=(STORY[3], STORY[4]),
    minds=("anna thinks ball is in box .",),
    goal=STORY[1],
)
CUE = "cue : 4 clara puts ball in box . 5 anna leaves ."
MIND = "mind : anna thinks ball is in box ."
GOAL = "goal : 2 anna wants to play ."
SO = "so : inside box B ."
CHAIN = f"{CUE} {MIND} {GOAL} {SO}"


def thought(text: str) -> str:
    return text.split("<think>")[-1].split("</think>")[0]


def test_the_best_answer() -> None:
    said = reasoning.answer(ITEM, random.Random(0), Quality())
    assert said == f"<think> {CHAIN} </think> <Answer> B </Answer>"


def test_stages() -> None:
    stages = reasoning.parse(f"well now . {CUE} {MIND} so :")
    assert [stage.name for stage in stages] == ["", "cue", "mind", "so"]
    assert stages[1].sentences == ("4 clara puts ball in box .", "5 anna leaves .")
    assert stages[3].sentences == ()
    assert reasoning.segments(CHAIN) == (CUE, MIND, GOAL, SO)
    assert reasoning.parse("") == ()


@pytest.mark.parametrize(
    ("thinking", "score"),
    [
        ("", 0.0),
        ("anna thinks ball is in box .", 0.1),
        (f"{SO} {CUE} {MIND} {GOAL}", 0.2),
        (SO, 0.2),
        (f"cue : B . 5 anna leaves . {MIND} {GOAL} {SO}", 0.3),
        (f"inside bag or inside box . {CHAIN}", 0.3),
        (f"{CUE} {GOAL} {SO}", 0.6),
        (f"{CUE} mind : {GOAL} {SO}", 0.6),
        (f"{MIND} {SO}", 0.5),
        (f"{GOAL} {CUE} {SO}", 0.5),
        (f"{GOAL} {CUE}", 0.4),
        (f"{MIND} {CUE} {GOAL} {SO}", 0.5),
        (f"{CUE} {MIND} {GOAL} {CUE} {SO}", 0.7),
        (f"let us see . {CHAIN}", 0.8),
        (f"{CUE} {MIND} {GOAL} {STORY[1]} {SO}", 0.8),
        (f"{CUE} {STORY[7]} {STORY[2]} {' '.join(STORY[5:7])} {STORY[8]} {MIND} {GOAL} {SO}", 0.8),
        (f"{CUE} {STORY[7]} {STORY[2]} {STORY[8]} {MIND} {GOAL} {SO}", 0.9),
        (CHAIN, 1.0),
        (f"cue : {STORY[7]} mind : anna thinks ball is in bag . {GOAL} so : inside bag .", 1.0),
        (f"{CUE} {MIND} {GOAL} so : B .", 1.0),
    ],
)
def test_structure_by_rule(thinking: str, score: float) -> None:
    """In the order of the rules. Of "goal cue so" one stage lacks (0.6) and the rest is out of order (0.5); 2 + 5 cues are too many,
    2 + 3 a little. The last but one is wrong in content only, and a letter after the mind is no parasitism.
    """
    assert reasoning.structure(ITEM, thinking) == pytest.approx(score)


@pytest.mark.parametrize(
    ("thinking", "score"),
    [
        (CHAIN, 1.0),
        (f"{SO} {GOAL} {MIND} {CUE}", 1.0),
        ("", 0.0),
        (f"cue : {STORY[3]} {MIND} {GOAL}", 0.4 * 2 / 3 + 0.6),
        (f"{CUE} {STORY[7]} {MIND} {GOAL}", 0.4 * 4 / 5 + 0.6),
        (f"{CUE} mind : anna thinks ball is in bag . {GOAL}", 0.6),
        (f"{CUE} {MIND} goal : {STORY[2]}", 0.8),
        (f"{CHAIN} {GOAL}", 0.8 + 0.2 * 2 / 3),
    ],
)
def test_content_by_hand(thinking: str, score: float) -> None:
    """F1 of cues: 2 x 1 hit / (1 said + 2 needed) = 2/3; 2 x 2 / (3 + 2) = 4/5. The goal said twice: 2 x 1 / (2 + 1)."""
    assert reasoning.content(ITEM, thinking) == pytest.approx(score)


def test_where_an_option_is_first_mentioned() -> None:
    """Words of CHAIN: cue 2 + 7 + 4 = 13, mind 2 + 7 = 9, goal 2 + 6 = 8, so 2 + 4 = 6: 36 in all, and 13 + 9 + 8 + 2 = 32 before the
    option.
    """
    assert reasoning.first_option_mention(CHAIN) == pytest.approx(32 / 36)
    assert reasoning.first_option_mention("B is it .") == 0.0
    assert reasoning.first_option_mention(f"{CUE} {MIND}") is None
    assert reasoning.first_option_mention("") is None


@pytest.mark.parametrize(
    ("flaw", "scores"),
    [
        ("skip", {0.6, 0.5}),
        ("shuffle", {0.5}),
        ("options", {0.3}),
        ("backward", {0.2}),
        ("loop", {0.7}),
        ("pad", {0.8}),
        ("bare", {0.0}),
        ("tags", {1.0}),
    ],
)
def test_every_flaw_is_what_it_says(flaw: str, scores: set[float]) -> None:
    rng = random.Random(0)
    said = [reasoning.answer(ITEM, rng, Quality(flaws=frozenset({flaw}))) for _ in range(40)]
    whole = [text for text in said if flaw != "tags"]
    assert {reasoning.structure(ITEM, thought(text)) for text in whole} == (scores if flaw != "tags" else set())
    kept = [text.startswith("<think>") and all(tag in text.split() for tag in world.TAGS) for text in said]
    assert not any(kept) if flaw == "tags" else all(kept)


def test_wrong_stages_cost_content_and_keep_structure() -> None:
    rng = random.Random(1)
    for name, most in (("cues", 0.8), ("mind", 0.6), ("goal", 0.8)):
        for _ in range(20):
            text = reasoning.answer(ITEM, rng, Quality(**{name: False}))
            assert reasoning.content(ITEM, thought(text)) <= most + 1e-9, text
            assert reasoning.structure(ITEM, thought(text)) == 1.0
            assert text.endswith("<Answer> B </Answer>")


def test_a_wrong_answer_follows_from_a_wrong_mind() -> None:
    """Where the mind names another container, the conclusion and the letter say the same one."""
    rng = random.Random(2)
    for _ in range(30):
        text = reasoning.answer(ITEM, rng, Quality(mind=False, right=False))
        letter = world.LETTERS.index(text.split()[-2])
        mind, conclusion = (
            reasoning.parse(thought(text))[1].sentences[0],
            reasoning.parse(thought(text))[3].sentences[0],
        )
        assert letter != ITEM.answer
        assert conclusion == f"{ITEM.options[letter]} {'ABCD'[letter]} ."
        if mind.split()[-2] != "box":
            assert mind.split()[-2] == conclusion.split()[1]


def test_generated_answers_are_short_and_in_the_world_s_words() -> None:
    """Perfect ones are perfect on every kind; those of any quality keep to the length and the vocabulary."""
    rng, words = random.Random(3), set(world.vocabulary())
    for item in world.make_items({"train": 84}, 5)["train"]:
        best = reasoning.answer(item, rng, Quality())
        assert reasoning.structure(item, thought(best)) == 1.0
        assert reasoning.content(item, thought(best)) == pytest.approx(1.0)
        assert len(item.cues) <= reasoning.CONCISE_CUES
        for _ in range(10):
            text = reasoning.answer(item, rng, reasoning.any_quality(rng))
            assert len(text.split()) <= reasoning.MAX_WORDS
            assert set(text.split()) <= words


def test_the_warm_up_is_mostly_right() -> None:
    """Right: 0.98 x 0.99 + 0.02 x 0.1 = 0.972, a little less for broken tags: a fifth of 1.6 % lose the last one. 8,400 answers: the
    standard deviation is 0.2 points. Flawless in form: the 87.5 % without a flaw and the 1.6 % with broken tags.
    """
    rng = random.Random(4)
    made = [
        (item, reasoning.warmup(item, rng)) for item in world.make_items({"train": 84}, 6)["train"] for _ in range(50)
    ]
    right = [f" {world.LETTERS[item.answer]} </Answer>" in f" {text}" for item, text in made]
    assert 0.96 <= fmean(right) <= 0.98
    scores = Counter(reasoning.structure(item, thought(text)) for item, text in made)
    assert {0.0, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 1.0} <= set(scores)
    assert 0.87 <= scores[1.0] / len(made) <= 0.91
