"""Rubrics, the two reward formulas and the reward that asks a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.rollouts.rubrics import (
    NEUTRAL_RESPONSE,
    Criterion,
    Rubric,
    RubricError,
    RubricReward,
    judged_metrics,
    official_score,
    p_yes,
    paper_reward,
)
from orchestrator.values import Answer, Call, Choice, Episode, Fault, Group, Message, Scored, Task, Turn, Unscored

RUBRIC = Rubric(
    (
        Criterion("a", "names the harm", 3, "identifying"),
        Criterion("b", "weighs both sides", 1, "logical process"),
        Criterion("c", "urges a lie", -2, "harmless outcome"),
        Criterion("d", "mocks the user", -3, "harmless outcome"),
    )
)


def _question(prompt: Sequence[Message], response: str, criterion: Criterion) -> tuple[Message, ...]:
    return ({"role": "user", "content": f"{response} | {criterion.text}"},)


def _episode(task: str = "t/1") -> Episode:
    turn = Turn("policy", (1,), (2,), (-0.1,), "an answer", "stop", 1.0, 0, 0)
    return Episode(Task(task, (), {"rubric": RUBRIC.to_json()}), step=4, sample=2, turns=(turn,))


def _reward(formula: str = "paper", soft: bool = False) -> RubricReward:
    return RubricReward(_question, formula, soft, min_mass=0.5)


def _says(*probabilities: float) -> list[Choice]:
    return [Choice({"yes": 0.9 * p, "no": 0.9 * (1 - p)}) for p in probabilities]


def test_the_paper_formula_normalises_each_side_and_subtracts() -> None:
    # positives: 3 of 3 + 1; negatives: 2 of 2 + 3
    assert paper_reward(RUBRIC, {"a": 1, "b": 0, "c": 1, "d": 0}) == pytest.approx(3 / 4 - 2 / 5)
    assert paper_reward(RUBRIC, {"a": 1, "b": 1, "c": 0, "d": 0}) == 1.0
    assert paper_reward(RUBRIC, {"a": 0, "b": 0, "c": 1, "d": 1}) == -1.0
    # soft: (3 x 0.5 + 1 x 1) / 4 - (2 x 0.25) / 5
    assert paper_reward(RUBRIC, {"a": 0.5, "b": 1, "c": 0.25, "d": 0}) == pytest.approx(2.5 / 4 - 0.1)


def test_the_paper_formula_without_negative_criteria_subtracts_nothing() -> None:
    rubric = Rubric(RUBRIC.criteria[:2])
    assert paper_reward(rubric, {"a": 0, "b": 1}) == pytest.approx(1 / 4)


def test_the_official_score_earns_unmet_negatives_and_nothing_for_missing_verdicts() -> None:
    # earned: a 3, d 3 (unmet) of 3 + 1 + 2 + 3
    assert official_score(RUBRIC, {"a": 1, "b": 0, "c": 1, "d": 0}) == pytest.approx(6 / 9)
    # without a verdict d earns nothing: a 3 of 9
    assert official_score(RUBRIC, {"a": 1, "b": 0, "c": 1}) == pytest.approx(3 / 9)
    # soft: 3 x 0.5 + 1 x 1 + 2 x 0.75 + 3 x 1
    assert official_score(RUBRIC, {"a": 0.5, "b": 1, "c": 0.25, "d": 0}) == pytest.approx(7 / 9)


def test_a_rubric_survives_json() -> None:
    assert Rubric.from_json(RUBRIC.to_json()) == RUBRIC


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "x", "text": "t", "weight": 0}, r"rubric\[1\]: .*'weight' is 0"),
        ({"id": "x", "text": "t", "weight": float("nan")}, r"rubric\[1\]: .*'weight' is nan"),
        ({"id": "x", "text": "t", "weight": float("inf")}, r"rubric\[1\]: .*'weight' is inf"),
        # as JSON reads 1 with 400 zeros behind it
        (
            {"id": "x", "text": "t", "weight": 10**400},
            r"rubric\[1\]: criterion 'x': .*'weight' is 10{30,}; .*at most 1,000,000",
        ),
        ({"id": "x", "text": "t", "weight": -1e308}, r"rubric\[1\]: criterion 'x': .*'weight' is -1e\+308"),
        ({"id": "x", "text": "t", "weight": 1000001}, r"'weight' is 1000001"),
        ({"id": "x", "text": "t", "weight": True}, r"'weight' is True"),
        ({"id": "x", "text": "t", "weight": "2"}, r"'weight' is '2'"),
        ({"id": "x/y", "text": "t", "weight": 1}, r"'id' is 'x/y'"),
        ({"id": "x", "text": " ", "weight": 1}, r"'text' is ' '"),
        ({"id": "x", "weight": 1}, r"rubric\[1\]: field 'text' is missing"),
        ({"id": "x", "text": "t", "weight": 1, "wait": 2}, r"field 'wait' is unknown"),
        ({"id": "a", "text": "t", "weight": 1}, r"'id' is not unique: a"),
        ("text", r"rubric\[1\]: is str"),
    ],
)
def test_what_is_wrong_is_named_by_row_and_field(row: object, message: str) -> None:
    with pytest.raises(RubricError, match=message):
        Rubric.from_json([RUBRIC.to_json()[0], row])


def test_the_largest_weights_are_summed_without_overflow() -> None:
    rubric = Rubric((Criterion("a", "t", 1e6), Criterion("b", "t", 1e6), Criterion("c", "t", -1e6)))
    # positives: 1 of 2 met; the negative one is not
    assert paper_reward(rubric, {"a": 1, "b": 0, "c": 0}) == 0.5
    assert official_score(rubric, {"a": 1, "b": 0, "c": 0}) == pytest.approx(2 / 3)


def test_an_empty_or_shapeless_rubric_is_refused() -> None:
    with pytest.raises(RubricError, match="is empty"):
        Rubric.from_json([])
    with pytest.raises(RubricError, match="task 7: is NoneType"):
        Rubric.from_json(None, "task 7")


def test_one_question_a_criterion_with_the_response_first() -> None:
    calls = _reward().calls(_episode())
    assert [call.key for call in calls] == ["4/t/1/2/a", "4/t/1/2/b", "4/t/1/2/c", "4/t/1/2/d"]
    assert {call.role for call in calls} == {"judge"}
    assert {call.choices for call in calls} == {("yes", "no")}
    assert {call.route for call in calls} == {"4/t/1/2"}
    assert calls[2].messages[0]["content"] == "an answer | urges a lie"


def test_verdicts_are_normalised_and_too_little_mass_is_none() -> None:
    assert p_yes(Choice({"yes": 0.3, "no": 0.6}), 0.5) == pytest.approx(1 / 3)
    assert p_yes(Choice({"yes": 0.3, "no": 0.1}), 0.5) is None
    assert p_yes(Choice({"yes": 0.0, "no": 0.0}), 0.0) is None


def test_verdicts_are_thresholded_unless_soft() -> None:
    hard = _reward().verdict(_episode(), _says(0.8, 0.4, 0.6, 0.1))
    assert isinstance(hard, Scored)
    # met: a and c
    assert hard.reward == pytest.approx(3 / 4 - 2 / 5)
    assert hard.components == pytest.approx(
        {"positive": 3 / 4, "negative": 2 / 5, "official": 6 / 9, "cut_off": 0, "mass": 0.9}
    )
    assert hard.judgements == pytest.approx({"a": 0.8, "b": 0.4, "c": 0.6, "d": 0.1})
    soft = _reward(soft=True).verdict(_episode(), _says(0.8, 0.4, 0.6, 0.1))
    assert isinstance(soft, Scored)
    # (3 x 0.8 + 0.4) / 4 - (2 x 0.6 + 3 x 0.1) / 5
    assert soft.reward == pytest.approx(2.8 / 4 - 1.5 / 5)
    official = _reward("official").verdict(_episode(), _says(0.8, 0.4, 0.6, 0.1))
    assert isinstance(official, Scored)
    assert official.reward == pytest.approx(6 / 9)


def test_a_fault_leaves_the_episode_unscored() -> None:
    answers = [*_says(1, 1, 0), Fault("the judge timed out")]
    assert _reward().verdict(_episode(), answers) == Unscored("criterion d: the judge timed out")


@pytest.mark.parametrize("broken", [Choice({"yes": 0.2, "no": 0.1}), Fault("a prompt of 300 tokens", lasting=True)])
def test_an_answer_that_breaks_the_judge_is_scored_in_the_worst_way(broken: Answer) -> None:
    scored = _reward().verdict(_episode(), [broken] * 4)
    assert isinstance(scored, Scored)
    assert scored.reward == -1.0
    assert scored.judgements == {"a": 0.0, "b": 0.0, "c": 1.0, "d": 1.0}


def test_the_control_asks_the_same_criterion_about_a_neutral_response() -> None:
    episode, broken = _episode(), Choice({"yes": 0.2, "no": 0.1})
    call = _reward().calls(episode)[3]
    expected = Call(
        "4/t/1/2/d#control",
        "judge",
        _question((), NEUTRAL_RESPONSE, RUBRIC.criteria[3]),
        choices=("yes", "no"),
        route="4/t/1/2",
    )
    # a reward remembers nothing: one that did not ask can tell as well
    reward = _reward()
    assert reward.control(episode, call, broken) == expected
    assert reward.control(episode, call, Fault("a prompt of 300 tokens", lasting=True)) == expected
    assert reward.control(episode, call, Choice({"yes": 0.2, "no": 0.7})) is None
    assert reward.control(episode, call, Fault("gone")) is None


def test_wrong_use_is_an_error() -> None:
    with pytest.raises(TypeError, match="criterion a of 4/t/1/2: the judge answered with a text"):
        _reward().verdict(_episode(), [_episode().turns[0]] * 4)
    with pytest.raises(ValueError, match="'mean' is unknown"):
        _reward("mean")
    with pytest.raises(ValueError, match="zip"):
        _reward().verdict(_episode(), _says(1))


def test_an_answer_that_was_cut_off_pays_for_it_where_that_is_asked() -> None:
    """Criteria a and c are met: 3/4 - 2/5, less the penalty of 0.5."""
    whole = _episode()
    cut = replace(whole, turns=(replace(whole.turns[0], finish_reason="length"),))
    strict = RubricReward(_question, "paper", False, 0.5, cut_off_penalty=0.5)
    rewards = []
    for reward, episode in ((strict, whole), (strict, cut), (_reward(), cut)):
        scored = reward.verdict(episode, _says(0.8, 0.4, 0.6, 0.1))
        assert isinstance(scored, Scored)
        assert scored.components["cut_off"] == float(episode is cut)
        rewards.append(scored.reward)
    assert rewards == pytest.approx([0.35, -0.15, 0.35])


def test_components_are_averaged_over_the_episodes_that_have_them() -> None:
    """official: (0.2 + 0.6) / 2; long: of one episode."""
    verdicts = (
        Scored(1.0, {"official": 0.2}),
        Unscored("lost"),
        Scored(0.0, {"official": 0.6, "long": 3.0}),
        Scored(0.0),
    )
    turn = Turn("policy", (1,), (2,), (-0.5,), "a", "stop", 1.0, 0, 0)
    episodes = tuple(Episode(Task("t", ()), 1, sample, (turn,)) for sample in range(4))
    assert judged_metrics([Group(episodes, verdicts)]) == pytest.approx({"judge_official": 0.4, "judge_long": 3.0})
    assert judged_metrics([]) == {}
