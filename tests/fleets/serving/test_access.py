"""Who may ask a service, and how much at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from asking import KEY, ask, post

from orchestrator.errors import ConfigError
from orchestrator.fleets.serving.access import Access, AccessMiddleware, check_exposure, digest_of, read_key

CHAT, COMPLETIONS, JUDGE = "/v1/chat/completions", "/v1/completions", "/v1/judge"
LIMITS = Access(digest_of(KEY), max_request_bytes=200, max_tokens=64, max_choices=4)


class Echo:
    """Answers with the body that it was given, and remembers what reached it."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[bytes, bytes]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        self.bodies.append(body)
        self.headers.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def app(echo: Echo) -> AccessMiddleware:
    return AccessMiddleware(echo, LIMITS)


def test_a_request_with_its_key_passes_and_the_key_does_not(app: AccessMiddleware, echo: Echo) -> None:
    reply = post(app, JUDGE, {"prompt": "é"})
    assert (reply.status, reply.json) == (200, {"prompt": "é"})
    assert b"authorization" not in echo.headers[0]
    assert int(echo.headers[0][b"content-length"]) == len(echo.bodies[0])


@pytest.mark.parametrize(
    "authorization", ["", "Bearer ", "Bearer wrong-horse-battery", f"Basic {KEY}", KEY, f"Bearer {KEY}x", "Bearer ü"]
)
def test_a_missing_or_wrong_key_is_refused_before_the_body_is_read(
    app: AccessMiddleware, echo: Echo, authorization: str
) -> None:
    reply = post(app, CHAT, {}, {"authorization": authorization})
    assert (reply.status, reply.error["code"]) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.taken == 0
    assert KEY not in str(reply.json)
    assert echo.bodies == []


def test_the_scheme_may_be_written_in_any_case(app: AccessMiddleware) -> None:
    assert ask(app, "GET", "/v1/models", headers={"authorization": f"bearer {KEY}"}).status == 200


def test_health_alone_needs_no_key(app: AccessMiddleware) -> None:
    assert ask(app, "GET", "/health", headers={"authorization": ""}).status == 200
    for path in ("/v1/models", "/health/", "/HEALTH", "//health", "/v1/../health"):
        assert ask(app, "GET", path, headers={"authorization": ""}).status == 401
    # Serve's prefix stands in the path, as ASGI has it.
    assert ask(app, "GET", "/a/health", headers={"authorization": ""}, root="/a").status == 200
    assert ask(app, "GET", "/a/health", headers={"authorization": ""}).status == 401


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example:8000", 403),
        ("127.0.0.1.evil.example", 403),
        ("[oops", 403),
        ("", 403),
    ],
)
def test_without_a_key_the_host_must_be_this_machine(echo: Echo, host: str, status: int) -> None:
    """A page whose name was bound to 127.0.0.1 sends its own name."""
    app = AccessMiddleware(echo, Access(None, 200, 64, 4))
    reply = ask(app, "GET", "/v1/models", headers={"host": host, "authorization": ""})
    assert reply.status == status


def test_with_a_key_any_host_will_do(app: AccessMiddleware) -> None:
    assert ask(app, "GET", "/v1/models", headers={"host": "models.example"}).status == 200


def test_a_body_is_cut_at_the_limit_without_a_length(app: AccessMiddleware, echo: Echo) -> None:
    """Chunks of 60: the fourth makes 240 > 200; the other 996 are never asked for."""
    reply = post(app, JUDGE, [b" " * 60] * 1000)
    assert (reply.status, reply.error["code"], reply.taken) == (413, "request_too_large", 4)
    assert echo.bodies == []


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, JUDGE, "/v1/models"])
def test_a_lying_length_does_not_help(app: AccessMiddleware, path: str) -> None:
    assert post(app, path, b" " * 201, {"content-length": "2"}).status == 413


def test_a_body_of_exactly_the_limit_passes(app: AccessMiddleware) -> None:
    """{"prompt": "…"} is 14 bytes around the text: 186 more make 200."""
    assert post(app, JUDGE, {"prompt": "x" * 186}).status == 200
    assert post(app, JUDGE, {"prompt": "x" * 187}).status == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"[1]", b"null", b"{", b'"text"', b"\xff", b'{"x": NaN}', b'{"x": 1e999}', b'{"p": "\\ud800"}', b"[" * 200],
)
def test_what_is_no_json_object_is_refused(app: AccessMiddleware, echo: Echo, body: bytes) -> None:
    for path in (CHAT, COMPLETIONS, JUDGE):
        reply = post(app, path, body)
        assert (reply.status, reply.error["code"]) == (400, "invalid_json")
    assert echo.bodies == []


def test_nesting_beyond_reason_is_refused(echo: Echo) -> None:
    app = AccessMiddleware(echo, Access(None, 1_000_000, 64, 4))
    assert post(app, CHAT, b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}").status == 400


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_foreign_page_may_send_is_refused(app: AccessMiddleware, kind: str) -> None:
    assert post(app, CHAT, {}, {"content-type": kind}).status == 415


def test_json_may_name_its_encoding(app: AccessMiddleware) -> None:
    assert post(app, CHAT, {}, {"content-type": "application/json; charset=utf-8"}).status == 200


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("max_tokens", 65, "limit_exceeded"),
        ("max_completion_tokens", 65, "limit_exceeded"),
        *(("max_tokens", value, "invalid_value") for value in (0, -1, 1.0, "16", True, [1], {})),
        ("max_completion_tokens", 0, "invalid_value"),
        ("n", 5, "limit_exceeded"),
        ("best_of", 5, "limit_exceeded"),
        ("n", 0, "invalid_value"),
        ("best_of", "2", "invalid_value"),
        ("prompt", ["a"] * 5, "limit_exceeded"),
        ("prompt", [[1, 2]] * 5, "limit_exceeded"),
        ("prompt_embeds", ["x"] * 5, "limit_exceeded"),
    ],
)
def test_more_than_the_limits_is_refused_by_field(
    app: AccessMiddleware, echo: Echo, path: str, field: str, value: Any, code: str
) -> None:
    reply = post(app, path, {field: value})
    assert (reply.status, reply.error["param"], reply.error["code"]) == (400, field, code)
    assert reply.error["type"] == "invalid_request_error"
    assert echo.bodies == []


def test_answers_are_counted_over_all_prompts(app: AccessMiddleware) -> None:
    """Two prompts with two answers each are 4, the limit; with three they are 6."""
    assert post(app, COMPLETIONS, {"prompt": ["a", "b"], "n": 2}).status == 200
    assert post(app, COMPLETIONS, {"prompt": ["a", "b"], "n": 3}).status == 400


def test_a_list_of_token_ids_is_one_prompt(app: AccessMiddleware) -> None:
    assert post(app, COMPLETIONS, {"prompt": [1, 2, 3, 4, 5, 6], "n": 4}).status == 200


def test_everything_at_its_limit_passes_as_it_is(app: AccessMiddleware) -> None:
    body = {"max_tokens": 64, "max_completion_tokens": 64, "n": 4, "prompt": "a", "stream": True}
    assert post(app, COMPLETIONS, body).json == body


@pytest.mark.parametrize("given", [{}, {"max_tokens": None}])
def test_a_completion_that_names_no_length_gets_openais(app: AccessMiddleware, echo: Echo, given: Any) -> None:
    """16, or the limit where that is less; a chat's answer has what room there is, up to the limit that the engine is given."""
    assert post(app, COMPLETIONS, given).json == {"max_tokens": 16}
    small = AccessMiddleware(echo, Access(None, 200, 8, 4))
    assert post(small, COMPLETIONS, given).json == {"max_tokens": 8}
    assert post(app, CHAT, given).json == given
    assert LIMITS.engine_arguments["override_generation_config"] == {"max_new_tokens": 64}


def test_a_field_that_comes_twice_counts_as_what_was_checked(app: AccessMiddleware) -> None:
    assert post(app, CHAT, b'{"max_tokens": 9999, "max_tokens": 5}').json == {"max_tokens": 5}


def test_an_answer_passes_piece_by_piece() -> None:
    """Each piece is with the client before the app makes the next: it waits for the client's word."""
    got: list[bytes] = []
    arrived = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"data: 1\n\n", b"data: 2\n\n"):
            arrived.clear()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.wait_for(arrived.wait(), 1)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def listening() -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            if message.get("body"):
                got.append(message["body"])
                arrived.set()

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers}
        await AccessMiddleware(app, Access(None, 200, 64, 4))(scope, receive, send)

    asyncio.run(listening())
    assert got == [b"data: 1\n\n", b"data: 2\n\n"]


def test_a_client_that_leaves_is_heard_by_the_app(app: AccessMiddleware, echo: Echo) -> None:
    """While it sends: nobody is asked. Afterwards: the app hears of it."""
    left = ask(app, "POST", CHAT, [], {"content-type": "application/json"})
    assert (left.status, echo.bodies) == (0, [])
    heard: list[str] = []

    async def patient(scope: Any, receive: Any, send: Any) -> None:
        heard.extend([(await receive())["type"], (await receive())["type"]])

    post(AccessMiddleware(patient, LIMITS), CHAT, {})
    assert heard == ["http.request", "http.disconnect"]


def test_the_key_comes_from_the_environment_or_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATOR_API_KEY", raising=False)
    assert read_key() is None
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", KEY)
    assert read_key() == KEY
    file = tmp_path / "key"
    file.write_text("another-key-of-20-signs\n")
    file.chmod(0o600)
    assert read_key(file=file) == "another-key-of-20-signs"
    monkeypatch.setenv("MINE", "my-very-own-api-key")
    assert read_key("MINE") == "my-very-own-api-key"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_key_that_others_may_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:o}.*chmod 600"):
        read_key(file=file)


@pytest.mark.parametrize(
    "key", ["fifteen-letters", "with a blank in it", "schlüssel-mit-umlaut", "two\nlines-of-letters"]
)
def test_a_key_that_will_not_do_is_refused_without_showing_it(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_API_KEY", key)
    with pytest.raises(ConfigError, match="ORCHESTRATOR_API_KEY") as raised:
        read_key()
    assert key not in str(raised.value)


def test_a_key_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_key(file=tmp_path / "none")
    file = tmp_path / "key"
    file.write_bytes(b"\xff" * 20)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="must be text"):
        read_key(file=file)


def test_only_this_machine_is_answered_without_a_key() -> None:
    for host in ("127.0.0.1", "127.0.0.2", "localhost", "::1"):
        check_exposure(host, None)
    for host in ("0.0.0.0", "::", "", "10.0.0.1", "models.example", "localhost.example"):
        check_exposure(host, KEY)
        with pytest.raises(ConfigError, match=r"ORCHESTRATOR_API_KEY.*127\.0\.0\.1"):
            check_exposure(host, None)


def test_what_is_passed_on_does_not_hold_the_key() -> None:
    assert KEY not in repr(LIMITS)
    # sha256sum of the text
    assert json.dumps(LIMITS.key_digest) == json.dumps(digest_of(KEY))
    assert len(digest_of(KEY)) == 64
