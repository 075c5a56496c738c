"""What a service serves now, and how another release comes in its place, or does not."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable
from typing import Any

from orchestrator.errors import RunError
from orchestrator.fleets.serving.access import Access
from orchestrator.fleets.serving.release import Release

log = logging.getLogger("orchestrator")
POLL_S, NOTICE_S = 0.3, 20.0
DRAIN_S = 600.0
"""How long replicas that end, or that others take the place of, go on with the requests that they have."""
PREFIX = "model-"
"""Begins the name of a model's deployment."""
HEALTHY = "RUNNING"
FAILED = ("DEPLOY_FAILED", "UNHEALTHY")
"""How Serve says that an application is up, and that it will not come up."""


class RefusedError(RunError):
    """A release that did not come up, in its replicas' own words."""


class Rollout:
    """One application of Serve. serve: the module `ray.serve`. ended: whether the service was asked to end."""

    def __init__(self, serve: Any, name: str, access: Access, ended: Callable[[], bool]) -> None:
        self.release: Release | None = None
        self._serve, self._name, self._access, self._ended = serve, name, access, ended

    def to(self, release: Release) -> str | None:
        """Have this release served by replicas that proved themselves. Returns their proof in words; None where the service was
        asked to end meanwhile.

        Raises RefusedError with the replicas' words where it does not come up; what served before still does.
        """
        began, fleet = time.monotonic(), release.served().fleet
        application = _app_of()(release, self._access)
        target = self._serve.RunTarget(application, name=self._name, route_prefix="/")
        self._serve.run_many([target], wait_for_applications_running=False)
        if not self._wait(fleet.start_deadline_s):
            return None
        handle = self._serve.get_deployment_handle(deployment_of(release.model), app_name=self._name)
        parity = str(handle.parity.remote().result(timeout_s=fleet.request_deadline_s))
        log.info("%s: %s (up after %.0f s)", release.reference, parity, time.monotonic() - began)
        self.release = release
        return parity

    def is_healthy(self) -> bool:
        """Whether all replicas that should be there are."""
        status = self._serve.status().applications.get(self._name)
        return status is not None and status.status == HEALTHY

    def end(self) -> None:
        """Take the application away; its replicas first answer what they have."""
        self._serve.delete(self._name, _blocking=False)
        deadline = time.monotonic() + DRAIN_S
        while self._name in self._serve.status().applications and time.monotonic() < deadline:
            time.sleep(POLL_S)

    def _wait(self, deadline_s: float) -> bool:
        """Until all replicas are those of the last release. False where the service was asked to end."""
        began = told = time.monotonic()
        while not self._ended():
            status = self._serve.status().applications[self._name]
            if status.status == HEALTHY:
                return True
            if status.status in FAILED:
                raise RefusedError(words_of(status))
            now = time.monotonic()
            if now - began > deadline_s:
                raise RefusedError(f"it was not up after {deadline_s:.0f} s (the fleet's start_deadline_s).")
            if now - told >= NOTICE_S:
                told = now
                log.info("waiting for the replicas to load and to prove themselves: %.0f s", now - began)
            time.sleep(POLL_S)
        return False


def deployment_of(model: str) -> str:
    """The name of a model's deployment, as Ray Serve LLM makes it."""
    return f"{PREFIX}{model.replace('/', '--').replace('.', '_')}"


def words_of(status: Any) -> str:
    """Why a release did not come up: a RunError's own words, else the end of what a replica said."""
    text = "\n".join(one.message for one in status.deployments.values() if one.message) or status.message
    found = re.findall(r"(?:Parity|Run|Config)Error: (.+)", text)
    return found[-1].strip() if found else text.strip()[-2000:]


def _app_of() -> Callable[[Release, Access], Any]:
    """`serving.app.app_of`; its import brings vLLM, whose and Serve LLM's own log lines are not this program's."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    root = logging.getLogger()
    before = list(root.handlers)
    from orchestrator.fleets.serving.app import app_of

    root.handlers = before
    return app_of
