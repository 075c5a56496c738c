"""Which answers are drawn: what a high reward is, equal n, what is left out, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from stored import say, store

from orchestrator.errors import ConfigError, RunError
from orchestrator.maps.choice import Wanted, choose, labelled

TEST = Wanted(split="test")


# Of 20 answers with rewards 0.00 to 0.19 the top half has 0.10 and more; of 12, 0.06 and more: n is 6.
def test_the_top_half_of_each_question_at_the_n_of_the_smallest(tmp_path: Path) -> None:
    run = store(tmp_path, "a", {"q0": say(20, "sun"), "q1": say(12, "moon")})
    chosen = choose({"a": run}, TEST)
    assert chosen.n == 6
    first, second = chosen.questions
    assert [(q.task, q.scored, q.found_high, q.threshold) for q in (first, second)] == [
        ("q0", 20, 10, 0.1),
        ("q1", 12, 6, 0.06),
    ]
    assert all(answer.reward >= 0.1 for answer in first.high)
    assert sorted(answer.reward for answer in second.high) == [0.06, 0.07, 0.08, 0.09, 0.1, 0.11]
    assert len(first.large) == len(second.large) == 6
    assert min(answer.reward for q in chosen.questions for answer in q.large) < 0.06
    assert first.high[0].tokens == len(first.high[0].text)
    assert chosen.notes[0] == "2 questions, 6 answers of each, of its top 50% by reward, drawn by seed 0."
    assert "n is 6 and not 500: so many answers of high reward has a q1" in chosen.notes[1]


# 0.15 and more: 5 of the 20 answers, and as many of the 12 with rewards from 0.1 (0.15 to 0.21 are 7).
def test_a_stated_reward_in_place_of_a_share(tmp_path: Path) -> None:
    run = store(tmp_path, "a", {"q0": say(20, "sun"), "q1": say(12, "moon", 0.1)})
    chosen = choose({"a": run}, replace(TEST, least=0.15))
    assert (chosen.n, [question.found_high for question in chosen.questions]) == (5, [5, 7])
    whole = choose({"a": run}, replace(TEST, top=1.0))
    assert [question.large for question in whole.questions] == [(), ()]


def test_the_same_seed_draws_the_same_answers_and_another_one_others(tmp_path: Path) -> None:
    run = store(tmp_path, "a", {f"q{number}": say(40, "sun") for number in range(9)})
    wanted = replace(TEST, questions=3, per_task=8)
    first, again, other = (choose({"a": run}, replace(wanted, seed=seed)).questions for seed in (0, 0, 1))
    assert first == again
    assert len(first) == 3
    assert [question.task for question in first] != [question.task for question in other]
    same = choose({"a": run}, replace(wanted, tasks=("q2",), seed=1)).questions[0]
    assert same.high != choose({"a": run}, replace(wanted, tasks=("q2",))).questions[0].high


# q0 of b has 4 answers of high reward, so that neither run draws it: their questions stay the same.
def test_a_question_that_one_run_lacks_answers_to_is_drawn_of_none(tmp_path: Path) -> None:
    a = store(tmp_path, "a", {"q0": say(20, "sun"), "q1": say(20, "moon"), "only-a": say(20, "star")})
    b = store(tmp_path, "b", {"q0": say(8, "sun"), "q1": say(20, "moon")})
    chosen = choose({"a": a, "b": b}, TEST)
    assert [(question.run, question.task) for question in chosen.questions] == [
        ("a", "q1"),
        ("a", "only-a"),
        ("b", "q1"),
    ]
    assert "1 questions could not be drawn" in " ".join(chosen.notes)


def test_unscored_and_empty_answers_are_left_out_and_counted(tmp_path: Path) -> None:
    run = store(tmp_path, "a", {"q0": [*say(12, "sun"), ("lost", None), ("late", None), ("  ", 0.9)]})
    chosen = choose({"a": run}, TEST)
    (question,) = chosen.questions
    assert (question.scored, question.unscored, question.empty) == (12, 2, 1)
    assert "Left out of the questions drawn: 2 answers without a reward, 1 without a text." in chosen.notes


# Three of four answers have the lowest reward, so the top half holds some of them.
def test_where_the_lowest_reward_counts_as_high_that_is_said(tmp_path: Path) -> None:
    run = store(tmp_path, "a", {"q0": [(f"way {number}", float(number % 4 == 0)) for number in range(20)]})
    assert "In 1 questions the lowest reward of all counts as high" in choose({"a": run}, TEST).notes[-1]
    chosen = choose({"a": run}, replace(TEST, least=1.0))
    assert (chosen.n, chosen.questions[0].threshold) == (5, 1.0)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted(split="eval"), "has no eval episodes. Steps of eval episodes that are there: none"),
        (Wanted(split="test", step=4), "has no test episodes of step 4. Steps of test episodes that are there: 3"),
        (Wanted(split="test", tasks=("fine0",)), "--task fine0: no run has answers to it. There are 3, such as fine"),
        (Wanted(split="test", tasks=("few",)), "--task few, run a: it has 4 answers of high reward among 8, and 5 are needed"),
        (Wanted(split="test", tasks=("equal",)), "--task equal, run a: all its 12 rewards are 0.5, so that none is a high one"),
        (Wanted(split="test", least=2.0), "run a: none of the 3 test questions of step 3 can be drawn"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_refused_with_a_remedy(tmp_path: Path, wanted: Wanted, message: str) -> None:
    run = store(
        tmp_path, "a", {"few": say(8, "sun"), "equal": [(f"way {n}", 0.5) for n in range(12)], "fine": say(12, "moon")}
    )
    with pytest.raises(RunError, match=message.replace(".", r"\.")):
        choose({"a": run}, wanted)


def test_equal_rewards_are_no_obstacle_where_all_answers_are_asked_for(tmp_path: Path) -> None:
    run = store(tmp_path, "a", {"equal": [(f"way {n}", 0.5) for n in range(12)]})
    assert choose({"a": run}, replace(TEST, top=1.0)).n == 12
    with pytest.raises(ConfigError, match=r"eval\.test_samples_per_task=500"):
        choose({"a": run}, TEST)
    with pytest.raises(ConfigError, match=r"--top 1\.5"):
        Wanted(top=1.5)


def test_labels(tmp_path: Path) -> None:
    a, b = (store(tmp_path, name, {"q0": say(12, "sun")}).path for name in ("a", "b"))
    assert list(labelled([a, b])) == ["a", "b"]
    assert list(labelled([a, b], ["moral", "maths"])) == ["moral", "maths"]
    with pytest.raises(ConfigError, match="1 times for 2 runs"):
        labelled([a, b], ["moral"])
    with pytest.raises(ConfigError, match="two runs have one label"):
        labelled([a, a])
