"""Ranges: how they are written, all their combinations, one drawn."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from orchestrator.config.keys import keys_of
from orchestrator.config.schema import RunConfig
from orchestrator.errors import ConfigError
from orchestrator.sweep.space import draw, grid, in_words, read_ranges
from orchestrator.sweep.spec import Range

KEYS = keys_of(RunConfig)
FLOWRL = {"algorithm.name": "flowrl"}


def ranges(**search: Any) -> list[Range]:
    found, problems = read_ranges(
        {name.replace("__", "."): written for name, written in search.items()}, KEYS, "s.yaml"
    )
    assert problems == []
    return found


def test_ranges_are_read() -> None:
    found = ranges(
        algorithm__beta={"choice": [5, 15], "when": {"algorithm": "flowrl"}},
        learner__learning_rate={"loguniform": [1e-5, 1e-3]},
        rollout__samples_per_prompt={"int": [4, 8]},
    )
    assert found == [
        # Its condition is not searched, so it keeps its place.
        Range("algorithm.beta", "choice", (5, 15), when=FLOWRL),
        Range("learner.learning_rate", "loguniform", low=1e-5, high=1e-3),
        Range("rollout.samples_per_prompt", "int", low=4, high=8),
    ]
    assert [in_words(item) for item in found] == [
        "algorithm.beta 5, 15 where algorithm.name=flowrl",
        "learner.learning_rate 1e-05…0.001 (log)",
        "rollout.samples_per_prompt 4…8",
    ]


def test_a_range_comes_after_what_its_condition_waits_for() -> None:
    found = ranges(
        algorithm__beta={"choice": [5, 15], "when": {"algorithm": "flowrl"}}, algorithm={"choice": ["grpo", "flowrl"]}
    )
    assert [item.key for item in found] == ["algorithm.name", "algorithm.beta"]


@pytest.mark.parametrize(
    ("search", "words"),
    [
        ({"learner.learning_rat": {"choice": [1]}}, "learning_rat: there is no such key. Did you mean learner.learning_rate?"),
        ({"steps": [1, 2]}, "write what is tried, as in {choice: [1, 2]}"),
        ({"steps": {"chioce": [1, 2]}}, "search.steps: chioce is none of one kind (grid, choice, times, uniform, loguniform, int)"),
        ({"steps": {"choice": [1], "grid": [1]}}, "it is none of one kind"),
        ({"steps": {"choice": []}}, "choice takes a list of values"),
        ({"steps": {"int": [1, 2, 3]}}, "int takes the lowest and the highest number"),
        ({"steps": {"int": [1, 2.5]}}, "int takes whole numbers"),
        ({"steps": {"int": [2, 1]}}, "the lowest and the highest"),
        ({"learner.learning_rate": {"loguniform": [0, 1]}}, "loguniform needs numbers above 0"),
        ({"learner.learning_rate": {"uniform": [True, 2]}}, "the lowest and the highest"),
        ({"steps": {"choice": [1], "when": "flowrl"}}, "`when` is a mapping"),
        ({"steps": {"choice": [1], "when": {"algoritm": "x"}}}, "algoritm (s.yaml, search.steps.when): there is no such key"),
        ({"steps": {"choice": [1], "when": {"steps": 1}}}, "its condition is about itself"),
        (
            {"steps": {"choice": [1], "when": {"seed": 1}}, "seed": {"choice": [1], "when": {"steps": 1}}},
            "the conditions of steps and seed wait for each other",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_range_is_told(search: dict[str, Any], words: str) -> None:
    _, (problem,) = read_ranges(search, KEYS, "s.yaml")
    assert words in problem
    assert "s.yaml" in problem


def test_a_grid_is_all_combinations_that_make_sense() -> None:
    found = ranges(
        algorithm={"grid": ["grpo", "flowrl"]},
        algorithm__beta={"grid": [5, 15, 15], "when": {"algorithm": "flowrl"}},
        rollout__samples_per_prompt={"int": [7, 8]},
    )
    # grpo has no beta: 1 x 2; flowrl two of them (15 is written twice): 2 x 2.
    assert [tuple(point.values()) for point in grid(found, {})] == [
        ("grpo", 7), ("grpo", 8), ("flowrl", 5, 7), ("flowrl", 5, 8), ("flowrl", 15, 7), ("flowrl", 15, 8),
    ]  # fmt: skip
    assert list(grid(found, {})[0]) == ["algorithm.name", "rollout.samples_per_prompt"]
    with pytest.raises(ConfigError, match=r"search\.steps: a grid tries every value"):
        grid([Range("steps", "uniform", low=1, high=2)], {})


def test_a_condition_sees_the_arms_settings() -> None:
    found = ranges(algorithm__beta={"grid": [5, 15], "when": {"algorithm": "flowrl"}})
    assert grid(found, FLOWRL) == [{"algorithm.beta": 5}, {"algorithm.beta": 15}]
    assert grid(found, {"algorithm.name": "grpo"}) == grid(found, {}) == [{}]


def test_a_point_is_drawn_with_its_conditions() -> None:
    found = ranges(
        algorithm={"choice": ["grpo", "flowrl"]},
        algorithm__beta={"uniform": [5, 15], "when": {"algorithm": "flowrl"}},
        rollout__samples_per_prompt={"int": [4, 8]},
        learner__learning_rate={"loguniform": [1e-5, 1e-3]},
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [draw(found, {}, study.ask()) for _ in range(40)]
    assert {point["algorithm.name"] for point in points} == {"grpo", "flowrl"}
    for point in points:
        assert ("algorithm.beta" in point) == (point["algorithm.name"] == "flowrl")
        assert 5 <= point.get("algorithm.beta", 5) <= 15
    assert {point["rollout.samples_per_prompt"] for point in points} == {4, 5, 6, 7, 8}
    # Log-uniform over two decades: about half of 40 below 1e-4; uniform would have 9 %, four of them.
    assert 12 <= sum(point["learner.learning_rate"] < 1e-4 for point in points) <= 28
    # What the arm sets decides too: nothing but beta is drawn for it.
    fixed = optuna.trial.FixedTrial({"algorithm.beta": 7.0})
    assert draw(found[1:2], FLOWRL, fixed) == {"algorithm.beta": 7.0}
    assert draw(found[1:2], {}, fixed) == {}
