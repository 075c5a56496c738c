"""Sending a job and following it, on a made-up cluster; tests/cluster/test_two_hosts.py sends to a real one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.dashboard.modules.job.common import JobStatus

from orchestrator.cluster import submit
from orchestrator.cluster.upload import Upload
from orchestrator.config.job import SECRETS
from orchestrator.errors import ConfigError, RunError

URL = "http://HEAD:8265"
UPLOAD = Upload({}, ("train", "rlvr", "name=a b"))


class Cluster:
    """Stands in for ray.job_submission.JobSubmissionClient. logs: what each connection tells before it ends or raises."""

    def __init__(self, logs: list[list[str | BaseException]], status: JobStatus, code: int | None) -> None:
        self.sent: dict[str, Any] = {}
        self._logs = iter(logs)
        # The log ends a moment before the job does.
        self._infos = iter([SimpleNamespace(status=JobStatus.RUNNING, driver_exit_code=None, message=None)])
        self._end = SimpleNamespace(status=status, driver_exit_code=code, message="why")

    def submit_job(self, **given: Any) -> str:
        self.sent = given
        return "job-1"

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        for part in next(self._logs):
            if isinstance(part, BaseException):
                raise part
            yield part

    def get_job_info(self, job: str) -> Any:
        return next(self._infos, self._end)


def cluster(monkeypatch: pytest.MonkeyPatch, *logs: list[Any], status: JobStatus, code: int | None = None) -> Cluster:
    made = Cluster(list(logs), status, code)
    monkeypatch.setattr(submit, "connect", lambda address: made)
    monkeypatch.setattr(submit, "seat_of_driver", lambda address: {submit.NODE_ID: "!head"})
    monkeypatch.setattr(submit, "RECONNECT_S", 0)
    return made


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (JobStatus.SUCCEEDED, 0, 0),
        (JobStatus.FAILED, 2, 2),
        (JobStatus.FAILED, None, 1),
        (JobStatus.STOPPED, None, 130),
    ],
)
def test_it_ends_as_the_job_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: JobStatus, code: int, expected: int
) -> None:
    cluster(monkeypatch, ["one\n", "two\n"], status=status, code=code)
    assert submit.submit(URL, UPLOAD, [], detach=False) == expected
    assert capsys.readouterr().out == "one\ntwo\n"


def test_the_job_says_where_its_driver_goes_and_names_secrets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "value-of-the-key")
    made = cluster(monkeypatch, [], status=JobStatus.SUCCEEDED, code=0)
    submit.submit(URL, UPLOAD, ["WANDB_API_KEY", "HF_TOKEN"], detach=False)
    assert made.sent["entrypoint"] == "exec python -m orchestrator train rlvr 'name=a b'"
    assert made.sent["entrypoint_label_selector"] == {submit.NODE_ID: "!head"}
    assert made.sent["entrypoint_num_cpus"] == 0
    assert made.sent["metadata"] == {SECRETS: "WANDB_API_KEY,HF_TOKEN"}
    assert "value-of-the-key" not in repr(made.sent)
    assert list(made.sent["runtime_env"]["env_vars"]) == ["RAY_JOB_STOP_WAIT_TIME_S"]


def test_a_log_that_breaks_off_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Each connection tells the log from its beginning, in other pieces.
    broken = RuntimeError("closed")
    cluster(monkeypatch, ["on", broken], [broken], ["one\nt", "wo\n"], status=JobStatus.SUCCEEDED, code=0)
    assert submit.submit(URL, UPLOAD, [], detach=False) == 0
    assert capsys.readouterr().out == "one\ntwo\n"
    cluster(monkeypatch, *[[broken]] * 40, status=JobStatus.RUNNING)
    with pytest.raises(RunError, match="the log of job-1 cannot be followed"):
        submit.submit(URL, UPLOAD, [], detach=False)


def test_interrupted_or_detached_it_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster(monkeypatch, ["one\n", KeyboardInterrupt()], status=JobStatus.RUNNING)
    for detach, status in ((False, 130), (True, 0)):
        assert submit.submit(URL, UPLOAD, [], detach=detach) == status
        err = capsys.readouterr().err
        assert f"ray job stop --address {URL} job-1" in err
        assert f"ray job logs --address {URL} --follow job-1" in err


def node(name: str, cpus: float, head: bool = False, state: str = "ALIVE") -> Any:
    return SimpleNamespace(node_id=name, is_head_node=head, state=state, resources_total={"CPU": cpus} if cpus else {})


@pytest.mark.parametrize(
    ("nodes", "seat"),
    [
        ([node("h", 2, head=True)], "h"),  # `ray start --head` on one machine
        ([node("h", 0, head=True)], "!h"),  # its workers are on their way
        ([node("h", 0, head=True), node("w", 8)], "!h"),
        ([node("h", 8, head=True), node("w", 8)], "!h"),
        ([node("h", 8, head=True), node("w", 8, state="DEAD")], "h"),
    ],
)
def test_the_driver_keeps_off_a_head_that_others_need(
    monkeypatch: pytest.MonkeyPatch, nodes: list[Any], seat: str
) -> None:
    monkeypatch.setattr("ray.util.state.list_nodes", lambda address, limit: nodes)
    assert submit.seat_of_driver(URL) == {"ray.io/node-id": seat}


class Other(BaseHTTPRequestHandler):
    """A web server that is no Ray."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def web_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_addresses_that_are_no_cluster(monkeypatch: pytest.MonkeyPatch, web_server: str) -> None:
    monkeypatch.setattr(submit, "ANSWER_S", 0.3)
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "")  # `connect` sets it
    with pytest.raises(RunError, match="is no Ray dashboard"):
        submit.connect(web_server)
    for address in ("HEAD:8265", "ray://HEAD:10001", "http://"):
        with pytest.raises(ConfigError, match=r"as http://HOST:8265"):
            submit.connect(address)
    with socket.socket() as deaf:  # takes connections and says nothing
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        began = time.monotonic()
        with pytest.raises(RunError, match=r"nothing answers there .*timed out"):
            submit.connect(f"http://127.0.0.1:{deaf.getsockname()[1]}")
        assert time.monotonic() - began < 5
        port = deaf.getsockname()[1]
    with pytest.raises(RunError, match=r"nothing answers there .*refused"):
        submit.connect(f"http://127.0.0.1:{port}")


def test_nothing_is_sent_where_it_is_too_much(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = cluster(monkeypatch, [], status=JobStatus.SUCCEEDED, code=0)
    (tmp_path / "large").write_bytes(b"x" * 100)
    monkeypatch.setattr("orchestrator.cluster.upload.MOST_BYTES", 99)
    with pytest.raises(ConfigError, match="The largest files"):
        submit.submit(URL, Upload({"own/0/large": tmp_path / "large"}, ()), [], detach=False)
    assert made.sent == {}
