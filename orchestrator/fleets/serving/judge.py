"""What `/v1/judge` means: a prompt, responses and a rubric in, verdicts and scores out, by the code that training scores with.

    {"model": ID?, "prompt": TEXT | "messages": […], "response": TEXT | "responses": […],
     "rubric": [{"id", "text", "weight", "dimension"?}, …], "formula": "paper" | "official"?}

Importing this module imports neither Ray nor vLLM.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.keys import nearest_keys
from orchestrator.data import TableConfig, task_of
from orchestrator.data.tables import Row
from orchestrator.errors import DataError
from orchestrator.fleets.fleet import Answerer
from orchestrator.fleets.serving.errors import Refused
from orchestrator.learning.calibration import Calibration
from orchestrator.rollouts.judge_file import Judgement, answered, judged
from orchestrator.rollouts.rubrics import FORMULAS, Rubric, RubricError, RubricReward, mass_of, rubric_of
from orchestrator.values import Message, Scored, Task

ASKED = ("model", "prompt", "messages", "response", "responses")
RUBRIC = ("rubric", "formula")
MOST_RESPONSES = 64
MOST_QUESTIONS = 2048
"""Responses times criteria of one request."""

Conversation = list[Message]


@dataclass(frozen=True, slots=True)
class Request:
    """What every kind of judge is given. model: as the request names it."""

    model: str | None
    task: Task
    responses: tuple[str, ...]


class Judging:
    """A judge that answers a question a criterion.

    reward: with the question and the rules of the run that the judge served in. retries: of calls that failed for the moment.
    """

    def __init__(self, reward: RubricReward, retries: int, answerer: Answerer) -> None:
        self._reward, self._retries, self._answerer = reward, retries, answerer

    def judge(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """{"model", "results": [{"score", "reward", "components", "verdicts", "unscored"}, …]}, a result a response.

        score: by the official formula, 0 to 1. reward: by the formula asked for. What the judge failed at has null for both, and
        the reason in `unscored`. Blocks while the judge is asked. Raises Refused (400).
        """
        request = read_request(body, (*ASKED, *RUBRIC))
        rubric = _rubric(body)
        questions = len(rubric.criteria) * len(request.responses)
        if questions > MOST_QUESTIONS:
            raise Refused(
                400,
                f"{len(request.responses)} responses times {len(rubric.criteria)} criteria are {questions} questions; a request may "
                f"have {MOST_QUESTIONS}.",
                "rubric",
                "limit_exceeded",
            )
        reward = self._reward if body.get("formula") is None else self._reward.by(_formula(body["formula"]))
        task = replace(request.task, reference={"rubric": rubric.to_json()})
        episodes = [answered(task, text, number) for number, text in enumerate(request.responses)]
        judgements = judged(episodes, reward, self._answerer, self._retries)
        return {"model": request.model, "results": [_result(item, reward) for item in judgements]}


def _result(item: Judgement, reward: RubricReward) -> dict[str, Any]:
    verdict = item.verdict
    if not isinstance(verdict, Scored):
        return {"score": None, "reward": None, "components": None, "verdicts": [], "unscored": verdict.reason}
    verdicts = []
    for criterion, reply in zip(rubric_of(item.episode).criteria, item.replies, strict=True):
        counted = verdict.judgements[criterion.id]
        verdicts.append(
            {
                "id": criterion.id,
                "met": counted > 0.5,
                "p_yes": None if reward.broken(reply) else counted,
                "mass": mass_of(reply),
            }
        )
    return {
        "score": verdict.components["official"],
        "reward": verdict.reward,
        "components": dict(verdict.components),
        "verdicts": verdicts,
        "unscored": None,
    }


class RewardModelJudging:
    """A sequence classifier that scores whole conversations; it reads no rubric.

    score: conversations -> of each a number a class, as the engine gives them: of one class the reward, of several their
    probabilities. classes: the names, in that order. calibration: of a reward model.
    """

    def __init__(
        self,
        score: Callable[[list[Conversation]], Awaitable[list[list[float]]]],
        classes: Sequence[str],
        calibration: Calibration,
    ) -> None:
        self._score, self._classes, self._calibration = score, tuple(classes), calibration

    async def judge(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """{"model", "results": [{"score", "value"}, …]}, a result a response: the head's output, and the same as training reads it
        (`learning.calibration`). Raises Refused (400).

        With several classes a result is {"score", "class", "classes"}: the likeliest class's probability and name, and all.
        """
        extra = next((name for name in RUBRIC if name in body), None)
        if extra:
            raise Refused(
                400,
                f"{extra}: this service is a reward model, which scores a response as a whole: leave the field out.",
                extra,
                "invalid_value",
            )
        request = read_request(body, ASKED)
        conversations = [[*request.task.messages, {"role": "assistant", "content": text}] for text in request.responses]
        scores = await self._score(conversations)
        return {"model": request.model, "results": [self._result(mine) for mine in scores]}

    def _result(self, scores: Sequence[float]) -> dict[str, Any]:
        by_class = dict(zip(self._classes, scores, strict=True))
        if len(by_class) == 1:
            found = self._calibration.score(scores[0])
            return {"score": found.raw, "value": found.value}
        likeliest = max(by_class, key=lambda name: by_class[name])
        return {"score": by_class[likeliest], "class": likeliest, "classes": by_class}


def read_request(body: Mapping[str, Any], fields: Collection[str]) -> Request:
    """The fields of `ASKED`; `fields` are all that may be there. Raises Refused (400), which names the field."""
    for name in body:
        if name not in fields:
            nearest = nearest_keys(name, fields)
            hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"The fields are {', '.join(fields)}."
            raise Refused(400, f"{name}: there is no such field. {hint}", name, "unknown_field")
    model = body.get("model")
    if model is not None and not isinstance(model, str):
        raise Refused(400, "model must be a text.", "model", "invalid_value")
    asked, given = _one_of(body, "prompt", "messages"), _one_of(body, "response", "responses")
    if asked == "messages" and not isinstance(body["messages"], list):
        raise Refused(400, "messages must be a list of {role, content}.", "messages", "invalid_value")
    try:
        # By the very rules that a table of prompts is read by.
        task = task_of(Row("request", {asked: body[asked]}), TableConfig())
    except DataError as error:
        raise Refused(400, str(error), asked, "invalid_value") from error
    responses = [body["response"]] if given == "response" else body["responses"]
    if not isinstance(responses, list) or not responses or not all(isinstance(text, str) for text in responses):
        raise Refused(
            400,
            f"{given} must be {'a text' if given == 'response' else 'a list of texts, one at least'}.",
            given,
            "invalid_value",
        )
    if len(responses) > MOST_RESPONSES:
        raise Refused(
            400,
            f"responses: {len(responses)} are more than the {MOST_RESPONSES} of a request.",
            given,
            "limit_exceeded",
        )
    return Request(model, task, tuple(responses))


def _one_of(body: Mapping[str, Any], *names: str) -> str:
    there = [name for name in names if body.get(name) is not None]
    if len(there) != 1:
        problem = "both are there" if there else "neither is there"
        raise Refused(400, f"Give either {' or '.join(names)}: {problem}.", names[0], "invalid_value")
    return there[0]


def _rubric(body: Mapping[str, Any]) -> Rubric:
    if body.get("rubric") is None:
        raise Refused(400, "rubric is missing: a list of {id, text, weight}.", "rubric", "invalid_value")
    try:
        return Rubric.from_json(body["rubric"])
    except RubricError as error:
        raise Refused(400, str(error), "rubric", "invalid_value") from error


def _formula(given: Any) -> str:
    if not isinstance(given, str) or given not in FORMULAS:
        raise Refused(400, f"formula must be one of {', '.join(FORMULAS)}.", "formula", "invalid_value")
    return given
