"""The story of `orchestrate serve`: one process owns a service until it is stopped, and puts other releases in its place when asked.

release -> preflight -> Ray, Serve -> roll out [replicas prove themselves] -> ready -> (another release -> roll out or back)* -> end
"""

from __future__ import annotations

import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

from orchestrator.cluster.preflight import check_engines, check_fit, free_nodes, nodes_there, place, wait_for_room
from orchestrator.cluster.session import connected, joins
from orchestrator.errors import PreflightError, RunError
from orchestrator.following import handling
from orchestrator.records.display import Display
from orchestrator.records.folder import check_storage, give_back, take
from orchestrator.records.log import logged
from orchestrator.serving.access import Access
from orchestrator.serving.folder import ENDED, FAILED, READY, ROLLING, STARTING, ServiceFolder, State
from orchestrator.serving.release import Release

log = logging.getLogger("orchestrator")
POLL_S, NOTICE_S = 0.3, 20.0
NEEDED = {"jsonref": "jsonref", "pybind11": "pybind11"}
"""What Ray Serve LLM imports that Ray does not install: module -> package."""


class RefusedError(RunError):
    """A release that did not come up, in its replicas' own words."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service answers, and whom."""

    host: str
    port: int
    access: Access

    @property
    def url(self) -> str:
        """As a client on this machine reaches it."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{host}:{self.port}"


def check(release: Release, listening: Listening) -> None:
    """What can be known before Ray is started. Raises PreflightError."""
    check_storage(release.config().storage)
    if lacking := [package for module, package in NEEDED.items() if find_spec(module) is None]:
        raise PreflightError(f"Ray Serve LLM needs {' and '.join(lacking)}: `make install` brings both.")
    check_engines(release.plan())
    with socket.socket(socket.AF_INET6 if ":" in listening.host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listening.host, listening.port))
        except OSError as error:
            raise PreflightError(
                f"port {listening.port} of {listening.host} cannot be listened on ({error.strerror}). Choose another with --port."
            ) from error


def own(folder: ServiceFolder, release: Release, listening: Listening) -> None:
    """Keep the service up until it is asked to end: by Ctrl-C, SIGTERM or `--stop`. Raises RunError where it does not come up."""
    if not take(folder.path):
        raise RunError(f"{folder.path} is owned by another process. Hand it the release, or stop it first.")
    for path in (folder.stop, folder.wanted):
        path.unlink(missing_ok=True)
    folder.write(State(STARTING, listening.url, os.getpid(), since=time.time()))
    display = Display(f"service {folder.name}", 0, terminal=False)
    with display, logged(folder.log):
        try:
            _serve(folder, release, listening)
        except KeyboardInterrupt:
            _end(folder)
        except Exception as error:
            _change(folder, status=FAILED, reason=str(error) if isinstance(error, RunError) else repr(error))
            raise
        else:
            _end(folder)
        finally:
            give_back(folder.path)


def _ask_to_stop(folder: ServiceFolder) -> None:
    """The first Ctrl-C or SIGTERM lets requests in flight end, the second ends everything at once."""
    if folder.stop.exists():
        raise KeyboardInterrupt
    folder.stop.touch()
    log.info("ending: what is in flight is answered first; once more ends everything at once")


def _end(folder: ServiceFolder) -> None:
    _change(folder, status=ENDED, serves="", models=())
    log.info("ended")


def _change(folder: ServiceFolder, **values: Any) -> None:
    state = folder.read()
    assert state is not None
    folder.write(replace(state, since=time.time(), **values))


def _serve(folder: ServiceFolder, release: Release, listening: Listening) -> None:
    config = release.config()
    if not joins(config.cluster):
        check_fit(release.plan(), nodes_there(config.cluster))
    log.info("starting Ray and Serve; the first answer takes a minute or two, most of it imports")
    with connected(config.cluster), _serve_of(folder.name, listening) as serve:
        check_fit(release.plan(), nodes_there(config.cluster))
        wait_for_room(release.plan(), config.cluster.placement_deadline_s, log.warning)
        # Not before Ray is there, which takes over SIGTERM when it connects.
        with handling(lambda number, frame: _ask_to_stop(folder)):
            _keep(Rollout(serve, folder, listening), release)


def _keep(current: Rollout, release: Release) -> None:
    """Have the release served, and others when they are asked for, until the service is asked to end."""
    if not current.to(release):
        return
    log.info("ready: %s", hint(current.listening, release))
    while not current.folder.stop.exists():
        if asked := current.folder.asked():
            _upgrade(current, *asked)
        time.sleep(POLL_S)


@contextmanager
def _serve_of(name: str, listening: Listening) -> Iterator[Any]:
    """Serve, started where the cluster has none; the service is gone at the end, and Serve too where it was started here."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    status = serve.status()
    if others := set(status.applications) - {name}:
        raise RunError(
            f"this cluster's Serve has {', '.join(sorted(others))} already, and one address serves one service: end it first, or use a "
            "Ray of its own."
        )
    if status.proxies:
        # An owner that was lost left it behind, and it may listen elsewhere.
        log.info("Serve is there already: it is started anew")
        serve.shutdown()
    try:
        serve.start(http_options={"host": listening.host, "port": listening.port})
        yield serve
    except RayServeException as error:
        raise RunError(f"Serve: {error}") from error
    finally:
        serve.shutdown()


def _upgrade(current: Rollout, number: int, values: Mapping[str, Any]) -> None:
    """Put another release in place of the one that is served; that one goes on where the other does not come up."""
    release, folder, before = Release.from_json(values), current.folder, current.release
    assert before is not None
    folder.wanted.unlink()
    _change(folder, status=ROLLING, reason="")
    log.info("rolling in %s; %s goes on meanwhile", release.reference, before.reference)
    try:
        if place(release.plan().bundles, free_nodes()) is None:
            raise RefusedError(
                "there is no room for its replicas beside those that serve. End the service and start it anew."
            )
        if current.to(release):
            log.info("%s serves now", release.reference)
        _change(folder, answered=number)
    # Whatever is wrong with a release must not end what serves.
    except Exception as error:
        words = str(error) if isinstance(error, RunError) else repr(error)
        reason = f"{release.reference} was refused, {before.reference} goes on: {words}"
        log.warning("%s", reason)
        _change(folder, status=READY, answered=number, reason=reason)
        _restore(current, before)


def _restore(current: Rollout, before: Release) -> None:
    """Make what serves the target again: Serve has stopped its update and keeps the old replicas, but would not replace one of them
    that dies."""
    try:
        current.to(before)
    except RunError as error:
        log.warning("the old replicas serve on, and none that dies can be replaced: %s", error)


class Rollout:
    """What is served now, and how something else comes in its place."""

    def __init__(self, serve: Any, folder: ServiceFolder, listening: Listening) -> None:
        self.release: Release | None = None
        self.folder = folder
        self._serve, self.listening = serve, listening

    def to(self, release: Release) -> bool:
        """Have this release served. Returns False where the service was asked to end meanwhile.

        Raises RefusedError with the replicas' words where it does not come up; what served before still does.
        """
        name, began = self.folder.name, time.monotonic()
        application = _app_of()(release, self.listening.access)
        target = self._serve.RunTarget(application, name=name, route_prefix="/")
        self._serve.run_many([target], wait_for_applications_running=False)
        if not self._wait(name, release.served().fleet.start_deadline_s):
            return False
        handle = self._serve.get_deployment_handle(f"model-{_plain(release.model)}", app_name=name)
        parity = handle.parity.remote().result(timeout_s=release.served().fleet.request_deadline_s)
        log.info("%s: %s (up after %.0f s)", release.reference, parity, time.monotonic() - began)
        models = (release.model, *(one.model for one in release.adapters))
        _change(self.folder, status=READY, serves=release.reference, parity=parity, models=models)
        self.release = release
        return True

    def _wait(self, name: str, deadline_s: float) -> bool:
        """Until all replicas are those of the last release. False where the service was asked to end."""
        began = told = time.monotonic()
        while not self.folder.stop.exists():
            status = self._serve.status().applications[name]
            if status.status == "RUNNING":
                return True
            if status.status in ("DEPLOY_FAILED", "UNHEALTHY"):
                raise RefusedError(words_of(status))
            now = time.monotonic()
            if now - began > deadline_s:
                raise RefusedError(f"it was not up after {deadline_s:.0f} s (the fleet's start_deadline_s).")
            if now - told >= NOTICE_S:
                told = now
                log.info("waiting for the replicas to load and to prove themselves: %.0f s", now - began)
            time.sleep(POLL_S)
        return False


def _app_of() -> Callable[[Release, Access], Any]:
    """`serving.app.app_of`; its import brings vLLM, whose and Serve LLM's own log lines are not this program's."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    root = logging.getLogger()
    before = list(root.handlers)
    from orchestrator.serving.app import app_of

    root.handlers = before
    return app_of


def words_of(status: Any) -> str:
    """Why a release did not come up: a RunError's own words, else the end of what a replica said."""
    text = "\n".join(one.message for one in status.deployments.values() if one.message) or status.message
    found = re.findall(r"(?:Parity|Run|Config)Error: (.+)", text)
    return found[-1].strip() if found else text.strip()[-2000:]


def _plain(model: str) -> str:
    """A model's id as Ray Serve LLM names its deployment."""
    return model.replace("/", "--").replace(".", "_")


def hint(listening: Listening, release: Release) -> str:
    """A command that tries the service."""
    key = ' -H "Authorization: Bearer $ORCHESTRATOR_API_KEY"' if listening.access.key_digest else ""
    path, body = _example(release)
    return f"curl {listening.url}{path}{key} -H 'Content-Type: application/json' -d '{body}'"


def _example(release: Release) -> tuple[str, str]:
    if release.kind == "chat":
        return "/v1/chat/completions", (
            f'{{"model": "{release.model}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 64}}'
        )
    rubric = ', "rubric": [{"id": "kind", "text": "is kind", "weight": 1}]' if release.kind == "judge" else ""
    return "/v1/judge", f'{{"prompt": "Hello", "response": "Hello to you"{rubric}}}'


def hand_over(folder: ServiceFolder, release: Release, tell: Callable[[str], None]) -> bool:
    """Ask the owner to serve this release instead, and wait for what comes of it. Returns whether it serves."""
    number = folder.ask(asdict(release))
    tell(f"{folder.name} is up: its owner was asked to roll in {release.reference}")
    while folder.is_owned():
        state = folder.read()
        if state is not None and state.answered >= number:
            tell(state.reason or f"{state.serves} serves at {state.url}: {state.parity}")
            return not state.reason
        time.sleep(POLL_S)
    raise RunError(f"the owner of {folder.name} ended before it answered; see {folder.log}.")
