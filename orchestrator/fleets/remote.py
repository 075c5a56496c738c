"""A model, mostly a judge, behind an OpenAI-compatible URL: the same calls, answered over HTTP."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

from orchestrator.config.schema import RunConfig, ServedConfig
from orchestrator.errors import RunError
from orchestrator.values import Answer, Call, Choice, Fault, Score, Turn

log = logging.getLogger("orchestrator")

TOP_LOGPROBS = 20
"""Most that the OpenAI interface offers; yes and no are nearly always among them."""
REFUSALS = (400, 413, 422)
"""What a server answers to a call that it will never accept: too long, or with a field that it does not know."""


class RemoteFleet:
    """Chat completions of one served model. Log-probabilities are asked for where a call names choices, the score of a reward model
    where it wants a scalar.

    A call's schema goes as the `response_format` that OpenAI's interface has, a grammar as vLLM's own field. Each call is tried
    once; whoever asks tries again (`orchestrator.rollouts.judging`), after `retry_delay_s`.
    api_key: None where the server wants none. deadline_s: longest wait for one call. thinking: whether a chat template that
    knows it may open a thinking block; a server that refuses the field is not sent it again.
    """

    retry_delay_s: float = 1.0

    def __init__(
        self,
        url: str,
        model: str | None,
        api_key: str | None,
        deadline_s: float,
        thinking: bool = False,
        concurrency: int = 32,
        group: str = "judge",
    ) -> None:
        import openai

        self.url = url
        self._api_key = api_key
        self._client = openai.OpenAI(base_url=url, api_key=api_key or "none", timeout=deadline_s, max_retries=0)
        self._extra: dict[str, Any] | None = {"chat_template_kwargs": {"enable_thinking": thinking}}
        self._extra_taken = False
        self._concurrency = concurrency
        self._faults = 0
        self._model = model or self._first_model(group)

    @classmethod
    def of(cls, served: ServedConfig, api_key: str | None, group: str = "judge") -> RemoteFleet:
        """A model that a URL answers for. group: of its settings. Raises RunError where its URL does not answer."""
        return cls(served.name, served.served_name, api_key, served.call_deadline_s, served.model.thinking, group=group)

    def _first_model(self, group: str) -> str:
        import openai

        try:
            models = getattr(self._client.models.list(), "data", None)
        except (openai.OpenAIError, json.JSONDecodeError) as error:
            # Not chained: the error may hold the key.
            raise RunError(
                f"{group}.name={self.url}: no answer from {self.url}/models ({self._told(error)}). Is the server up, does the URL "
                "end in /v1?"
            ) from None
        if not isinstance(models, list) or not models:
            raise RunError(f"{group}.name={self.url}: the server lists no model. Name one with {group}.served_name=…")
        return models[0].id

    def begin_step(self, purpose: str) -> None:
        """Nothing to do: what a URL caches is its own business."""

    def complete(self, calls: Sequence[Call]) -> list[Answer]:
        """Answers in the order of the calls; what cannot be had is a Fault, a lasting one where the call itself is refused."""
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
            if call.scalar:
                return self._score(call)
            if call.choices:
                return self._choose(call)
            return self._generate(call)
        except (openai.OpenAIError, json.JSONDecodeError, UnreadableReplyError) as error:
            return Fault(f"{self.url}: {type(error).__name__}: {self._told(error)}", lasting=_refused(error))

    def _create(self, call: Call, body: Mapping[str, Any] = MappingProxyType({}), **arguments: Any) -> Any:
        import openai

        def create(extra: dict[str, Any] | None) -> Any:
            messages: Any = [dict(message) for message in call.messages]
            return self._client.chat.completions.create(
                model=self._model, messages=messages, extra_body={**(extra or {}), **body} or None, **arguments
            )

        extra = self._extra
        try:
            reply = create(extra)
            self._extra_taken = True
            return reply
        except openai.APIStatusError as error:
            if extra is None or self._extra_taken or not _refused(error):
                raise
        # Either the field or the call is refused: it is the field where the call is answered without it.
        reply = create(None)
        if self._extra is not None:
            self._extra = None
            log.warning("%s does not know chat_template_kwargs: it is asked without from now on", self.url)
        return reply

    def _told(self, error: Exception) -> str:
        """The error's words without the key, which a server may repeat."""
        return str(error).replace(self._api_key, "***") if self._api_key else str(error)

    def _choose(self, call: Call) -> Answer:
        reply = self._create(call, max_tokens=1, temperature=1.0, logprobs=True, top_logprobs=TOP_LOGPROBS)
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

    def _score(self, call: Call) -> Answer:
        """By the route that `orchestrate serve` gives a reward model; there is no common one."""
        *asked, answer = (dict(message) for message in call.messages)
        body = {"model": self._model, "messages": asked, "response": answer["content"]}
        reply: Any = self._client.post("/judge", body=body, cast_to=object)
        try:
            (result,) = reply["results"]
            return Score(float(result["value"]), float(result["score"]))
        except (TypeError, KeyError, ValueError):
            raise UnreadableReplyError(f"not a reward model's score: {str(reply)[:200]!r}") from None

    def _generate(self, call: Call) -> Answer:
        assert call.sampling is not None, f"call {call.key} asks for neither a completion nor choices"
        reply = self._create(
            call,
            max_tokens=call.sampling.max_tokens,
            temperature=call.sampling.temperature,
            stop=list(call.sampling.stop) or None,
            seed=call.seed,
            **_structured(call),
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


def remote_fleets(config: RunConfig, keys: Mapping[str, str | None]) -> dict[str, RemoteFleet]:
    """Of the roles that URLs answer for, with the keys of `keys_of`. Raises RunError where one does not answer."""
    raters = config.raters()
    return {
        name: RemoteFleet.of(raters[name], keys.get(name), name)
        for name, role in config.roles().items()
        if role.elsewhere
    }


def keys_of(config: RunConfig) -> dict[str, str | None]:
    """The keys of the roles that URLs answer for, from this process' environment; None where a variable is not set."""
    raters = config.raters()
    return {name: os.environ.get(raters[name].api_key_env) for name, role in config.roles().items() if role.elsewhere}


class UnreadableReplyError(Exception):
    """A reply with status 200 that is not what was asked for (a proxy's page, another interface)."""


def _structured(call: Call) -> dict[str, Any]:
    """What the completion must be, as arguments of the client."""
    if call.schema is None:
        return {}
    if isinstance(call.schema, str):
        return {"body": {"structured_outputs": {"grammar": call.schema}}}
    form = {"name": "answer", "strict": True, "schema": dict(call.schema)}
    return {"response_format": {"type": "json_schema", "json_schema": form}}


def _only_choice(reply: Any) -> Any:
    """The completion in a reply. The client does not check what a server sends."""
    from openai.types.chat.chat_completion import Choice as Completion

    choices = getattr(reply, "choices", None)
    completion = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(completion, Completion) or getattr(completion, "message", None) is None:
        raise UnreadableReplyError(f"not a chat completion: {str(reply)[:200]!r}")
    return completion


def _refused(error: Exception) -> bool:
    """Whether the server will never accept this call, as opposed to being unable for the moment."""
    return getattr(error, "status_code", None) in REFUSALS
