"""A judge behind a URL: a real HTTP server in a thread, working and failing in every way."""

from __future__ import annotations

import math
import socket
import traceback
from dataclasses import replace
from typing import Any

import pytest
from fakes.openai_server import OpenAIServer, Reply, completion, serving

from orchestrator.errors import RunError
from orchestrator.fleets.remote import RemoteFleet
from orchestrator.rollouts.judging import insist
from orchestrator.rollouts.rubrics import Criterion, Rubric, RubricReward
from orchestrator.values import Answer, Call, Choice, Episode, Fault, Message, Sampling, Score, Task, Turn, Unscored

QUESTION: tuple[Message, ...] = ({"role": "user", "content": "is harm named?"},)
VERDICT = Call("1/t/0/a", "judge", QUESTION, choices=("yes", "no"))
WORDS = Call("1/t/0/w", "judge", QUESTION, Sampling(16, 0.5, ("\n",)), seed=7)

KEY = "sesame"


def fleet_of(server: OpenAIServer, deadline_s: float = 5, api_key: str | None = None) -> RemoteFleet:
    return RemoteFleet(server.url, None, api_key, deadline_s)


def answered(reply: Reply, call: Call = VERDICT) -> Answer:
    with serving(OpenAIServer(lambda body, number: reply)) as server:
        fleet = fleet_of(server)
        answer = fleet.complete([call])[0]
        assert fleet.take_statistics() == {"remote_faults": float(isinstance(answer, Fault))}
        assert fleet.take_statistics() == {"remote_faults": 0.0}
    return answer


def test_the_probabilities_of_a_words_forms_are_summed() -> None:
    """yes: 0.4 + 0.2 + 0.1 over its forms; no: 0.05; "yesterday" and "maybe" are neither."""
    forms = {"yes": 0.4, " Yes": 0.2, "YES": 0.1, "no": 0.05, "maybe": 0.1, "yesterday": 0.05}
    answer = answered((200, completion("yes", {token: math.log(share) for token, share in forms.items()})))
    assert isinstance(answer, Choice)
    assert answer.probabilities == pytest.approx({"yes": 0.7, "no": 0.05})


def test_what_is_asked_for_and_the_order_of_the_answers() -> None:
    def echo(body: dict[str, Any], number: int) -> Reply:
        return 200, completion(f" {body['messages'][0]['content']} \n", {"no": math.log(0.5)})

    calls = [Call(f"k{n}", "judge", ({"role": "user", "content": f"q{n}"},), Sampling(16)) for n in range(40)]
    with serving(OpenAIServer(echo)) as server:
        fleet = fleet_of(server, api_key=KEY)
        turns = fleet.complete(calls)
        assert [turn.text for turn in turns if isinstance(turn, Turn)] == [f"q{n}" for n in range(40)]
        server.requests.clear()
        fleet.complete([VERDICT])
        fleet.complete([WORDS])
    verdict, words = server.requests
    assert verdict["model"] == words["model"] == "judge"
    assert (verdict["max_tokens"], verdict["temperature"], verdict["top_logprobs"]) == (1, 1.0, 20)
    assert (words["max_tokens"], words["temperature"], words["stop"], words["seed"]) == (16, 0.5, ["\n"], 7)
    assert verdict["chat_template_kwargs"] == words["chat_template_kwargs"] == {"enable_thinking": False}
    assert set(server.keys) == {f"Bearer {KEY}"}


def test_a_form_goes_as_the_field_that_there_is_for_it() -> None:
    schema = {"type": "object", "properties": {"name": {"const": "x"}}}
    grammar = 'root ::= "x"'
    with serving(OpenAIServer(lambda body, number: (200, completion("x")))) as server:
        fleet_of(server).complete([WORDS])
        fleet_of(server).complete([replace(WORDS, schema=schema)])
        fleet_of(server).complete([replace(WORDS, schema=grammar)])
    free, held, spelled = server.requests
    assert not {"response_format", "structured_outputs"} & set(free)
    assert held["response_format"]["json_schema"] == {"name": "answer", "strict": True, "schema": schema}
    assert spelled["structured_outputs"] == {"grammar": grammar}
    assert held["chat_template_kwargs"] == spelled["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_judge_may_think_where_that_is_asked() -> None:
    with serving(OpenAIServer(lambda body, number: (200, completion("fine")))) as server:
        RemoteFleet(server.url, "judge", None, 5, thinking=True).complete([WORDS])
    assert server.requests[0]["chat_template_kwargs"] == {"enable_thinking": True}


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_that_does_not_know_the_field_is_not_sent_it_again(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Three calls one after the other: with the field, without it, and two more without."""

    def strict(body: dict[str, Any], number: int) -> Reply:
        if "chat_template_kwargs" in body:
            return status, {"error": {"message": "unknown field chat_template_kwargs"}}
        return 200, completion("fine")

    with serving(OpenAIServer(strict)) as server:
        fleet = fleet_of(server)
        for _ in range(3):
            assert isinstance(fleet.complete([WORDS])[0], Turn)
    assert ["chat_template_kwargs" in body for body in server.requests] == [True, False, False, False]
    assert [record.getMessage().endswith("without from now on") for record in caplog.records] == [True]


def test_a_call_that_is_refused_by_itself_lasts_and_costs_the_others_nothing() -> None:
    """Too long with the field and without it: the field is not to blame and stays; once it was taken, nobody asks again."""

    def limited(body: dict[str, Any], number: int) -> Reply:
        if len(body["messages"][0]["content"]) > 20:
            return 400, {"error": {"message": "maximum context length is 20"}}
        return 200, completion("fine")

    long = Call("k", "judge", ({"role": "user", "content": "harm " * 9},), Sampling(16))
    with serving(OpenAIServer(limited)) as server:
        fleet = fleet_of(server)
        for call in (long, WORDS, long):
            answer = fleet.complete([call])[0]
            assert isinstance(answer, Turn) if call is WORDS else isinstance(answer, Fault) and answer.lasting
        assert fleet.take_statistics() == {"remote_faults": 2.0}
    assert ["chat_template_kwargs" in body for body in server.requests] == [True, False, True, True]


def test_a_key_that_a_server_repeats_is_not_told_on() -> None:
    refusal = 401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    with serving(OpenAIServer(lambda body, number: refusal)) as server:
        answer = fleet_of(server, api_key=KEY).complete([WORDS])[0]
        assert isinstance(answer, Fault)
        assert "Incorrect API key provided: ***" in answer.reason
        server.models = refusal
        with pytest.raises(RunError, match=r"key provided: \*\*\*") as raised:
            fleet_of(server, api_key=KEY)
    assert KEY not in "".join(traceback.format_exception(raised.value))


def test_a_generated_text_has_no_ids_that_could_be_trained() -> None:
    answer = answered((200, completion(" because harm is hidden ")), WORDS)
    assert answer == Turn("judge", (), (), (), "because harm is hidden", "stop", 0.5, 0, 7)


@pytest.mark.parametrize("call", [VERDICT, WORDS])
@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((500, {"error": {"message": "out of memory"}}), "out of memory"),
        ((404, {"error": {"message": "no such model"}}), "no such model"),
        ((200, "<html>welcome</html>"), "JSONDecodeError|not a chat completion"),
        ((200, {"detail": "hello"}), "not a chat completion"),
        ((200, completion("yes") | {"choices": []}), "not a chat completion"),
        ((200, completion("yes") | {"choices": "yes"}), "not a chat completion"),
        ((200, completion("yes") | {"choices": [{}]}), "not a chat completion"),
        ((200, [1, 2]), "not a chat completion"),
    ],
)
def test_what_cannot_be_had_is_a_fault_with_the_reason(call: Call, reply: Reply, reason: str) -> None:
    answer = answered(reply, call)
    assert isinstance(answer, Fault)
    assert answer.reason.startswith("http://127.0.0.1:")
    assert any(part in answer.reason for part in reason.split("|")), answer.reason


@pytest.mark.parametrize("logprobs", [None, {}])
def test_a_server_without_log_probabilities_is_a_fault(logprobs: dict[str, float] | None) -> None:
    answer = answered((200, completion("yes", logprobs)))
    assert isinstance(answer, Fault)
    assert "no log-probabilities" in answer.reason


def test_a_slow_server_is_a_fault_after_the_deadline() -> None:
    with serving(OpenAIServer(lambda body, number: (200, completion("yes")), delay_s=1.5)) as server:
        answer = fleet_of(server, deadline_s=0.3).complete([WORDS])[0]
    assert isinstance(answer, Fault)
    assert "APITimeoutError" in answer.reason
    assert not answer.lasting
    assert len(server.requests) == 1


def test_a_refusal_for_the_moment_is_tried_again_by_who_asks() -> None:
    """Once by the fleet, so that attempts do not multiply."""

    def recovering(body: dict[str, Any], number: int) -> Reply:
        return (503, {"error": {"message": "busy"}}) if number == 0 else (200, completion("fine"))

    with serving(OpenAIServer(recovering)) as server:
        fleet = fleet_of(server)
        assert fleet.retry_delay_s > 0
        fleet.retry_delay_s = 0.0
        (answer,), retried = insist([WORDS], {"judge": fleet}, {"judge": 2})
    assert isinstance(answer, Turn)
    assert retried == 1
    assert len(server.requests) == 2


def test_no_fault_of_a_server_becomes_a_reward() -> None:
    """Every kind of reply but an answer: the episode stays unscored."""
    rubric = Rubric((Criterion("a", "names the harm", 1),))
    turn = Turn("policy", (1,), (2,), (-0.1,), "text", "stop", 1.0, 0, 0)
    episode = Episode(Task("t", (), {"rubric": rubric.to_json()}), 1, 0, (turn,))
    reward = RubricReward(lambda prompt, response, criterion: QUESTION, "paper", False, 0.5)
    replies: list[Reply] = [(500, "x"), (200, "x"), (200, {}), (200, completion("yes"))]
    with serving(OpenAIServer(lambda body, number: replies[number])) as server:
        fleet = fleet_of(server)
        verdicts = [reward.verdict(episode, fleet.complete(reward.calls(episode))) for _ in replies]
    assert all(isinstance(verdict, Unscored) for verdict in verdicts)


def test_no_server_and_no_model_are_said_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(RunError, match=rf"judge.name={url}: no answer from {url}/models .*end in /v1"):
        RemoteFleet(url, None, None, 2)
    RemoteFleet(url, "named", None, 2)


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ((200, {"object": "list", "data": []}), r"lists no model.*judge\.served_name"),
        ((200, {"detail": "hello"}), r"lists no model.*judge\.served_name"),
        ((200, "welcome"), r"no answer from .*/models"),
        ((401, {"error": {"message": "bad key"}}), "bad key"),
    ],
)
def test_a_strange_list_of_models_is_a_run_error(models: Reply, message: str) -> None:
    with (
        serving(OpenAIServer(lambda body, number: (200, {}), models=models)) as server,
        pytest.raises(RunError, match=message),
    ):
        fleet_of(server)


SCALAR = Call("1/t/0/s", "content", (*QUESTION, {"role": "assistant", "content": "it is"}), scalar=True)


def test_a_reward_model_behind_a_url_is_asked_for_its_score() -> None:
    def scored(body: dict[str, Any], number: int) -> Reply:
        return 200, {"model": "content", "results": [{"score": 1.5, "value": -0.25}]}

    with serving(OpenAIServer(scored)) as server:
        assert fleet_of(server, api_key=KEY).complete([SCALAR]) == [Score(-0.25, 1.5)]
    assert server.requests == [{"model": "judge", "messages": [dict(QUESTION[0])], "response": "it is"}]
    assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    ("reply", "lasting"),
    [
        ((200, {"results": [{"score": 1.5}]}), False),
        ((200, {"results": []}), False),
        ((200, "<html>"), False),
        ((400, {"error": {"message": "too long"}}), True),
        ((503, {"error": {"message": "starting"}}), False),
    ],
)
def test_a_score_that_cannot_be_had_is_a_fault(reply: Reply, lasting: bool) -> None:
    answer = answered(reply, SCALAR)
    assert isinstance(answer, Fault)
    assert answer.lasting == lasting
