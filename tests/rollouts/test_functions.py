"""What a reward function of one's own may return."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from orchestrator.rollouts.functions import WrongVerdictsError, verdicts_of
from orchestrator.values import Scored, Unscored


def test_whatever_stands_for_a_number_is_a_plain_score() -> None:
    for returned in (
        [1, 0.5],
        (True, 0.5),
        np.array([1, 0.5], dtype=np.float32),
        (value for value in (np.bool_(1), 0.5)),
    ):
        verdicts = verdicts_of(returned, 2)
        assert verdicts == [Scored(1.0), Scored(0.5)]
        assert all(type(verdict.reward) is float for verdict in verdicts if isinstance(verdict, Scored))


def test_verdicts_are_kept_with_their_parts() -> None:
    given = [Scored(np.float64(2), {"a": np.float32(0.5)}, {"c": True}), Unscored("no compiler")]
    assert verdicts_of(given, 2) == [Scored(2.0, {"a": 0.5}, {"c": 1.0}), Unscored("no compiler")]


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "it returned None, not a list with one verdict an episode"),
        (0.5, "it returned 0.5, not a list"),
        ("ab", "it returned 'ab' (str), not a list"),
        ({"a": 1, "b": 2}, "(dict), not a list"),
        ([1.0], "it returned only 1 verdicts for 2 episodes"),
        ([1.0] * 3, "it returned more verdicts for 2 episodes"),
        (itertools.repeat(1.0), "it returned more verdicts for 2 episodes"),
        ([0.0, float("nan")], "verdict 2 of 2 is nan, not a finite number"),
        ([float("-inf"), 0.0], "verdict 1 of 2 is -inf, not a finite number"),
        (["0.5", 0.5], "verdict 1 of 2 is '0.5' (str), not a finite number"),
        ([None, 0.5], "verdict 1 of 2 is None, not a finite number, Scored or Unscored"),
        ([Scored(1.0, {"a": float("nan")}), 0.5], "verdict 1 of 2, a is nan"),
        ([Scored(float("nan")), 0.5], "verdict 1 of 2 is nan"),
    ],
)
def test_anything_else_says_what_is_wrong(returned: object, words: str) -> None:
    with pytest.raises(WrongVerdictsError) as caught:
        verdicts_of(returned, 2)
    assert words in str(caught.value)
