"""The HTTP side of a served model: its routes by what kind of model it is, and every error in one form.

Importing this module imports vLLM, which takes a while.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard, ModelList, OpenAIHTTPException
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from vllm.exceptions import VLLMClientError

from orchestrator.fleets.serving.access import HEALTH, Access, AccessMiddleware, refusal
from orchestrator.fleets.serving.errors import Refused
from orchestrator.fleets.serving.release import CHAT, REWARD_MODEL
from orchestrator.values import JUDGE

log = logging.getLogger("orchestrator")

ROUTES: Mapping[str, tuple[str, str]] = {
    "health": ("GET", HEALTH),
    "models": ("GET", "/v1/models"),
    "model_data": ("GET", "/v1/models/{model:path}"),
    "chat": ("POST", "/v1/chat/completions"),
    "completions": ("POST", "/v1/completions"),
    "judge": ("POST", "/v1/judge"),
}
"""Method of `Ingress` -> HTTP's method and path."""
HEALTH_S = 10.0
"""How long a replica may take to answer `/health`."""
COMMON = ("health", "models", "model_data")
ANSWERED: Mapping[str, tuple[str, ...]] = {
    CHAT: (*COMMON, "chat", "completions"),
    JUDGE: (*COMMON, "chat", "completions", "judge"),
    REWARD_MODEL: (*COMMON, "judge"),
}
"""Kind of model (`release.KINDS`) -> its routes."""
GONE = (RayActorError, BackPressureError, DeploymentUnavailableError)
"""What passes: a replica that died or has no room."""


class Ingress(OpenAiIngress):
    """Requests -> the replicas of the model that they name.

    llm_deployments: base model's id -> handle. adapters: id of a LoRA adapter, `BASE:NAME` as Serve routes it -> its folder.
    model_cards: of every base model and every adapter. Raises ValueError where these do not fit together.
    """

    service: ClassVar[str] = ""

    def __init__(
        self,
        llm_deployments: Mapping[str, DeploymentHandle],
        model_cards: Mapping[str, ModelCard],
        adapters: Mapping[str, str] | None = None,
    ) -> None:
        names = set(adapters or ())
        stray = [name for name in names if ":" not in name or name.partition(":")[0] not in llm_deployments]
        coloned = [name for name in llm_deployments if ":" in name]
        if stray or coloned or set(model_cards) != set(llm_deployments) | names:
            raise ValueError(
                "a base model's id has no colon, an adapter's is BASE:NAME, and each has a card: got the deployments "
                f"{sorted(llm_deployments)}, the adapters {sorted(names)} and cards of {sorted(model_cards)}"
            )
        super().__init__(dict(llm_deployments), {name: model_cards[name] for name in llm_deployments})
        self._cards = dict(model_cards)

    async def health(self) -> dict[str, Any]:
        """That a replica of each model answers. It needs no key, and so says no more. Raises Refused (503)."""
        for name, handle in self._default_serve_handles.items():
            try:
                await asyncio.wait_for(handle.parity.remote(), HEALTH_S)
            except (TimeoutError, RayError, RayServeException) as error:
                raise Refused(503, f"No replica of {name} answers.", code="unavailable") from error
        return {"status": "ok", "service": self.service}

    async def models(self) -> ModelList:
        """Every id that a request may name, and where it is from. By a replica's own word: while a release rolls in, or is refused,
        an ingress may be newer than what answers."""
        told = [card for handle in self._default_serve_handles.values() for card in await handle.cards.remote()]
        return ModelList(data=[card_of(name, metadata) for name, metadata in told])

    async def model(self, model_id: str) -> ModelCard:
        """Raises Refused (404)."""
        if model_id not in self._cards:
            raise Refused(
                404,
                f"There is no model {model_id!r} here. The models are {', '.join(self._cards)}.",
                "model",
                "model_not_found",
            )
        return self._cards[model_id]

    async def model_data(self, model: str) -> ModelCard:
        """The card of one id. Raises Refused (404)."""
        known = await self.model(model)
        return next((card for card in (await self.models()).data if card.id == known.id), known)

    async def judge(self, body: dict[str, Any]) -> JSONResponse:
        """`orchestrator.fleets.serving.judge`. Raises Refused."""
        named = body.get("model")
        if named is not None and not isinstance(named, str):
            raise Refused(400, "model must be a text.", "model", "invalid_value")
        name = await self._get_model_id(named)
        handle = self._default_serve_handles.get(name)
        if handle is None:
            raise Refused(
                400,
                f"{name} is an adapter; responses are judged by {', '.join(self._default_serve_handles)}.",
                "model",
                "invalid_value",
            )
        return JSONResponse(await handle.judge.remote({**body, "model": name}))

    async def _get_model_id(self, model: str | None) -> str:
        """The id that a request means, which may leave it out where there is one base model. Raises Refused."""
        if model is None:
            if len(self._default_serve_handles) > 1:
                raise Refused(400, f"Name a model: one of {', '.join(self._cards)}.", "model", "invalid_value")
            return next(iter(self._default_serve_handles))
        return (await self.model(model)).id


def card_of(name: str, metadata: Mapping[str, Any]) -> ModelCard:
    """A model as `/v1/models` tells of it."""
    return ModelCard(id=name, object="model", owned_by="orchestrator", permission=[], metadata=dict(metadata))


def ingress_of(access: Access, service: str, kind: str) -> type:
    """The class to deploy. service: its name. kind: of the model that it serves (see `ANSWERED`).

    Deployed with the arguments of `Ingress`. Raises KeyError for another kind.
    """
    methods = ANSWERED[kind]
    # Not Ray's own app: it lets every web page that its user looks at ask the service (CORS for all origins).
    app = FastAPI(title=service, openapi_url=None)
    for error, handler in _handlers(kind).items():
        app.add_exception_handler(error, handler)
    app.add_middleware(AccessMiddleware, access=access)
    described = type(Ingress.__name__, (Ingress,), {"service": service, "__doc__": Ingress.__doc__})
    return make_fastapi_ingress(described, endpoint_map={name: _route(name) for name in methods}, app=app)


def _route(name: str) -> Callable[[FastAPI], Callable[..., Any]]:
    method, path = ROUTES[name]
    return lambda app: app.api_route(path, methods=[method])


def _handlers(kind: str) -> dict[type[Exception], Callable[[Request, Any], JSONResponse]]:
    """Everything that can go wrong -> its answer."""
    served = ", ".join(" ".join(ROUTES[name]) for name in ANSWERED[kind])

    def unknown(request: Request, error: HTTPException) -> JSONResponse:
        """What the router finds no route for."""
        asked = f"{request.method} {request.url.path}"
        message = f"{asked}: {error.detail}. This service ({kind}) answers {served}."
        return refusal(Refused(error.status_code, message, code="unknown_route"))

    return {
        Refused: lambda request, error: refusal(error),
        RequestValidationError: lambda request, error: refusal(_invalid(error)),
        HTTPException: unknown,
        OpenAIHTTPException: lambda request, error: refusal(Refused(error.status_code, error.message)),
        VLLMClientError: lambda request, error: refusal(_refused(error)),
        RayError: lambda request, error: refusal(_refused(error)),
        RayServeException: lambda request, error: refusal(_refused(error)),
        Exception: lambda request, error: refusal(_refused(error)),
    }


def _invalid(error: RequestValidationError) -> Refused:
    """The first of the fields that will not do, by its place in the body."""
    first = error.errors()[0]
    param = ".".join(str(part) for part in first["loc"][1:])
    return Refused(400, f"{param}: {first['msg']}." if param else f"{first['msg']}.", param or None, "invalid_value")


def _refused(error: Exception) -> Refused:
    """What a model's replica raised, or what was raised in place of its answer; faults of our own tell the log alone."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, Refused):
        return cause
    if isinstance(cause, VLLMClientError):
        return Refused(400, str(cause), code="invalid_value")
    if isinstance(cause, OpenAIHTTPException):
        return Refused(cause.status_code, cause.message)
    if isinstance(cause, HTTPException):
        return Refused(cause.status_code, str(cause.detail))
    if isinstance(cause, GONE):
        return Refused(503, "The model has no replica that can answer now: try again in a moment.", code="unavailable")
    log.error("a request failed", exc_info=error)
    return Refused(500, "The service failed at this request; its log says why.", code="internal_error")
