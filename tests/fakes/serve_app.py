"""An application in the place of `orchestrator.fleets.serving.app`: real Serve, routes and rolling updates, and no engine behind them.

A release whose reference ends in "broken" fails as a replica does that is not the model that was trained; one that ends in "slow"
takes its time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from ray import serve

from orchestrator.fleets.serving.parity import ParityError
from orchestrator.fleets.serving.release import Release

PIECES, PIECE_S = 20, 0.1
"""A stream takes two seconds: longer than a replica's end, so that a rollout meets many."""


class Model:
    def __init__(self, reference: str) -> None:
        self.reference = reference
        if reference.endswith("broken"):
            raise ParityError("case 1: the log-probability of token 7 is -2.5, the trainer's -1.5, bound 0.0001")

    def parity(self) -> str:
        return f"parity of {self.reference}"

    async def stream(self) -> AsyncIterator[str]:
        for number in range(PIECES):
            await asyncio.sleep(PIECE_S)
            yield f"{number} {self.reference}\n"


def app_of(release: Release, access: Any) -> serve.Application:
    rollout = {"max_surge_percent": 100, "graceful_shutdown_timeout_s": 60.0, "max_constructor_retry_count": 1}
    model = serve.deployment(
        Model, name=f"model-{release.model}", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100, **rollout
    ).bind(release.reference)
    ingress = serve.deployment(
        _ingress(), name="ingress", ray_actor_options={"num_cpus": 0}, max_ongoing_requests=100, **rollout
    )
    return ingress.bind(model)


def _ingress() -> Any:
    app = FastAPI()

    @serve.ingress(app)
    class Ingress:
        def __init__(self, model: Any) -> None:
            self._model = model.options(stream=True)

        @app.get("/stream")
        async def stream(self) -> StreamingResponse:
            return StreamingResponse(self._model.stream.remote(), media_type="text/plain")

    return Ingress
