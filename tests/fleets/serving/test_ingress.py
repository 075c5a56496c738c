"""The served app on a real local Serve, over HTTP, with a model that speaks by itself in place of an engine."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from orchestrator.fleets.serving.access import Access, digest_of
from orchestrator.fleets.serving.errors import Refused
from orchestrator.fleets.serving.judge import Judging
from orchestrator.rollouts.rubric_files import plain_question
from orchestrator.rollouts.rubrics import RubricReward
from orchestrator.values import Answer, Call, Choice

pytestmark = pytest.mark.serving

KEY = "correct-horse-battery"
KINDS_TRIED = ("judge", "reward_model")
"""The first has the routes of a chat model too."""
PIECES, PAUSE_S = 4, 0.3
ACCESS = Access(digest_of(KEY), max_request_bytes=10_000, max_tokens=64, max_choices=2)


class Sure:
    """A judge to whom every criterion is met with 0.8 of 0.9."""

    retry_delay_s = 0.0

    def begin_step(self, purpose: str) -> None: ...

    def complete(self, calls: list[Call]) -> list[Answer]:
        return [Choice({"yes": 0.72, "no": 0.18})] * len(calls)


class Model:
    """What the ingress asks of `LLMServer`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    async def parity(self) -> str:
        return "as trained"

    async def cards(self) -> list[tuple[str, dict[str, str]]]:
        return [(name, {"run": f"of {name}"}) for name in self._names]

    async def chat(self, body: Any, raw: Any = None) -> Any:
        from ray.llm._internal.serve.core.configs.openai_api_models import ErrorInfo, ErrorResponse
        from vllm.exceptions import VLLMValidationError

        said = body.messages[-1]["content"]
        if said == "too long":
            yield ErrorResponse(
                error=ErrorInfo(message="maximum context length is 64", type="BadRequestError", code=400)
            )
        elif said == "invalid":
            raise VLLMValidationError("no such thing", parameter="x")
        elif said == "broken":
            raise RuntimeError(f"secret of {sorted(raw.headers)}")
        elif said == "headers":
            yield f"data: {json.dumps(sorted(raw.headers))}\n\n"
        else:
            import asyncio

            for number in range(PIECES):
                yield f'data: {{"piece": {number}, "model": "{body.model}", "max_tokens": {json.dumps(body.max_tokens)}}}\n\n'
                await asyncio.sleep(PAUSE_S)

    async def completions(self, body: Any, raw: Any = None) -> Any:
        yield f'data: {{"max_tokens": {body.max_tokens}}}\n\n'

    async def judge(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["prompt"] == "dies":
            import os

            os._exit(1)
        if body["prompt"] == "busy":
            raise Refused(503, "no room", code="unavailable")
        return Judging(RubricReward(plain_question, "paper", False, 0.5), 0, Sure()).judge(body)


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """By kind of model: the URL of a service of that kind. One Serve, an app a kind."""
    import ray
    from ray import serve
    from ray.serve.llm.openai_api_models import ChatCompletionRequest  # noqa: F401  (vLLM, once, before anything waits)

    from orchestrator.fleets.serving.ingress import card_of, ingress_of

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Replicas find this module by no name of their own.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    # Two CPUs would leave Serve waiting for a third.
    ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    small = {"num_cpus": 0.1}
    for kind in KINDS_TRIED:
        names = ("base", "base:calm") if kind == "judge" else ("base",)
        cards = {name: card_of(name, {}) for name in names}
        model = serve.deployment(Model, ray_actor_options=small).options(name=f"model-{kind}").bind(names)
        ingress = serve.deployment(ingress_of(ACCESS, "mine", kind), ray_actor_options=small)
        adapters = dict.fromkeys(names[1:], "somewhere")
        serve.run(
            ingress.options(name=f"ingress-{kind}").bind({"base": model}, cards, adapters=adapters),
            name=kind,
            route_prefix=f"/{kind}",
        )
    yield {kind: f"http://127.0.0.1:{port}/{kind}" for kind in KINDS_TRIED}
    serve.shutdown()
    ray.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def client(url: str, **options: Any) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=60, **options)


def chat(said: str, **fields: Any) -> dict[str, Any]:
    return {"model": "base", "messages": [{"role": "user", "content": said}], "stream": True, **fields}


def error_of(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert list(reply.json()) == ["error"]
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    return reply.json()["error"]


def test_health_and_models_with_their_provenance(urls: dict[str, str]) -> None:
    assert httpx.get(f"{urls['judge']}/health").json() == {"status": "ok", "service": "mine"}
    assert error_of(httpx.get(f"{urls['judge']}/v1/models"), 401)["code"] == "invalid_api_key"
    with client(urls["judge"]) as asked:
        cards = asked.get("/v1/models").json()["data"]
        assert [(card["id"], card["metadata"]["run"]) for card in cards] == [
            ("base", "of base"),
            ("base:calm", "of base:calm"),
        ]
        assert asked.get("/v1/models/base:calm").json() == cards[1]
        assert error_of(asked.get("/v1/models/base:wild"), 404)["code"] == "model_not_found"


def test_a_stream_arrives_piece_by_piece(urls: dict[str, str]) -> None:
    """Four pieces 0.3 s apart: the first is there long before the last. An adapter's id reaches the replica."""
    times = []
    with client(urls["judge"]) as asked:
        for model in ("base", "base:calm"):
            with asked.stream("POST", "/v1/chat/completions", json=chat("hello", model=model)) as reply:
                lines = [(time.monotonic(), line) for line in reply.iter_lines() if line.startswith("data: {")]
            times.append(lines[-1][0] - lines[0][0])
            assert [json.loads(line[6:]) for _, line in lines] == [
                {"piece": number, "model": model, "max_tokens": None} for number in range(PIECES)
            ]
    assert min(times) > (PIECES - 1) * PAUSE_S * 0.6


def test_limits_and_what_reaches_the_replica(urls: dict[str, str]) -> None:
    with client(urls["judge"]) as asked:
        assert '{"max_tokens": 16}' in asked.post("/v1/completions", json={"model": "base", "prompt": "x"}).text
        many = asked.post("/v1/completions", json={"model": "base", "prompt": "x", "max_tokens": 65})
        assert error_of(many, 400)["param"] == "max_tokens"
        large = asked.post("/v1/chat/completions", json=chat("x" * 10_000))
        assert error_of(large, 413)["code"] == "request_too_large"
        seen = asked.post("/v1/chat/completions", json=chat("headers")).text
        assert "content-type" in seen
        assert "authorization" not in seen


@pytest.mark.parametrize(
    ("body", "status", "param", "says"),
    [
        (chat("x", model="other"), 404, "model", "There is no model 'other' here. The models are base, base:calm."),
        (chat("x", model="base:wild"), 404, "model", "base:wild"),
        ({"model": "base"}, 400, "messages", "Field required"),
        (chat("x", temperature="hot"), 400, "temperature", "number"),
        (chat("too long"), 400, None, "maximum context length is 64"),
        (chat("invalid"), 400, None, "no such thing"),
        (chat("broken"), 500, None, "its log says why"),
    ],
)
def test_whatever_goes_wrong_has_one_form(
    urls: dict[str, str], body: dict[str, Any], status: int, param: str | None, says: str
) -> None:
    with client(urls["judge"]) as asked:
        error = error_of(asked.post("/v1/chat/completions", json=body), status)
    assert error["param"] == param
    assert says in error["message"]
    assert "secret" not in error["message"]


def test_a_kind_answers_its_own_routes_and_says_which(urls: dict[str, str]) -> None:
    for kind, path in (("reward_model", "/v1/chat/completions"), ("judge", "/v1/embeddings")):
        with client(urls[kind]) as asked:
            error = error_of(asked.post(path, json={}), 404)
            assert f"This service ({kind}) answers GET /health, GET /v1/models" in error["message"]
            assert error_of(asked.get("/docs"), 404)["code"] == "unknown_route"
    with client(urls["judge"]) as asked:
        assert "GET" in error_of(asked.get("/v1/judge"), 405)["message"]


def test_a_judge_judges_over_http_and_its_refusals_keep_their_status(urls: dict[str, str]) -> None:
    """One criterion with P(yes) 0.8 is met: a score of 1."""
    body = {"prompt": "May I?", "response": "Yes.", "rubric": [{"id": "a", "text": "It answers.", "weight": 2}]}
    with client(urls["judge"]) as asked:
        reply = asked.post("/v1/judge", json=body).json()
        assert reply["model"] == "base"
        (result,) = reply["results"]
        assert (result["score"], result["verdicts"][0]["met"]) == (1.0, True)
        assert result["verdicts"][0]["p_yes"] == pytest.approx(0.8)
        broken = error_of(asked.post("/v1/judge", json={**body, "rubric": [{"id": "a", "text": "x"}]}), 400)
        assert broken["message"].startswith("rubric[0]: field 'weight' is missing")
        assert broken["param"] == "rubric"
        assert error_of(asked.post("/v1/judge", json={**body, "model": "other"}), 404)["code"] == "model_not_found"
        for model in (3, "base:calm"):
            assert error_of(asked.post("/v1/judge", json={**body, "model": model}), 400)["param"] == "model"
        assert error_of(asked.post("/v1/judge", json={**body, "prompt": "busy"}), 503)["message"] == "no room"


def test_a_replica_that_dies_is_a_503_and_another_comes(urls: dict[str, str]) -> None:
    body = {"prompt": "dies", "response": "x", "rubric": []}
    with client(urls["reward_model"]) as asked:
        assert error_of(asked.post("/v1/judge", json=body), 503)["code"] == "unavailable"
        good = {**body, "prompt": "fine", "rubric": [{"id": "a", "text": "x", "weight": 1}]}
        assert asked.post("/v1/judge", json=good).json()["results"][0]["score"] == 1.0
