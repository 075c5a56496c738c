"""What a service refuses or fails at, in the form that OpenAI's clients read. Imports no framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refused(Exception):
    """A request that is not answered. status_code: of HTTP. param: the field at fault. code: a word for programs.

    Travels between processes whole: the replica of a model raises it, the ingress answers with it.
    """

    def __init__(self, status_code: int, message: str, param: str | None = None, code: str | None = None) -> None:
        # All of them: pickle makes the exception again from its arguments.
        super().__init__(status_code, message, param, code)
        self.status_code, self.message, self.param, self.code = status_code, message, param, code

    def __str__(self) -> str:
        return self.message

    @property
    def body(self) -> Mapping[str, Any]:
        """{"error": {"message", "type", "param", "code"}}."""
        kind = "invalid_request_error" if self.status_code < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> Mapping[str, str]:
        """What HTTP wants beside the body."""
        return {"WWW-Authenticate": "Bearer"} if self.status_code == 401 else {}
