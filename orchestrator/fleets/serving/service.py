"""The story of `orchestrate serve`: one process owns a service until it is stopped, and puts other releases in its place when asked.

release -> preflight -> Ray, Serve -> roll out [replicas prove themselves] -> ready -> (another release -> roll out or back)* -> end
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from typing import Any

from orchestrator.cluster.preflight import check_engines, check_fit, free_nodes, nodes_there, place, wait_for_room
from orchestrator.cluster.session import connected, joins
from orchestrator.errors import ConfigError, PreflightError, RunError
from orchestrator.fleets.serving.access import KEY_VARIABLE, Access
from orchestrator.fleets.serving.folder import ENDED, FAILED, READY, ROLLING, STARTING, UNHEALTHY, ServiceFolder, State
from orchestrator.fleets.serving.parity import owed_canary
from orchestrator.fleets.serving.release import REWARD_MODEL, Release
from orchestrator.fleets.serving.rollout import POLL_S, Rollout
from orchestrator.following import stopping
from orchestrator.records.display import Display
from orchestrator.records.folder import check_storage, give_back, take
from orchestrator.records.log import logged
from orchestrator.values import JUDGE

log = logging.getLogger("orchestrator")
NEEDED = ("jsonref", "pybind11")
"""What Ray Serve LLM imports that Ray does not install."""
LOOK_S = 5.0
"""How often a service that is up is looked at."""


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service answers, and whom. key: how a shell on this machine writes the API key; "" where none is needed."""

    host: str
    port: int
    access: Access
    key: str = ""

    @property
    def url(self) -> str:
        """As a client on this machine reaches it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def check(release: Release, listening: Listening) -> None:
    """What can be known before Ray is started. Raises PreflightError, or RunError where the weights' own proof is missing."""
    check_storage(release.config().storage)
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        raise PreflightError(f"Ray Serve LLM needs {' and '.join(lacking)}: `make install` brings both.")
    owed_canary(release)
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
    # A Ray that is started here would hand it to every process.
    os.environ.pop(KEY_VARIABLE, None)
    for path in (folder.stop, folder.wanted):
        path.unlink(missing_ok=True)
    before = folder.read()
    left = before is not None and before.status not in (FAILED, ENDED)
    folder.write(State(STARTING, listening.url, os.getpid(), since=time.time()))
    with Display(f"service {folder.name}", 0, terminal=False), logged(folder.log):
        try:
            _serve(folder, release, listening, left)
        except KeyboardInterrupt:
            _end(folder)
        except Exception as error:
            _change(folder, status=FAILED, reason=str(error) if isinstance(error, RunError) else repr(error))
            raise
        else:
            _end(folder)
        finally:
            give_back(folder.path)


def _end(folder: ServiceFolder) -> None:
    _change(folder, status=ENDED, serves="", models=())
    log.info("ended")


def _change(folder: ServiceFolder, **values: Any) -> None:
    state = folder.read()
    assert state is not None
    folder.write(replace(state, since=time.time(), **values))


def _serve(folder: ServiceFolder, release: Release, listening: Listening, left: bool) -> None:
    """left: whether an owner before this one was lost and did not end its service."""
    config = release.config()
    if not joins(config.cluster):
        check_fit(release.plan(), nodes_there(config.cluster))
    log.info("starting Ray and Serve; the first answer takes a minute or two, most of it imports")
    with connected(config.cluster), _serve_of(folder.name, listening, left) as serve:
        check_fit(release.plan(), nodes_there(config.cluster))
        wait_for_room(release.plan(), config.cluster.placement_deadline_s, log.warning)
        # Not before Ray is there, which takes over SIGTERM when it connects.
        with stopping(folder.stop, "ending: what is in flight is answered first", log.info):
            rollout = Rollout(serve, folder.name, listening.access, folder.stop.exists)
            _keep(folder, rollout, release, listening)
            rollout.end()


@contextmanager
def _serve_of(name: str, listening: Listening, left: bool) -> Iterator[Any]:
    """Serve, for this service alone, which is gone at the end. Raises RunError where somebody else's runs on the cluster."""
    from ray import serve
    from ray.serve.exceptions import RayServeException

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    status = serve.status()
    if status.proxies or status.applications:
        if not left or set(status.applications) - {name}:
            what = ", ".join(sorted(status.applications)) or "no application yet"
            raise RunError(
                f"Serve runs on this cluster already ({what}), and has one address: end that service first, or use a Ray of its own."
            )
        log.info("an owner that was lost left Serve behind; it is started anew")
        serve.shutdown()
    try:
        serve.start(http_options={"host": listening.host, "port": listening.port})
        yield serve
    except RayServeException as error:
        raise RunError(f"Serve: {error}") from error
    finally:
        serve.shutdown()


def _keep(folder: ServiceFolder, rollout: Rollout, release: Release, listening: Listening) -> None:
    """Have the release served, and others when they are asked for, until the service is asked to end."""
    if not _roll(folder, rollout, release):
        return
    log.info("ready: %s", hint(listening, release))
    looked = time.monotonic()
    while not folder.stop.exists():
        if asked := folder.asked():
            folder.wanted.unlink()
            upgrade(folder, rollout, *asked)
            continue
        if time.monotonic() - looked >= LOOK_S:
            looked = time.monotonic()
            _look(folder, rollout)
        time.sleep(POLL_S)


def _look(folder: ServiceFolder, rollout: Rollout) -> None:
    """Say so where replicas died, which Serve replaces by itself, and where they are back."""
    state, healthy = folder.read(), rollout.is_healthy()
    if state is not None and (state.status == READY) != healthy:
        _change(folder, status=READY if healthy else UNHEALTHY)
        log.warning("%s", "all replicas are there again" if healthy else "replicas are missing; Serve starts others")


def _roll(folder: ServiceFolder, rollout: Rollout, release: Release) -> bool:
    """Serve a release and say so. False where the service was asked to end meanwhile. Raises RefusedError."""
    parity = rollout.to(release)
    if parity is None:
        return False
    models = (release.model, *(one.model for one in release.adapters))
    _change(folder, status=READY, serves=release.reference, kind=release.kind, parity=parity, models=models)
    return True


def upgrade(folder: ServiceFolder, rollout: Rollout, request: str, values: Mapping[str, Any]) -> None:
    """Put another release in place of the one that is served, and answer who asked for it; that one goes on where the other does
    not come up. values: of the release, as JSON."""
    before = rollout.release
    assert before is not None
    touched = False
    try:
        release = Release.from_json(values)
        if place(release.plan().bundles, free_nodes()) is None:
            raise RunError(
                "there is no room for its replicas beside those that serve. End the service and start it anew."
            )
        _change(folder, status=ROLLING, reason="")
        log.info("rolling in %s; %s goes on meanwhile", release.reference, before.reference)
        touched = True
        if not _roll(folder, rollout, release):
            raise RunError("the service was asked to end.")
        _change(folder, answered=request, reason="")
        log.info("%s serves now", release.reference)
    # Whatever is wrong with a release must not end what serves.
    except Exception as error:
        words = str(error) if isinstance(error, RunError) else repr(error)
        reason = f"{values.get('reference')} was refused, {before.reference} goes on: {words}"
        log.warning("%s", reason)
        _change(folder, status=READY, answered=request, reason=reason)
        if touched and not folder.stop.exists():
            _restore(folder, rollout, before)


def _restore(folder: ServiceFolder, rollout: Rollout, before: Release) -> None:
    """Make what serves the target again: Serve has stopped its update and keeps the old replicas, but would not replace one of them
    that dies."""
    try:
        _roll(folder, rollout, before)
    # As for an upgrade: the old replicas are still there.
    except Exception as error:
        log.warning("the old replicas serve on, and none that dies can be replaced: %s", error)


def hint(listening: Listening, release: Release) -> str:
    """A command that tries the service."""
    key = f' -H "Authorization: Bearer {listening.key}"' if listening.key else ""
    path, body = _example(release)
    return f"curl {listening.url}{path}{key} -H 'Content-Type: application/json' -d '{body}'"


def _example(release: Release) -> tuple[str, str]:
    if release.kind in (JUDGE, REWARD_MODEL):
        rubric = ', "rubric": [{"id": "kind", "text": "is kind", "weight": 1}]' if release.kind == JUDGE else ""
        return "/v1/judge", f'{{"prompt": "Hello", "response": "Hello to you"{rubric}}}'
    return "/v1/chat/completions", (
        f'{{"model": "{release.model}", "messages": [{{"role": "user", "content": "Hello"}}], "max_tokens": 64}}'
    )


def hand_over(folder: ServiceFolder, release: Release, tell: Callable[[str], None]) -> bool:
    """Ask the owner to serve this release instead, and wait for what comes of it. Returns whether it serves.

    Raises ConfigError where the service is of another kind of model, whose users ask by other routes.
    """
    state = folder.read()
    if state is not None and state.kind not in ("", release.kind):
        raise ConfigError(
            f"the service {folder.name} is a {state.kind}, and {release.reference} is a {release.kind}: give it a service of its own, "
            "--name NAME --port PORT."
        )
    request = folder.ask(asdict(release))
    tell(f"{folder.name} is up: its owner was asked to roll in {release.reference}")
    while folder.is_owned():
        state = folder.read()
        if state is not None and state.answered == request:
            tell(state.reason or f"{state.serves} serves at {state.url}: {state.parity}")
            return not state.reason
        time.sleep(POLL_S)
    raise RunError(f"the owner of {folder.name} ended before it answered; see {folder.log}.")
