"""Waiting for what is free: on fake nodes, and on a real Ray whose CPUs an actor holds for a while."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from orchestrator.cluster import preflight
from orchestrator.cluster.plan import Bundle, Plan
from orchestrator.cluster.preflight import Node, wait_for_room
from orchestrator.cluster.session import apart_from_head
from orchestrator.errors import PreflightError

FOUR_GPUS = Plan((Bundle("learner", 4, 1, 1, ""),))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "POLL_S", 0.01)


# 8 GPUs in two halves of 2 and 6: at first 2 + 1 are free, then 2 + 2.
def test_it_waits_until_all_of_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([(2, 1), (2, 1), (2, 2)])
    monkeypatch.setattr(
        preflight, "free_nodes", lambda: [Node(str(at), 8, free) for at, free in enumerate(next(looks))]
    )
    said: list[str] = []
    wait_for_room(FOUR_GPUS, 10, said.append)
    assert next(looks, None) is None
    assert len(said) == 1  # not at every look
    assert "asked 4 CPUs and 4 GPUs, free 16 and 3" in said[0]


def test_after_the_deadline_it_says_what_is_asked_and_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "free_nodes", lambda: [Node("a", 8, 3)])
    with pytest.raises(PreflightError) as caught:
        wait_for_room(FOUR_GPUS, 0.05, lambda text: None)
    told = str(caught.value)
    assert "no room within 0 s (cluster.placement_deadline_s): it asks for 4 GPUs and there are 3" in told
    assert "asked by" in told
    assert "there" in told


def test_nothing_left_to_place_needs_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "free_nodes", lambda: [Node("a", 0, 0)])
    plan = Plan((Bundle("policy", 1, 1, 1, ""), Bundle("judge", 1, 1, 1, "", shared=True)))
    said: list[str] = []
    wait_for_room(plan.without(["policy", *plan.shared]), 0, said.append)
    assert said == []


def test_what_an_actor_holds_is_not_free(ray_cluster: Any) -> None:
    cpus = sum(node.cpus for node in preflight.free_nodes())

    class Holder:
        def ready(self) -> bool:
            return True

    holder = ray_cluster.remote(num_cpus=cpus)(Holder).remote()
    ray_cluster.get(holder.ready.remote())
    timer = threading.Timer(1.5, ray_cluster.kill, (holder,))
    timer.start()
    said: list[str] = []
    began = time.monotonic()
    wait_for_room(Plan((Bundle("learner", 1, 1, 0, ""),)), 60, said.append)
    assert time.monotonic() - began > 1
    assert said
    timer.join()


# The head is the node that has Ray's own resource for it; alone it is all there is.
def test_light_processes_keep_off_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    head = {"Alive": True, "NodeID": "aa", "Resources": {"node:__internal_head__": 1.0}}
    worker, dead = ({"Alive": alive, "NodeID": "bb", "Resources": {"CPU": 2.0}} for alive in (True, False))
    for nodes, selector in (([head, worker], {"ray.io/node-id": "!aa"}), ([head, dead], {}), ([worker], {})):
        monkeypatch.setattr("ray.nodes", lambda nodes=nodes: nodes)
        assert apart_from_head() == selector
