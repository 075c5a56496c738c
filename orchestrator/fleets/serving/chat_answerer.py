"""A judge's questions through the chat interface of the engine that serves it, from a thread beside its event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from orchestrator.fleets.choices import ChoiceTokens
from orchestrator.fleets.remote import REFUSALS
from orchestrator.fleets.serving.errors import Refused
from orchestrator.values import Answer, Call, Choice, Fault

TOKEN = "token_id:"
"""What vLLM writes before a token's number where ids were asked for."""
NO_STATUS = 500

Ask = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""A chat completion, or {"error": {"message", "code"}} with the HTTP status as code, as plain data."""


class ChatAnswerer:
    """Answers calls that name choices. An `orchestrator.fleets.fleet.Answerer`.

    loop: runs in another thread than whoever calls `complete`. tokenizer: of the model. thinking: whether a chat template that
    knows it may open a thinking block. deadline_s: longest wait for one call.
    """

    retry_delay_s: float = 0.0

    def __init__(
        self,
        ask: Ask,
        loop: asyncio.AbstractEventLoop,
        model: str,
        tokenizer: Any,
        thinking: bool,
        deadline_s: float,
    ) -> None:
        self._ask, self._loop, self._model = ask, loop, model
        self._tokens = ChoiceTokens(tokenizer, model)
        self._thinking, self._deadline_s = thinking, deadline_s
        self._faults = 0

    def begin_step(self, purpose: str) -> None:
        """Nothing to do: what the engine caches is its own business."""

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in the order of the calls, all asked at once; what cannot be had is a Fault, a lasting one where it is refused."""
        bodies = [self._body(call) for call in calls]
        answers = asyncio.run_coroutine_threadsafe(self._answers(calls, bodies), self._loop).result()
        self._faults += sum(isinstance(answer, Fault) for answer in answers)
        return answers

    def take_statistics(self) -> dict[str, float]:
        taken, self._faults = self._faults, 0
        return {"served_faults": float(taken)}

    def _body(self, call: Call) -> dict[str, Any]:
        if not call.choices:
            raise ValueError(f"call {call.key} names no choices: a served judge answers with nothing else")
        return {
            "model": self._model,
            "messages": [dict(message) for message in call.messages],
            "max_tokens": 1,
            "temperature": 1,
            "logprobs": True,
            "logprob_token_ids": self._tokens.wanted(call.choices),
            "return_tokens_as_token_ids": True,
            "chat_template_kwargs": {"enable_thinking": self._thinking},
        }

    async def _answers(self, calls: Sequence[Call], bodies: Sequence[dict[str, Any]]) -> list[Answer]:
        asked = (self._choice(call, body) for call, body in zip(calls, bodies, strict=True))
        return [self._answer(found) for found in await asyncio.gather(*asked, return_exceptions=True)]

    def _answer(self, found: Choice | BaseException) -> Answer:
        if isinstance(found, Choice):
            return found
        if not isinstance(found, Exception):
            raise found
        if isinstance(found, TimeoutError):
            return Fault(f"{self._model} did not answer within {self._deadline_s:g} s")
        return Fault(
            f"{self._model}: {type(found).__name__}: {found}",
            lasting=getattr(found, "status_code", NO_STATUS) in REFUSALS,
        )

    async def _choice(self, call: Call, body: dict[str, Any]) -> Choice:
        reply = await asyncio.wait_for(self._ask(body), self._deadline_s)
        if "error" in reply:
            raise Refused(reply["error"].get("code") or NO_STATUS, reply["error"]["message"])
        first = reply["choices"][0]["logprobs"]["content"][0]
        logprobs = {
            int(candidate["token"].removeprefix(TOKEN)): candidate["logprob"] for candidate in first["top_logprobs"]
        }
        return self._tokens.choice(call.choices, logprobs.__getitem__)
