"""A judge behind an OpenAI-compatible URL: the same calls, answered over HTTP."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orchestrator.errors import RunError
from orchestrator.values import Answer, Call, Choice, Fault, Turn

TOP_LOGPROBS = 20
"""Most that the OpenAI interface offers; yes and no are nearly always among them."""


class RemoteFleet:
    """Chat completions of one served model. Log-probabilities are asked for where a call names choices.

    deadline_s: of one attempt. max_retries: further attempts at what a server refuses for the moment (429, 5xx, timeouts).
    """

    def __init__(
        self,
        url: str,
        model: str | None,
        api_key_env: str,
        deadline_s: float,
        concurrency: int = 32,
        max_retries: int = 2,
    ) -> None:
        import openai

        self.url = url
        key = os.environ.get(api_key_env) or "none"
        self._client = openai.OpenAI(base_url=url, api_key=key, timeout=deadline_s, max_retries=max_retries)
        self._concurrency = concurrency
        self._faults = 0
        self._model = model or self._first_model()

    def _first_model(self) -> str:
        import openai

        try:
            models = getattr(self._client.models.list(), "data", None)
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            raise RunError(
                f"judge.name={self.url}: no answer from {self.url}/models ({error}). Is the server up, does the URL end in /v1?"
            ) from error
        if not isinstance(models, list) or not models:
            raise RunError(f"judge.name={self.url}: the server lists no model. Name one with judge.served_name=…")
        return models[0].id

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in the order of the calls; what cannot be had is a Fault."""
        with ThreadPoolExecutor(self._concurrency) as pool:
            answers = list(pool.map(self._answer, calls))
        self._faults += sum(isinstance(answer, Fault) for answer in answers)
        return answers

    def take_statistics(self) -> dict[str, float]:
        taken, self._faults = self._faults, 0
        return {"remote_faults": float(taken)}

    def _answer(self, call: Call) -> Answer:
        import openai

        try:
            if call.choices:
                return self._choose(call)
            return self._generate(call)
        except (openai.OpenAIError, json.JSONDecodeError, UnreadableReplyError) as error:
            return Fault(f"{self.url}: {type(error).__name__}: {error}")

    def _choose(self, call: Call) -> Answer:
        reply = self._client.chat.completions.create(
            model=self._model,
            messages=_messages(call),
            max_tokens=1,
            temperature=1.0,
            logprobs=True,
            top_logprobs=TOP_LOGPROBS,
        )
        # A server that knows no log-probabilities may leave the field out.
        logprobs = getattr(_only_choice(reply), "logprobs", None)
        if logprobs is None or not logprobs.content or not logprobs.content[0].top_logprobs:
            return Fault(f"{self.url}: the server returned no log-probabilities; a judge by URL must support logprobs")
        masses = dict.fromkeys(call.choices, 0.0)
        for candidate in logprobs.content[0].top_logprobs:
            word = candidate.token.strip().lower()
            if word in masses:
                masses[word] += math.exp(candidate.logprob)
        return Choice(masses)

    def _generate(self, call: Call) -> Answer:
        assert call.sampling is not None, f"call {call.key} asks for neither a completion nor choices"
        reply = self._client.chat.completions.create(
            model=self._model,
            messages=_messages(call),
            max_tokens=call.sampling.max_tokens,
            temperature=call.sampling.temperature,
            stop=list(call.sampling.stop) or None,
            seed=call.seed,
        )
        choice = _only_choice(reply)
        text = choice.message.content or ""
        # Ids and log-probabilities stay empty: a remote model is never trained.
        return Turn(
            call.role,
            (),
            (),
            (),
            text.strip(),
            choice.finish_reason or "unknown",
            call.sampling.temperature,
            0,
            call.seed,
        )


class UnreadableReplyError(Exception):
    """A reply with status 200 that is not a chat completion (a proxy's page, another interface)."""


def _only_choice(reply: Any) -> Any:
    """The completion in a reply. The client does not check what a server sends."""
    from openai.types.chat.chat_completion import Choice as Completion

    choices = getattr(reply, "choices", None)
    completion = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(completion, Completion) or getattr(completion, "message", None) is None:
        raise UnreadableReplyError(f"not a chat completion: {str(reply)[:200]!r}")
    return completion


def _messages(call: Call) -> Any:
    return [dict(message) for message in call.messages]
