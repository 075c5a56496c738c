"""Who may ask a service, and how much at once: key, request size, tokens, choices. Imports no framework but Starlette.

A browser's page must not reach a service without a key through the user's own machine: bodies must be declared as JSON, which
pages of other origins may not send, and the Host must be this machine, which it is not for a name that was bound to it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import ConfigError
from orchestrator.fleets.serving.errors import Refused

KEY_VARIABLE = "ORCHESTRATOR_API_KEY"
SHORTEST_KEY = 16
HEALTH = "/health"
"""The one route that needs no key."""
TOKEN_FIELDS = ("max_tokens", "max_completion_tokens")
CHOICE_FIELDS = ("n", "best_of")
PROMPT_FIELDS = ("prompt", "prompt_embeds")
USUAL_COMPLETION_TOKENS = 16
"""Length of a completion that names none, by the OpenAI interface."""


@dataclass(frozen=True, slots=True)
class Access:
    """key_digest: SHA-256 of the key in hex; None: only this machine may ask. The limits are for one request.

    max_tokens: of each answer. max_choices: answers, over all prompts of the request.
    """

    key_digest: str | None
    max_request_bytes: int
    max_tokens: int
    max_choices: int

    @property
    def engine_arguments(self) -> Mapping[str, Any]:
        """What vLLM must be given beside: its own limit for answers whose length the request leaves open.

        It knows how long the prompt is and cuts the limit to the room that is left. A limit in the request itself it would refuse
        where prompt and limit together are longer than the context.
        """
        return {"generation_config": "vllm", "override_generation_config": {"max_new_tokens": self.max_tokens}}


def digest_of(key: str) -> str:
    """What is passed on in place of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_key(environment_name: str = KEY_VARIABLE, file: Path | None = None) -> str | None:
    """The key from a file, or else from the environment; None where neither is given. Raises ConfigError, which never shows the key."""
    if file is None:
        place, text = f"the environment variable {environment_name}", os.environ.get(environment_name, "")
        if not text:
            return None
    else:
        place, text = str(file), _read_private(file)
    key = text.strip()
    if len(key) < SHORTEST_KEY:
        raise ConfigError(
            f"{place}: the API key has {len(key)} characters and needs {SHORTEST_KEY} or more: `openssl rand -hex 32` makes one."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{place}: the API key must be letters, digits and signs of ASCII, without blanks.")
    return key


def _read_private(file: Path) -> str:
    """The text of a file that nobody but its owner may touch."""
    try:
        with file.expanduser().open(encoding="utf-8") as opened:
            mode = os.fstat(opened.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise ConfigError(
                    f"{file}: others than its owner may read or write the API key (mode {mode:o}): chmod 600 {file}"
                )
            return opened.read()
    except OSError as error:
        raise ConfigError(f"{file}: the API key cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: the API key must be text ({error.reason} at byte {error.start}).") from error


def check_exposure(host: str, key: str | None) -> None:
    """Refuse to answer others than this machine without a key. Raises ConfigError."""
    if key is None and not is_loopback(host):
        raise ConfigError(
            f"host {host}: others than this machine could ask, and there is no API key. Set {KEY_VARIABLE}=… (at least "
            f"{SHORTEST_KEY} characters; `openssl rand -hex 32` makes one) or name a file that holds it, or serve on 127.0.0.1."
        )


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address, is this machine as seen from itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class AccessMiddleware:
    """Lets requests through to an ASGI app that may ask and stay within the limits; answers the others itself.

    The app gets a body that was checked and no key. What it answers passes as it comes.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _route_of(scope) == HEALTH:
            await self._app(scope, receive, send)
            return
        try:
            headers = Headers(scope=scope)
            self._check_caller(headers)
            body = await self._body(receive)
            if scope["method"] == "POST":
                body = self._checked(_route_of(scope), headers, body)
        except Refused as refused:
            await refusal(refused)(scope, receive, send)
            return
        except ClientDisconnect:
            return
        await self._app(_scope_of(scope, body), _replayed(body, receive), send)

    def _check_caller(self, headers: Headers) -> None:
        """Raises Refused."""
        if self._access.key_digest is None:
            if not is_loopback(_name_of(headers.get("host", ""))):
                raise Refused(
                    403,
                    "This service has no API key and answers requests to 127.0.0.1 and localhost alone.",
                    code="wrong_host",
                )
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        # Of the bytes as they came: Starlette reads them as Latin-1.
        given = hashlib.sha256(key.strip().encode("latin-1")).hexdigest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, self._access.key_digest):
            said = "Incorrect API key." if key else "No API key: send it as the header 'Authorization: Bearer KEY'."
            raise Refused(401, said, code="invalid_api_key")

    async def _body(self, receive: Receive) -> bytes:
        """The whole body, of which never more is held than the limit, whatever its length is said to be.

        Raises Refused, or ClientDisconnect.
        """
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk, more = message.get("body", b""), message.get("more_body", False)
            size += len(chunk)
            if size > self._access.max_request_bytes:
                raise Refused(
                    413,
                    f"The request is larger than {self._access.max_request_bytes:,} bytes.",
                    code="request_too_large",
                )
            chunks.append(chunk)
        return b"".join(chunks)

    def _checked(self, route: str, headers: Headers, body: bytes) -> bytes:
        """The body as the app gets it, word for word what was checked. Raises Refused."""
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused(415, "Send the body as JSON, with the header 'Content-Type: application/json'.")
        try:
            values = json.loads(body)
            if not isinstance(values, dict):
                raise Refused(400, "The body must be a JSON object.", code="invalid_json")
            if route.endswith("/completions"):
                values = limited(values, self._access, chat=route.endswith("/chat/completions"))
            # NaN and halves of surrogate pairs, which Python reads and others cannot, end here.
            return json.dumps(values, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError) as error:
            raise Refused(400, f"The body is not JSON ({error}).", code="invalid_json") from error


def limited(values: Mapping[str, Any], access: Access, *, chat: bool) -> dict[str, Any]:
    """A request for completions that stays within the limits. Raises Refused (400) that names the field.

    A completion that names no length has 16 tokens, as with OpenAI; a chat's answer may then be as long as there is room, up to
    the limit, which the engine sees to (`Access.engine_arguments`).
    """
    for name in TOKEN_FIELDS:
        _check_count(name, values.get(name), access.max_tokens)
    for name in CHOICE_FIELDS:
        _check_count(name, values.get(name), access.max_choices)
    answers = max(values.get(name) or 1 for name in CHOICE_FIELDS)
    for name in PROMPT_FIELDS:
        prompts = _prompts(values.get(name))
        if prompts * answers > access.max_choices:
            raise Refused(
                400,
                f"{name}: {prompts} prompts with {answers} answers each are more than the {access.max_choices} answers that a "
                "request may ask for.",
                name,
                "limit_exceeded",
            )
    if chat or values.get("max_tokens") is not None:
        return dict(values)
    return {**values, "max_tokens": min(USUAL_COMPLETION_TOKENS, access.max_tokens)}


def _check_count(name: str, value: Any, most: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Refused(400, f"{name} must be a whole number of at least 1.", name, "invalid_value")
    if value > most:
        raise Refused(400, f"{name} is {value} and may be at most {most} here.", name, "limit_exceeded")


def _prompts(given: Any) -> int:
    """How many prompts: a list of whole numbers is one, of tokens."""
    if not isinstance(given, list) or all(isinstance(item, int) for item in given):
        return 1
    return len(given)


def refusal(refused: Refused) -> JSONResponse:
    """The HTTP answer."""
    return JSONResponse(refused.body, refused.status_code, refused.headers)


def _route_of(scope: Scope) -> str:
    """The path below the prefix that Serve mounts the app at."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _scope_of(scope: Scope, body: bytes) -> Scope:
    """The request's scope with the length of the body as it is passed on, and without the key."""
    changed = {**scope, "headers": list(scope["headers"])}
    headers = MutableHeaders(scope=changed)
    del headers["authorization"]
    del headers["transfer-encoding"]
    headers["content-length"] = str(len(body))
    return changed


def _replayed(body: bytes, receive: Receive) -> Receive:
    """A body that was read already, then whatever else comes (that the client left)."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay
