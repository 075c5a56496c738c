"""The miniature sums: grammar, verifier, strategies, splits, the warm-up and the knob for the number of modes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from orchestrator.config.compose import compose
from orchestrator.errors import ConfigError
from orchestrator.values import Episode, Group, Scored, Turn, Unscored
from workloads.base import PolicyLesson
from workloads.rlvr.maths import Config, StrategyReward, Workload, mini_task, world

SUM = world.Question((7, 5, 8, 2))
FORWARD = "7 plus 5 is 12 . 12 plus 8 is 20 . 20 plus 2 is 22 . so 22 ."
BACKWARD = "2 plus 8 is 10 . 10 plus 5 is 15 . 15 plus 7 is 22 . so 22 ."
PAIRS = "7 plus 5 is 12 . 8 plus 2 is 10 . 12 plus 10 is 22 . so 22 ."
LARGEST = "8 plus 7 is 15 . 15 plus 5 is 20 . 20 plus 2 is 22 . so 22 ."
SMALLEST = "2 plus 5 is 7 . 7 plus 7 is 14 . 14 plus 8 is 22 . so 22 ."
MIXED = "7 plus 8 is 15 . 15 plus 2 is 17 . 17 plus 5 is 22 . so 22 ."
BY_NAME = {"forward": FORWARD, "backward": BACKWARD, "pairs": PAIRS, "largest": LARGEST, "smallest": SMALLEST}


def episode(text: str, sample: int = 0, question: world.Question = SUM) -> Episode:
    turn = Turn("policy", (1,), (2,), (-0.1,), text, "stop", 1.0, 0, 0)
    return Episode(mini_task(question), 1, sample, (turn,))


def small_config(**settings: Any) -> Config:
    config = Config()
    config.data = replace(config.data, **{"train_groups": 12, "eval_groups": 6, **settings})
    return config


def test_a_sum_and_its_answers_read_as_they_should() -> None:
    assert SUM.prompt == "compute 7 plus 5 plus 8 plus 2 ."
    assert {name: world.solve(SUM, name) for name in world.STRATEGIES} == BY_NAME
    words = set(world.vocabulary())
    assert set(SUM.prompt.split()) | set(" ".join(BY_NAME.values()).split()) <= words
    # 9 + 9 + 9 + 9 = 36, and each of three steps may slip by 1
    assert world.vocabulary()[-1] == "39"
    assert len(world.vocabulary()) == len(words) == 5 + 39


@pytest.mark.parametrize(
    ("text", "right"),
    [
        *((text, True) for text in BY_NAME.values()),
        (MIXED, True),
        # the terms of a step in the other order
        ("5 plus 7 is 12 . 8 plus 12 is 20 . 2 plus 20 is 22 . so 22 .", True),
        # a wrong step, and what follows from it
        ("7 plus 5 is 13 . 13 plus 8 is 21 . 21 plus 2 is 23 . so 23 .", False),
        # two wrong steps that make up for each other: 22 is right
        ("7 plus 5 is 13 . 13 plus 8 is 20 . 20 plus 2 is 22 . so 22 .", False),
        # the 2 is left out
        ("7 plus 5 is 12 . 12 plus 8 is 20 . so 20 .", False),
        # the 2 is left out, and yet the answer is right
        ("7 plus 5 is 12 . 12 plus 8 is 20 . so 22 .", False),
        # a term is taken twice: 7 + 5 + 5 + 5
        ("7 plus 5 is 12 . 12 plus 5 is 17 . 17 plus 5 is 22 . so 22 .", False),
        # numbers that nobody gave
        ("11 plus 11 is 22 . so 22 .", False),
        # another number than the steps come to
        ("7 plus 5 is 12 . 12 plus 8 is 20 . 20 plus 2 is 22 . so 21 .", False),
        # no answer; no steps; nothing
        ("7 plus 5 is 12 . 12 plus 8 is 20 . 20 plus 2 is 22 .", False),
        ("7 plus 5 is 12 . 12 plus 8 is 20 . 20 plus 2 is 22 . so", False),
        ("so 22 .", False),
        ("", False),
        # words besides
        (f"{FORWARD} so 22 .", False),
        (f"so 22 . {FORWARD}", False),
        (FORWARD.replace("12 plus", "12 plus plus"), False),
        (FORWARD.removesuffix(" ."), False),
        (FORWARD.replace("7 plus 5", "07 plus 5"), False),
    ],
)
def test_the_verifier_is_exact(text: str, right: bool) -> None:
    assert world.is_right(SUM, text) is right


def test_the_strategy_shows_in_the_steps_alone() -> None:
    assert {name: world.strategy_of(SUM, text) for name, text in BY_NAME.items()} == {name: name for name in BY_NAME}
    assert world.strategy_of(SUM, MIXED) is None
    assert world.strategy_of(SUM, "so 22 .") is None
    assert world.strategy_of(SUM, FORWARD + " 7") is None
    assert world.solve(SUM, "forward", (1, 0, -1)) == "7 plus 5 is 13 . 13 plus 8 is 21 . 21 plus 2 is 22 . so 22 ."
    # a wrong sum, from which it goes on
    assert world.strategy_of(SUM, "2 plus 8 is 11 . 11 plus 5 is 16 . 16 plus 7 is 23 . so 23 .") == "backward"
    assert world.strategy_of(SUM, "8 plus 2 is 10 . 5 plus 10 is 15 . 15 plus 7 is 22 . so 22 .") == "backward"


def test_every_strategy_solves_every_sum_and_is_told_from_the_others() -> None:
    """Of 9 ** 4 = 6561 sums those are left out on which two strategies take the same steps, as on 1 2 3 4."""
    made = [question for found in world.questions(0).values() for question in found]
    assert 3500 < len(made) < 6561
    for question in made:
        for name in world.STRATEGIES:
            text = world.solve(question, name)
            assert len(text.split()) == 21
            assert world.is_right(question, text)
            assert world.strategy_of(question, text) == name
    assert world.Question((1, 2, 3, 4)) not in made


@pytest.mark.parametrize("seed", [0, 7])
def test_splits_share_no_collection_of_terms_and_do_not_depend_on_their_sizes(seed: int) -> None:
    made = world.questions(seed)
    sets = {split: {tuple(sorted(question.terms)) for question in found} for split, found in made.items()}
    assert len(set[tuple[int, ...]]().union(*sets.values())) == sum(map(len, sets.values())) > 300
    assert all(len(found) >= 48 for found in made.values())
    few, many = (
        Workload(small_config(seed=seed, eval_groups=count, test_groups=count, train_groups=10 * count))
        for count in (3, 9)
    )
    for split in ("train", "eval", "test"):
        ids = [task.id for task in many.tasks(split)]
        assert [task.id for task in few.tasks(split)] == ids[: len(few.tasks(split))]
    assert made != world.questions(seed + 1)


def test_the_warm_up_mixes_all_strategies_with_slips() -> None:
    """An answer without a slip in its three steps: 0.85 ** 3 = 0.61."""
    rng = random.Random(0)
    said = [
        (question, world.warmup_answer(question, rng)) for question in world.questions(0)["train"] for _ in range(3)
    ]
    assert fmean(world.is_right(*answer) for answer in said) == pytest.approx(0.85**3, abs=0.03)
    shares = Counter(world.strategy_of(*answer) for answer in said)
    assert {name: shares[name] / len(said) for name in shares} == pytest.approx(world.STRATEGIES, abs=0.03)
    assert {word for _, text in said for word in text.split()} <= set(world.vocabulary())


def test_the_knob_says_how_many_strategies_are_paid_and_nothing_else() -> None:
    texts = [FORWARD, FORWARD, BACKWARD, LARGEST, MIXED, "so 22 ."]
    for modes, rewards, reached in (
        (1, [1, 1, 0, 0, 0, 0], 1),
        (2, [1, 1, 1, 0, 0, 0], 2),
        # forward, backward, largest, smallest are paid, and smallest was not said
        (4, [1, 1, 1, 1, 0, 0], 3),
    ):
        verdicts = StrategyReward(modes).score([episode(text, number) for number, text in enumerate(texts)])
        assert [verdict.reward for verdict in verdicts] == rewards
        for verdict in verdicts:
            assert (verdict.components["strategies"], verdict.components["coverage"]) == (reached, reached / modes)
        assert [verdict.components["valid"] for verdict in verdicts] == [1, 1, 1, 1, 1, 0]
        assert [verdict.components["by_other"] for verdict in verdicts] == [0, 0, 0, 0, 1, 0]
        workload = Workload(small_config(modes=modes))
        assert [workload.gold(episode(text)) for text in texts] == rewards
    lessons = [Workload(small_config(modes=modes)).lessons()[0].examples() for modes in (1, 4)]
    assert lessons[0] == lessons[1]
    others = [Workload(small_config(modes=modes)).tasks("train") for modes in (1, 4)]
    assert others[0] == others[1]


def test_evaluations_report_what_is_right_and_by_how_many_strategies() -> None:
    """Two sums of two answers with two paid strategies. The first has both strategies, the second one right answer of two.

    correct 3/4; strategies (2 + 1) / 2; coverage (1 + 1/2) / 2.
    """
    other = world.Question((9, 4, 6, 1))
    played = [
        episode(FORWARD), episode(BACKWARD, 1),
        episode(world.solve(other, "forward"), 0, other), episode(world.solve(other, "pairs"), 1, other),
    ]  # fmt: skip
    workload = Workload(small_config(modes=2))
    verdicts = workload.reward().score(played, (), ())
    groups = [Group(tuple(played[at : at + 2]), tuple(verdicts[at : at + 2])) for at in (0, 2)]
    assert workload.metrics(groups) == {
        "correct": 0.75, "valid": 1.0, "strategies": 1.5, "coverage": 0.75,
        "by_forward": 0.5, "by_backward": 0.25, "by_pairs": 0.25, "by_largest": 0.0, "by_smallest": 0.0, "by_other": 0.0,
    }  # fmt: skip
    assert workload.metrics([Group((played[0],), (Unscored("gone"),))]) == {}
    # a function of one's own has no such parts
    workload.config.reward.name = "somewhere/r.py:f"
    assert workload.metrics([Group((played[0],), (Scored(1.0),))]) == {}


def test_the_warm_up_is_a_lesson_and_its_words_are_the_tokenizers() -> None:
    config = small_config()
    config.warmup.steps, config.warmup.examples_per_step = 5, 3
    workload = Workload(config)
    (lesson,) = workload.lessons()
    assert isinstance(lesson, PolicyLesson)
    assert len(lesson.examples()) == 15
    assert all(len(example.branches) == 4 for example in lesson.examples())  # type: ignore[union-attr]
    assert workload.tokenizer_texts() == (world.vocabulary(), ())
    assert workload.functions() == {}


def test_what_the_world_cannot_give_is_refused() -> None:
    # sums for eval in a world of seed 0: 353
    with pytest.raises(ConfigError, match=r"data.eval_groups=9999 is more than the world's \d+ sums for eval"):
        Workload(small_config(eval_groups=9999)).tasks("eval")
    with pytest.raises(ConfigError, match=r"data.modes=6"):
        compose("rlvr.maths", ["data.modes=6"])
    with pytest.raises(ConfigError, match=r"data.path=sums.jsonl is not read where data.source=mini"):
        compose("rlvr.maths", ["data.path=sums.jsonl", "preset=mini"])


def test_no_judge_is_started() -> None:
    config = compose("rlvr.maths")
    assert list(config.roles()) == ["policy"]
    # How many strategies show depends on the number of answers: the same at step 0, where best-of-n is sampled.
    assert config.eval.samples_per_task == config.eval.best_of
