"""What `/v1/judge` answers, with verdicts and scores worked out by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from fakes.answerers import FakeAnswerer

from orchestrator.fleets.serving.errors import Refused
from orchestrator.fleets.serving.judge import MOST_RESPONSES, Judging, RewardModelJudging
from orchestrator.learning.calibration import Calibration
from orchestrator.rollouts.rubric_files import plain_question
from orchestrator.rollouts.rubrics import CONTROL, RubricReward
from orchestrator.values import Answer, Call, Choice, Fault

RUBRIC = [
    {"id": "answers", "text": "It answers.", "weight": 3, "dimension": "substance"},
    {"id": "kind", "text": "It is kind.", "weight": 1},
    {"id": "scolds", "text": "It scolds.", "weight": -4},
]
BODY = {"prompt": "May I?", "response": "You may.", "rubric": RUBRIC}
# P(yes) of yes and no together: 0.72 / 0.9 = 0.8, 0.2 / 0.8 = 0.25, 0.63 / 0.7 = 0.9
ANSWERS: Mapping[str, Answer] = {
    "answers": Choice({"yes": 0.72, "no": 0.18}),
    "kind": Choice({"yes": 0.2, "no": 0.6}),
    "scolds": Choice({"yes": 0.63, "no": 0.07}),
}


def by_criterion(answers: Mapping[str, Answer]) -> Callable[[Call, int], Answer]:
    return lambda call, attempt: answers[call.key.removesuffix(CONTROL).rpartition("/")[2]]


def judging(answer: Callable[[Call, int], Answer] | None = None, soft: bool = False) -> tuple[Judging, FakeAnswerer]:
    answerer = FakeAnswerer(answer or by_criterion(ANSWERS))
    return Judging(RubricReward(plain_question, "paper", soft, 0.5, cut_off_penalty=0.5), 1, answerer), answerer


def result(judge: Judging, **changed: Any) -> dict[str, Any]:
    (one,) = judge.judge({**BODY, **changed})["results"]
    return one


def test_verdicts_and_weighted_scores() -> None:
    """answers 0.8 met, kind 0.25 not, scolds 0.9 met. paper: 3/4 - 4/4. official: (3 earned + 0 + 0) of 3 + 1 + 4."""
    one = result(judging()[0])
    assert one["reward"] == pytest.approx(0.75 - 1.0)
    assert one["score"] == pytest.approx(3 / 8)
    assert one["unscored"] is None
    assert [(row["id"], row["met"]) for row in one["verdicts"]] == [
        ("answers", True),
        ("kind", False),
        ("scolds", True),
    ]
    assert [row["p_yes"] for row in one["verdicts"]] == pytest.approx([0.8, 0.25, 0.9])
    assert [row["mass"] for row in one["verdicts"]] == pytest.approx([0.9, 0.8, 0.7])
    assert one["components"] == pytest.approx(
        {"positive": 0.75, "negative": 1.0, "official": 3 / 8, "cut_off": 0.0, "mass": 0.8}
    )


def test_soft_verdicts_weigh_by_their_probability() -> None:
    """official: (3 * 0.8 + 1 * 0.25 + 4 * (1 - 0.9)) / 8 = 3.05 / 8; paper: (2.4 + 0.25) / 4 - 0.9."""
    one = result(judging(soft=True)[0])
    assert one["score"] == pytest.approx(3.05 / 8)
    assert one["reward"] == pytest.approx(2.65 / 4 - 0.9)


def test_the_request_may_name_the_formula_of_its_reward() -> None:
    """The next request without one has the run's own again."""
    judge, _ = judging()
    assert result(judge, formula="official")["reward"] == pytest.approx(3 / 8)
    assert result(judge)["reward"] == pytest.approx(-0.25)
    assert result(judge, formula=None)["reward"] == pytest.approx(-0.25)


def test_every_response_has_its_result_and_the_judge_is_asked_as_in_training() -> None:
    judge, answerer = judging(
        lambda call, attempt: Choice({"yes": 1.0, "no": 0.0}) if "good" in call.messages[0]["content"] else NO
    )
    body = {**BODY, "responses": ["good", "bad", ""], "model": "base", "rubric": RUBRIC[:1]}
    del body["response"]
    reply = judge.judge(body)
    assert reply["model"] == "base"
    assert [one["score"] for one in reply["results"]] == [1.0, 0.0, 0.0]
    (batch,) = answerer.batches
    assert [call.choices for call in batch] == [("yes", "no")] * 3
    assert "A user asked:\nMay I?\n\nThe response:\nbad\n\n" in batch[1].messages[0]["content"]


NO = Choice({"yes": 0.0, "no": 1.0})


def test_messages_stand_for_a_prompt() -> None:
    judge, answerer = judging()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "May I?"}]
    body = {**BODY, "messages": messages}
    del body["prompt"]
    judge.judge(body)
    assert "system: Be brief.\n\nuser: May I?" in answerer.batches[0][0].messages[0]["content"]


def test_a_fault_of_the_judge_is_no_zero() -> None:
    """It is asked again once, as `retries` says; the other response keeps its score."""
    judge, answerer = judging(
        lambda call, attempt: (
            Fault("no room")
            if "/1/" in call.key and call.key.endswith("kind")
            else ANSWERS[call.key.rpartition("/")[2]]
        )
    )
    body = {**BODY, "responses": ["a", "b"]}
    del body["response"]
    first, second = judge.judge(body)["results"]
    assert first["score"] == pytest.approx(3 / 8)
    assert second == {
        "score": None,
        "reward": None,
        "components": None,
        "verdicts": [],
        "unscored": "criterion kind: no room",
    }
    assert sum(key.endswith("/1/kind") for key in answerer.asked) == 2


@pytest.mark.parametrize("broken", [Choice({"yes": 0.01, "no": 0.01}), Fault("too long", lasting=True)])
def test_a_response_that_breaks_the_judge_pays_and_is_shown_without_a_probability(broken: Answer) -> None:
    """All but `answers` broken, the control questions answered: kind unmet, scolds met, as bad as can be. official: 3 of 8."""

    def answer(call: Call, attempt: int) -> Answer:
        return ANSWERS["answers"] if call.key.endswith((CONTROL, "answers")) else broken

    one = result(judging(answer)[0])
    assert one["score"] == pytest.approx(3 / 8)
    assert [(row["met"], row["p_yes"]) for row in one["verdicts"][1:]] == [(False, None), (True, None)]


def test_a_judge_that_fails_its_control_question_scores_nothing() -> None:
    one = result(judging(lambda call, attempt: Fault("too long", lasting=True))[0])
    assert one["score"] is None
    assert "control question" in one["unscored"]


@pytest.mark.parametrize(
    ("changed", "param", "says"),
    [
        ({"respons": "x"}, "respons", "Did you mean response or responses"),
        ({"rubrik": []}, "rubrik", "Did you mean rubric"),
        ({"zzz": 1}, "zzz", "The fields are model, prompt"),
        ({"model": 3}, "model", "text"),
        ({"prompt": None}, "prompt", "neither"),
        ({"messages": []}, "prompt", "both"),
        ({"prompt": " "}, "prompt", "must be a text that is not empty"),
        ({"prompt": 4}, "prompt", "must be a text"),
        ({"prompt": None, "messages": "[]"}, "messages", "list of {role, content}"),
        ({"prompt": None, "messages": [{"role": "user"}]}, "messages", r"messages\[0\].content"),
        ({"prompt": None, "messages": [{"role": "judge", "content": "x"}]}, "messages", r"messages\[0\].role"),
        ({"response": None}, "response", "neither"),
        ({"responses": ["x"]}, "response", "both"),
        ({"response": ["x"]}, "response", "must be a text"),
        ({"response": None, "responses": []}, "responses", "one at least"),
        ({"response": None, "responses": ["x", 1]}, "responses", "list of texts"),
        ({"response": None, "responses": ["x"] * (MOST_RESPONSES + 1)}, "responses", "65 are more than the 64"),
        ({"rubric": None}, "rubric", "missing"),
        ({"rubric": "kind"}, "rubric", "list of criteria"),
        ({"rubric": []}, "rubric", "at least one criterion"),
        ({"rubric": [*RUBRIC, {"id": "x", "text": "x"}]}, "rubric", r"rubric\[3\]: field 'weight' is missing"),
        ({"rubric": [{**RUBRIC[0], "weight": 0}]}, "rubric", r"rubric\[0\].*'weight' is 0"),
        ({"rubric": [{**RUBRIC[0], "weight": 10**400}]}, "rubric", r"rubric\[0\].*at most 1,000,000 in magnitude"),
        ({"rubric": [RUBRIC[0], RUBRIC[0]]}, "rubric", "'id' is not unique"),
        ({"formula": "mean"}, "formula", "one of paper, official"),
        ({"formula": []}, "formula", "one of paper, official"),
    ],
)
def test_a_request_that_will_not_do_is_refused_by_field(changed: dict[str, Any], param: str, says: str) -> None:
    judge, answerer = judging()
    with pytest.raises(Refused, match=says) as raised:
        judge.judge({**BODY, **changed})
    assert (raised.value.status_code, raised.value.param) == (400, param)
    assert answerer.batches == []


def test_too_many_questions_are_refused() -> None:
    """64 responses times 33 criteria are 2112 questions; 32 are 2048, the most."""
    judge, _ = judging(lambda call, attempt: NO)
    body = {"prompt": "x", "responses": ["x"] * 64}
    criteria = [{"id": f"c{number}", "text": "x", "weight": 1} for number in range(33)]
    with pytest.raises(Refused, match="2112 questions"):
        judge.judge({**body, "rubric": criteria})
    assert len(judge.judge({**body, "rubric": criteria[:32]})["results"]) == 64


def rewarded(scores: Sequence[Sequence[float]], classes: Sequence[str], body: dict[str, Any]) -> tuple[Any, Any]:
    asked = []

    async def score(conversations: Any) -> Any:
        asked.append(conversations)
        return scores

    return asyncio.run(RewardModelJudging(score, classes, Calibration(0.5, 0.25, 9)).judge(body)), asked


def test_a_reward_model_scores_whole_conversations() -> None:
    """Values by the mean 0.5 and the spread 0.25 of its reference answers: 4 and -10."""
    reply, asked = rewarded([[1.5], [-2.0]], ["reward"], {"prompt": "May I?", "responses": ["Yes.", "No."]})
    assert reply == {"model": None, "results": [{"score": 1.5, "value": 4.0}, {"score": -2.0, "value": -10.0}]}
    assert asked == [
        [[{"role": "user", "content": "May I?"}, {"role": "assistant", "content": text}] for text in ("Yes.", "No.")]
    ]


def test_a_classifier_names_its_classes() -> None:
    reply, _ = rewarded([[0.2, 0.7, 0.1]], ["bad", "good", "odd"], {"prompt": "May I?", "response": "Yes."})
    assert reply["results"] == [{"score": 0.7, "class": "good", "classes": {"bad": 0.2, "good": 0.7, "odd": 0.1}}]


@pytest.mark.parametrize("field", ["rubric", "formula"])
def test_a_reward_model_says_that_it_reads_no_rubric(field: str) -> None:
    with pytest.raises(Refused, match=r"reward model.*leave the field out") as raised:
        rewarded([[1.0]], ["reward"], {"prompt": "x", "response": "y", field: []})
    assert raised.value.param == field
