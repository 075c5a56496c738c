"""What a fleet does when its servers ignore, die, hang or raise; the servers are fakes behind real Ray actors."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import servers
from fakes.servers import FakeServer, Trouble, answer_to, journal, specs

from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Fleet, start_servers
from orchestrator.fleets.weights import WeightVersion, publish
from orchestrator.values import Answer, Call, Sampling, stable_hash

pytestmark = pytest.mark.stack
Start = Callable[..., Fleet]

# calls 0…7 by server of two, from their keys alone
CALLS = [Call(f"train/1/task-{n}/0/0", "policy", (), Sampling(8), seed=n) for n in range(8)]
SHARES = {index: [call.key for call in CALLS if stable_hash(call.key) % 2 == index] for index in (0, 1)}


@pytest.fixture(scope="module")
def pair(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    """Two servers for all tests, and their folder."""
    folder = tmp_path_factory.mktemp("servers")
    with servers.running(folder, 2) as handles:
        yield folder, handles


@pytest.fixture
def folder(pair: tuple[Path, list[Any]]) -> Path:
    return pair[0]


@pytest.fixture
def start(pair: tuple[Path, list[Any]]) -> Start:
    """A new fleet over the two servers with the given troubles ahead."""

    def start(*troubles: Trouble, deadline_s: float = 60, notice_s: float = 30) -> Fleet:
        folder, handles = pair
        fleet = Fleet("policy", handles, deadline_s, 60, 2, notice_s)
        fleet.wait_ready()
        servers.arrange(folder, *troubles)
        return fleet

    return start


def weights(version: int) -> WeightVersion:
    return publish(version, [{"layer": torch.full((4, 4), float(version))}, {"head": torch.ones(3)}])


def undisturbed(version: int) -> list[Answer]:
    return [answer_to(call, version) for call in CALLS]


def batch(index: int) -> str:
    return "batch " + " ".join(SHARES[index])


def counted(rounds: int, restarts: int) -> dict[str, float]:
    """Of eight calls a round, one token and one second each, policy-0 has five and policy-1 three."""
    calls = 8.0 * rounds
    slow = {"slowest": 0.0, "slowest_ratio": 5 / 3}
    return {"prompt_tokens": calls, "seconds": calls, **slow, "restarts": float(restarts)}


def test_calls_go_to_servers_by_their_key_alone(start: Start, folder: Path) -> None:
    """Both servers have work; another order of the calls changes no call's server."""
    fleet = start()
    assert [status["server"] for status in fleet.wait_ready()] == ["policy-0", "policy-1"]
    fleet.push(weights(1))
    assert all(SHARES.values())
    assert fleet.complete(CALLS) == undisturbed(1)
    assert fleet.complete(CALLS[::-1]) == undisturbed(1)[::-1]
    for index in (0, 1):
        reverse = "batch " + " ".join(SHARES[index][::-1])
        assert journal(folder, f"policy-{index}") == ["update 1", batch(index), reverse]
    assert fleet.take_statistics() == counted(rounds=2, restarts=0)
    assert fleet.take_statistics() == {"restarts": 0.0}
    assert fleet.complete([]) == []


def test_after_a_death_an_adapter_comes_with_the_weights_that_it_is_added_to(start: Start, folder: Path) -> None:
    """The weights travel once; what comes after them are adapters, until a server is lost and needs both."""
    fleet = start(Trouble("policy-0", "die", at=2))
    fleet.push(weights(1))
    for version in (2, 3):
        fleet.push(publish(version, [{"layer.lora_A.weight": torch.full((2, 4), float(version))}], fleet.base))
        assert fleet.complete(CALLS) == undisturbed(version)
    second = ["adapter follows", "update 2", batch(0)]
    third = ["adapter follows", "update 3", batch(0)]
    assert journal(folder, "policy-0") == ["update 1", *second, *third, "start", "update 1", *third]
    assert fleet.base is not None
    assert (fleet.base.version, fleet.version) == (1, 3)


@pytest.mark.parametrize("kind", ["old_version", "other_fingerprint"])
def test_an_ignored_update_stops_the_run_before_anything_is_sampled(start: Start, folder: Path, kind: str) -> None:
    fleet = start(Trouble("policy-1", kind, at=2))
    fleet.push(weights(1))
    with pytest.raises(RunError, match=r"sync/weight_version.*server='policy-1'.*version 2"):
        fleet.push(weights(2))
    assert not [line for index in (0, 1) for line in journal(folder, f"policy-{index}") if "batch" in line]


def test_a_death_in_a_batch_changes_no_answer_and_costs_the_others_nothing(
    start: Start, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fleet = start(Trouble("policy-0", "die", at=2))
    fleet.push(weights(1))
    fleet.complete(CALLS)
    fleet.push(weights(2))
    assert fleet.complete(CALLS) == undisturbed(2)
    dead, alive = journal(folder, "policy-0"), journal(folder, "policy-1")
    assert dead == ["update 1", batch(0), "update 2", batch(0), "start", "update 2", batch(0)]
    assert alive == ["update 1", batch(1), "update 2", batch(1)]
    assert fleet.restarts == 1
    # two rounds of eight; the batch that was lost is not counted twice
    assert fleet.take_statistics() == counted(rounds=2, restarts=1)
    # of the restarts, too, those since the last call
    assert fleet.take_statistics() == {"restarts": 0.0}
    assert fleet.restarts == 1
    assert "policy-0 died while it should answer" in caplog.text


def test_a_death_within_a_step_brings_back_what_its_prefix_cache_held(start: Start, folder: Path) -> None:
    """policy-0 dies in the step's second batch: it is given both again. The batch of the step before is over and done with."""
    fleet = start(Trouble("policy-0", "die", at=3))
    fleet.push(weights(1))
    again = [replace(call, key=f"{call.key}/again", route=call.key) for call in CALLS]
    fleet.complete(CALLS)
    fleet.begin_step("train")
    fleet.complete(CALLS)
    assert fleet.complete(again) == [answer_to(call, 1) for call in again]
    second = "batch " + " ".join(f"{key}/again" for key in SHARES[0])
    expected = ["update 1", batch(0), batch(0), second, "start", "update 1", batch(0), second]
    assert journal(folder, "policy-0") == expected
    # three rounds of eight: what was given again is not counted again
    assert fleet.take_statistics() == counted(rounds=3, restarts=1)


def test_a_death_between_two_batches_of_a_step_is_noticed_without_weights_too(pair: Any, tmp_path: Path) -> None:
    """A judge that was never pushed any answers with its own: what it has forgotten are the step's batches."""
    servers.arrange(tmp_path)
    (spec,) = specs(tmp_path, 1, max_restarts=2)
    (handle,) = start_servers([replace(spec, trained=True)], FakeServer)
    fleet = Fleet("judge", [handle], 60, 60, 2)
    pid = fleet.wait_ready()[0]["pid"]
    assert fleet.complete(CALLS[:2]) == undisturbed(0)[:2]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: journal(tmp_path, "policy-0").count("start") == 2)
    assert fleet.complete(CALLS[2:4]) == undisturbed(0)[2:4]
    first, second = (f"batch {one.key} {other.key}" for one, other in (CALLS[:2], CALLS[2:4]))
    assert journal(tmp_path, "policy-0") == ["start", first, "start", first, second]
    assert fleet.restarts == 1


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert condition()


def test_a_hang_is_found_ended_and_answered_again(start: Start, folder: Path) -> None:
    fleet = start(Trouble("policy-1", "hang"), deadline_s=3)
    pids = [status["pid"] for status in fleet.wait_ready()]
    fleet.push(weights(1))
    began = time.monotonic()
    assert fleet.complete(CALLS) == undisturbed(1)
    assert time.monotonic() - began >= 3
    assert journal(folder, "policy-1") == ["update 1", batch(1), "start", "update 1", batch(1)]
    assert journal(folder, "policy-0") == ["update 1", batch(0)]
    assert fleet.restarts == 1
    after = [status["pid"] for status in fleet.wait_ready()]
    assert after[0] == pids[0]
    assert after[1] != pids[1]


def test_a_death_between_two_batches_is_noticed_by_the_weights(start: Start, folder: Path) -> None:
    """Ray brings the server back by itself, with the weights it started with: it must not answer with those."""
    fleet = start()
    pid = fleet.wait_ready()[0]["pid"]
    fleet.push(weights(1))
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: journal(folder, "policy-0").count("start") == 1)
    assert fleet.complete(CALLS) == undisturbed(1)
    assert journal(folder, "policy-0") == ["update 1", "start", "update 1", batch(0)]
    assert fleet.restarts == 1


def test_too_many_deaths_end_the_run_with_the_servers_name_and_the_cause(pair: Any, tmp_path: Path) -> None:
    """Ray restarts it as often as the fleet allows: once."""
    servers.arrange(tmp_path, Trouble("policy-0", "die", times=9))
    fleet = Fleet("policy", start_servers(specs(tmp_path, 1, max_restarts=1), FakeServer), 60, 60, max_restarts=1)
    fleet.push(weights(1))
    expected = r"policy-0 died while it should answer 8 calls: The actor .*restarted 1 times \(max_restarts"
    with pytest.raises(RunError, match=expected):
        fleet.complete(CALLS)
    everything = "batch " + " ".join(call.key for call in CALLS)
    assert journal(tmp_path, "policy-0") == ["start", "update 1", everything] * 2


def test_a_servers_exception_arrives_with_its_name_and_its_words_at_once(start: Start, folder: Path) -> None:
    """The same input would raise again: no restart."""
    fleet = start(Trouble("policy-1", "raise"))
    fleet.push(weights(1))
    expected = (
        rf"^policy-1 failed while it should answer {len(SHARES[1])} calls: ValueError: no single token spells 'yes'$"
    )
    with pytest.raises(RunError, match=expected):
        fleet.complete(CALLS)
    assert journal(folder, "policy-1").count("start") == 0


def test_a_server_that_cannot_start_is_named_with_the_cause(pair: Any, tmp_path: Path) -> None:
    servers.arrange(tmp_path, Trouble("policy-0", "raise_starting"))
    fleet = Fleet("policy", start_servers(specs(tmp_path, 1, max_restarts=1), FakeServer), 60, 60, 1)
    with pytest.raises(RunError, match=r"policy-0 died while it should start: FileNotFoundError: no model folder"):
        fleet.wait_ready()


def test_weights_that_were_never_pushed_are_never_sampled(pair: Any, tmp_path: Path) -> None:
    servers.arrange(tmp_path)
    (handle,) = start_servers(specs(tmp_path, 1, max_restarts=1), FakeServer)
    with pytest.raises(RunError, match=r"policy-0 failed.*holds weights -1, asked for 0"):
        Fleet("policy", [handle], 60, 60, 1).complete(CALLS)


def test_a_long_wait_says_what_it_waits_for(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """1.5 s of work, a notice every 0.4 s: at least two of them, about the slow server alone."""
    fleet = start(Trouble("policy-0", "slow"), notice_s=0.4)
    fleet.push(weights(1))
    caplog.clear()
    with caplog.at_level(logging.INFO, "orchestrator"):
        fleet.complete(CALLS)
    notices = [record.getMessage() for record in caplog.records]
    assert len(notices) >= 2
    assert all(notice.startswith(f"waiting for policy-0 to answer {len(SHARES[0])} calls: ") for notice in notices)
    assert notices[0].endswith("of at most 60 s")
