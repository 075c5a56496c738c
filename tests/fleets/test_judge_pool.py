"""One pool of servers that several clients share; the servers are fakes behind real Ray actors, the clients real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import servers
from fakes.servers import FakeServer, Trouble, answer_to, arrange, journal

from orchestrator.config.schema import FleetConfig
from orchestrator.errors import RunError
from orchestrator.fleets.pool import NAMESPACE, Lease, is_running
from orchestrator.fleets.pool_manager import PoolSpec
from orchestrator.fleets.pooled import PooledFleet
from orchestrator.values import JUDGE, Answer, Call

pytestmark = pytest.mark.stack

MANAGER = "ray::PoolManager"

Start = Callable[..., PoolSpec]


def questions(client: str, count: int) -> list[Call]:
    return [
        Call(f"{client}-{n}", JUDGE, ({"role": "user", "content": f"{client} {n} ?"},), choices=("yes", "no"))
        for n in range(count)
    ]


def right(calls: Sequence[Call]) -> list[Answer]:
    return [answer_to(call, 0) for call in calls]


def one_ask(fleet: PooledFleet, calls: list[Call]) -> list[Answer]:
    fleet.begin_step("train")
    return fleet.complete(calls)


class Client:
    """A run's rank 0: a process that asks the pool."""

    def __init__(self, spec: PoolSpec) -> None:
        self._fleet = PooledFleet(spec, "a test")

    def pid(self) -> int:
        return os.getpid()

    def ask(self, calls: list[Call], purpose: str = "train") -> tuple[list[Answer], dict[str, float]]:
        self._fleet.begin_step(purpose)
        return self._fleet.complete(calls), self._fleet.take_statistics()

    def close(self) -> None:
        self._fleet.close()


@pytest.fixture(scope="module")
def ray_with_fakes(ray_cluster: Any) -> Iterator[Any]:
    import ray.cloudpickle

    # Workers cannot import from the tests' folder.
    modules = (servers, sys.modules[__name__])
    for module in modules:
        ray.cloudpickle.register_pickle_by_value(module)
    yield ray_cluster
    for module in modules:
        ray.cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture
def start(ray_with_fakes: Any, tmp_path: Path) -> Start:
    """The spec of a pool of fake servers with the given troubles ahead: impatient, one server, batches of 64 calls."""

    def start(*troubles: Trouble, max_restarts: int = 2) -> PoolSpec:
        arrange(tmp_path, *troubles)
        fleet = FleetConfig(
            cpus_per_server=0, max_concurrent_sequences=16, max_restarts=max_restarts, start_deadline_s=30
        )
        (spec,) = servers.specs(tmp_path, 1, max_restarts)
        spec = replace(spec, role=JUDGE, trained=True, fleet=fleet)
        times = {"heartbeat_s": 0.2, "expiry_s": 3.0, "linger_s": 0.4}
        return PoolSpec(tmp_path.name, "m", (spec,), str(tmp_path / "verdicts"), FakeServer, **times)

    return start


@pytest.fixture
def client(ray_with_fakes: Any) -> Iterator[Callable[[PoolSpec], Any]]:
    """Makes clients, each a process of its own, that are gone after the test."""
    made: list[Any] = []

    def make(spec: PoolSpec) -> Any:
        made.append(ray_with_fakes.remote(num_cpus=0, max_concurrency=4)(Client).remote(spec))
        return made[-1]

    yield make
    for handle in made:
        ray_with_fakes.kill(handle)


def processes(*titles: str) -> set[int]:
    """Those of Ray's actors with one of these titles."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = path.read_text()
        except OSError:
            continue  # it has ended meanwhile
        if title.startswith(titles):
            found.add(int(path.parent.name))
    return found


@pytest.fixture(autouse=True)
def census(ray_with_fakes: Any) -> Iterator[None]:
    """No test leaves a server or a manager behind, and each ends its pool itself."""
    titles = ("ray::FakeServer", MANAGER)
    before = processes(*titles)
    yield
    wait_for(lambda: not processes(*titles) - before)


def wait_for(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def batches(folder: Path) -> list[list[str]]:
    """Keys of the calls of each batch that the server was given."""
    return [line.split()[1:] for line in journal(folder, "judge-0") if line.startswith("batch")]


@pytest.mark.long
def test_two_clients_hold_one_copy_and_ask_nothing_twice_and_it_ends_after_the_last_was_killed(
    start: Start, client: Any, tmp_path: Path
) -> None:
    """Both begin together; then the second asks eight questions of the first's and two of its own. Those are four batches or
    fewer; of the 32 that follow all but one take 1.5 s each."""
    import ray

    spec = start(Trouble("judge-0", "slow", at=5, times=99))
    one, other = client(spec), client(spec)
    calls = questions("both", 10)
    (answers, counted), (others, _) = ray.get([one.ask.remote(calls[:8]), other.ask.remote(questions("other", 3))])
    assert (answers, others) == (right(calls[:8]), right(questions("other", 3)))
    assert (counted["asked"], counted["verdict_hits"]) == (8, 0)
    answers, counted = ray.get(other.ask.remote(calls))
    assert answers == right(calls)
    assert counted == {"asked": 10, "verdict_hits": 8, "prompt_tokens": 2, "restarts": 0}
    # For another purpose all of them are new.
    answers, counted = ray.get(other.ask.remote(calls, "eval"))
    assert (answers, counted["verdict_hits"]) == (right(calls), 0)
    assert journal(tmp_path, "judge-0").count("start") == 1
    # The one that began it may go: the pool is the other's too, for longer than it lingers.
    ray.get(one.close.remote())
    time.sleep(1)
    assert ray.get(other.ask.remote(calls))[1] == {"asked": 10, "verdict_hits": 10}
    pid, before = ray.get(other.pid.remote()), len(batches(tmp_path))
    other.ask.remote(questions("killed", 2000))
    wait_for(lambda: len(batches(tmp_path)) > before)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not is_running(spec))
    # 3 s of silence and 0.4 s without a client are three or four batches, not 32.
    assert len(batches(tmp_path)) <= before + 5


def test_ten_calls_do_not_wait_behind_two_thousand(start: Start, ray_with_fakes: Any, tmp_path: Path) -> None:
    """The first batch of 64 takes 1.5 s, and meanwhile ten come: they are all in the second of 32 batches, beside 54 others."""
    spec = start(Trouble("judge-0", "slow"))
    one, other = PooledFleet(spec, "great"), PooledFleet(spec, "small")
    great, small = questions("great", 2000), questions("small", 10)
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(one_ask, one, great)
        wait_for(lambda: len(batches(tmp_path)) == 1)
        assert one_ask(other, small) == right(small)
        assert not found.done()
        assert found.result() == right(great)
    second = batches(tmp_path)[1]
    assert [key for key in second if key.startswith("small")] == [call.key for call in small]
    assert len(second) == 64
    assert len(batches(tmp_path)) == 32
    one.close()
    other.close()


DRIVER = """
import sys, time, ray
from ray import cloudpickle
from pathlib import Path
ray.init(address=sys.argv[1], logging_level="ERROR")
from orchestrator.fleets.pool import Lease
lease = Lease(cloudpickle.loads(Path(sys.argv[2]).read_bytes()), "a driver")
lease.wait_ready()
Path(sys.argv[3]).touch()
time.sleep(60)
"""


@pytest.mark.long
def test_a_pool_outlives_the_job_that_began_it(start: Start, ray_with_fakes: Any, tmp_path: Path) -> None:
    """Its driver is killed; Ray then ends all that is the job's, except what belongs to a detached actor."""
    spec = start()
    stored, ready = tmp_path / "spec", tmp_path / "ready"
    stored.write_bytes(ray_with_fakes.cloudpickle.dumps(spec))
    address = ray_with_fakes.get_runtime_context().gcs_address
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, address, str(stored), str(ready)])
    try:
        wait_for(ready.exists, 40)
        fleet = PooledFleet(spec, "another driver")
    finally:
        driver.kill()
        driver.wait()
    time.sleep(3)
    calls = questions("after", 5)
    assert one_ask(fleet, calls) == right(calls)
    assert journal(tmp_path, "judge-0").count("start") == 1
    fleet.close()


@pytest.mark.long
def test_after_a_lost_manager_there_is_another_that_knows_the_verdicts(
    start: Start, ray_with_fakes: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = start()
    fleet = PooledFleet(spec, "a test")
    calls = questions("kept", 5)
    one_ask(fleet, calls[:4])
    ray_with_fakes.kill(ray_with_fakes.get_actor(spec.name, namespace=NAMESPACE))
    # A kill takes its time: until then the old manager would put the fifth question to its server, and the new one again.
    wait_for(lambda: not processes(MANAGER))
    assert one_ask(fleet, calls) == right(calls)
    assert fleet.take_statistics() == {"asked": 9, "verdict_hits": 4, "prompt_tokens": 5, "restarts": 0}
    assert batches(tmp_path) == [[call.key for call in calls[:4]], [calls[4].key]]
    assert "the judge pool was lost" in caplog.text
    fleet.close()


@pytest.mark.long
def test_a_server_that_dies_is_brought_back_and_a_broken_file_ends_nothing_and_everyone_hears(
    start: Start, ray_with_fakes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spec = start(Trouble("judge-0", "die"))
    Path(spec.verdicts).write_text("no database at all" * 99)
    fleet, witness = PooledFleet(spec, "a test"), Lease(spec, "a witness")
    calls = questions("again", 100)
    assert one_ask(fleet, calls) == right(calls)
    assert fleet.take_statistics() == {"asked": 100, "verdict_hits": 0, "prompt_tokens": 100, "restarts": 1}
    one_ask(fleet, calls)
    assert fleet.take_statistics()["verdict_hits"] == 0
    for words in ("judge-0 died while it should answer 64 calls", f"without its verdicts of before in {spec.verdicts}"):
        wait_for(lambda: caplog.text.count(words) == 2)  # noqa: B023  it is called at once
    fleet.close()
    witness.close()


@pytest.mark.long
def test_a_server_that_dies_too_often_ends_the_pool_with_the_cause_and_the_next_client_begins_anew(
    start: Start, ray_with_fakes: Any, tmp_path: Path
) -> None:
    """The pool allows one restart; the third batch finds the server well."""
    spec = start(Trouble("judge-0", "die", times=2), max_restarts=1)
    fleet, held = PooledFleet(spec, "a test"), Lease(spec, "held throughout")
    calls = questions("lost", 3)
    for _ in range(2):
        with pytest.raises(RunError, match=r"judge-0 died while it should answer 3 calls: .*restarted 1 times"):
            one_ask(fleet, calls)
    fleet.close()
    wait_for(lambda: not is_running(spec))
    again = PooledFleet(spec, "the next")
    assert one_ask(again, calls) == right(calls)
    again.close()
    held.close()


def test_a_call_that_makes_a_server_raise_fails_its_own_client_alone(
    start: Start, ray_with_fakes: Any, tmp_path: Path
) -> None:
    """Batch 1 is slow, so that two clients share batch 2; that raises, and so does what the first of them asks alone."""
    spec = start(Trouble("judge-0", "slow"), Trouble("judge-0", "raise", at=2, times=2))
    first, bad, good = (PooledFleet(spec, name) for name in ("first", "bad", "good"))
    with ThreadPoolExecutor(3) as threads:
        waiting = threads.submit(one_ask, first, questions("first", 1))
        wait_for(lambda: len(batches(tmp_path)) == 1)
        failing = threads.submit(one_ask, bad, questions("bad", 2))
        time.sleep(0.3)
        fine = threads.submit(one_ask, good, questions("good", 2))
        assert (fine.result(), waiting.result()) == (right(questions("good", 2)), right(questions("first", 1)))
        with pytest.raises(RunError, match="judge-0 failed while it should answer 2 calls: ValueError: no single tok"):
            failing.result()
    assert [len(batch) for batch in batches(tmp_path)] == [1, 4, 2, 2]
    for fleet in (first, bad, good):
        fleet.close()


def test_a_pool_that_cannot_start_tells_everyone_why(start: Start, ray_with_fakes: Any) -> None:
    spec = start(Trouble("judge-0", "raise_starting", times=99))
    fleet, other = PooledFleet(spec, "a test"), PooledFleet(spec, "another")
    words = "judge-0 died while it should start: FileNotFoundError: no model folder"
    with pytest.raises(RunError, match=words):
        fleet.wait_ready()
    with pytest.raises(RunError, match=words):
        one_ask(other, questions("none", 1))
    fleet.close()
    other.close()
    wait_for(lambda: not is_running(spec))
    # Whoever has left begins no new one.
    with pytest.raises(RunError, match="the judge pool was left while it should answer 1 calls"):
        one_ask(fleet, questions("late", 1))
    assert not is_running(spec)
