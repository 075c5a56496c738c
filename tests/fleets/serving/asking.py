"""An ASGI app asked directly, message by message: what clients in libraries hide (chunks, lying lengths) is said here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

KEY = "correct-horse-battery"


@dataclass
class Reply:
    """What came back. taken: chunks of the body that were asked for."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    taken: int = 0

    @property
    def json(self) -> Any:
        return json.loads(b"".join(self.chunks))

    @property
    def error(self) -> dict[str, Any]:
        """The error, which must have the OpenAI form."""
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return self.json["error"]


def post(app: Any, path: str, body: Any, headers: dict[str, str] | None = None) -> Reply:
    """POST: bytes, or chunks of them, as they stand; anything else as JSON. headers: added to those of a plain client with its key."""
    raw = isinstance(body, bytes) or (isinstance(body, list) and all(isinstance(item, bytes) for item in body))
    content = body if raw else json.dumps(body).encode()
    chunks = content if isinstance(content, list) else [content]
    return ask(app, "POST", path, chunks, {"content-type": "application/json", **(headers or {})})


def ask(
    app: Any,
    method: str,
    path: str,
    chunks: Sequence[bytes] = (b"",),
    headers: dict[str, str] | None = None,
    root: str = "",
) -> Reply:
    """One request and its whole answer. root: the prefix that the app is mounted at."""
    reply = Reply()
    given = {"host": "127.0.0.1:8000", "authorization": f"Bearer {KEY}", **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": root,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
    }

    async def receive() -> dict[str, Any]:
        if reply.taken >= len(chunks):
            return {"type": "http.disconnect"}
        reply.taken += 1
        return {"type": "http.request", "body": chunks[reply.taken - 1], "more_body": reply.taken < len(chunks)}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        elif message.get("body"):
            reply.chunks.append(message["body"])

    asyncio.run(app(scope, receive, send))
    return reply
