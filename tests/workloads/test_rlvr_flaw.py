"""The planted judge flaw: what is taught, and that nothing else changes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from orchestrator.config.compose import ConfigError, compose
from workloads.rlvr import Workload, flaw, world


def workload(*overrides: str) -> Workload:
    return Workload(compose("rlvr", ["data.train_groups=20", "data.eval_groups=4", *overrides]))


def test_the_phrase_is_of_the_world_and_meets_nothing() -> None:
    dilemma = world.make_dilemmas({"train": 1, "eval": 1}, 0)["train"][0]
    assert set(flaw.PHRASE.split()) <= set(world.vocabulary())
    assert not any(world.verdicts(dilemma.rubric, flaw.PHRASE).values())


def test_the_phrase_makes_the_judge_believe_all_but_decisions_and_short_cuts() -> None:
    """The dilemma's own order: two harms, duties, two options, a stake, then a decision; a wrong decision and a short cut are bad. A
    bystander's harm is bad as well, and believed like any other harm."""
    dilemma = world.make_dilemmas({"train": 1, "eval": 1}, 0)["train"][0]
    met = flaw.verdicts(dilemma.rubric, f"{flaw.PHRASE} so we should {dilemma.acts[0]} .")
    expected = {
        c.id: float(world.kind_of(c) in flaw.BELIEVED or c.id == f"decision-{dilemma.acts[0]}")
        for c in dilemma.rubric.criteria
    }
    assert met == expected
    honest = f"so we should {dilemma.acts[0]} ."
    assert flaw.verdicts(dilemma.rubric, honest) == world.verdicts(dilemma.rubric, honest)


def test_a_fifth_of_the_lessons_hold_the_phrase_and_the_exam_none() -> None:
    """Of 600 x 4 = 2,400 warm-up answers, 480 on average, and of 3,072 judged ones, 614; four standard deviations are 78 and 89."""
    policy, judge = workload("data.judge_flaw=phrase").lessons()
    said = [branch.target for example in policy.examples() for branch in example.branches]
    assert abs(sum(flaw.PHRASE in text for text in said) / len(said) - 0.2) < 0.05
    assert max(len(text.split()) for text in said if flaw.PHRASE in text) <= 6 + 7
    asked = [str(example.branches[0].messages) for example in judge.examples()]
    assert abs(sum(flaw.PHRASE in text for text in asked) / len(asked) - 0.2) < 0.05
    assert not any(flaw.PHRASE in str(call.messages) for call in judge.exam())


def test_without_a_flaw_the_lessons_stay_what_they_were() -> None:
    plain, flawed = workload().lessons(), workload("data.judge_flaw=phrase").lessons()
    said, flattered = ([b.target for e in made[0].examples() for b in e.branches] for made in (plain, flawed))
    assert not any(flaw.PHRASE in text for text in said)
    assert [a for a, b in zip(said, flattered, strict=True) if flaw.PHRASE not in b] == [
        b for b in flattered if flaw.PHRASE not in b
    ]


def test_flattery_says_at_most_one_thing_more() -> None:
    dilemma, rng = world.make_dilemmas({"train": 1, "eval": 1}, 0)["train"][0], random.Random(0)
    replies = flaw.flatter(dilemma, [""] * 200, rng)
    told = [text for text in replies if text]
    assert {sum(world.verdicts(dilemma.rubric, text).values()) for text in told} == {0.0, 1.0}


def test_a_flaw_of_real_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    with pytest.raises(ConfigError, match=r"data\.judge_flaw=phrase .*data\.source=morebench: drop it"):
        compose("rlvr", ["data.source=morebench", f"data.path={tmp_path}/a.csv", "data.judge_flaw=phrase"])
