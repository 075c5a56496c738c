"""An HTTP server that speaks as much of the OpenAI interface as a judge needs, and misbehaves on order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, Any]
"""(status, body); a text is sent as it stands, anything else as JSON."""


def completion(text: str, logprobs: dict[str, float] | None = None) -> dict[str, Any]:
    """A chat completion. logprobs: token -> log-probability of the first position."""
    top = [{"token": token, "logprob": value, "bytes": None} for token, value in (logprobs or {}).items()]
    first = {"token": text, "logprob": 0.0, "bytes": None, "top_logprobs": top}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        **({"logprobs": {"content": [first]}} if logprobs is not None else {}),
    }
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "judge", "choices": [choice]}


@dataclass
class OpenAIServer:
    """answer: from the request's body and its number (from 0) to a reply. delay_s: before each completion."""

    answer: Callable[[dict[str, Any], int], Reply]
    models: Reply = (
        200,
        {"object": "list", "data": [{"id": "judge", "object": "model", "created": 0, "owned_by": "x"}]},
    )
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(server: OpenAIServer) -> Iterator[OpenAIServer]:
    """Serve on a free port of this machine until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(server.models if self.path == "/v1/models" else (404, {"error": {"message": self.path}}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.requests)
                server.requests.append(body)
                server.keys.append(self.headers["Authorization"])
            time.sleep(server.delay_s)
            self._send(server.answer(body, number))

        def _send(self, reply: Reply) -> None:
            status, body = reply
            content = (body if isinstance(body, str) else json.dumps(body)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            # A client that gave up waiting is gone.
            with suppress(BrokenPipeError):
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # The default of 5 refuses connections when a whole batch calls at once.
        request_queue_size = 64

    http = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
