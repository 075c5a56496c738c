"""A Ray cluster of several hosts on one machine: network namespaces on a bridge, each with an address, a host name and a temporary
folder of its own. Needs root and iproute2.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PREFIX = f"orch{os.getpid() % 10_000}"
NETWORK = f"10.213.{os.getpid() % 250}"
HEAD_PORT, DASHBOARD_PORT = 6379, 8265
START_S = 180.0
BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


def lacking() -> str | None:
    """Why no hosts can be made here; None where they can."""
    if os.geteuid():
        return "needs root: network namespaces"
    if not (shutil.which("ip") and shutil.which("unshare")):
        return "needs iproute2 and util-linux: the commands ip and unshare"
    tried = subprocess.run(["ip", "netns", "add", f"{PREFIX}t"], capture_output=True, text=True)
    if tried.returncode:
        return f"needs network namespaces: {tried.stderr.strip()}"
    _ip("netns", "del", f"{PREFIX}t")
    return None


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass(frozen=True, slots=True)
class Host:
    """name: of the namespace and the host. number: the last part of its address."""

    name: str
    number: int

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    def runs(self, what: str) -> bool:
        """Whether a process whose command holds `what` is on it."""
        for process in self.processes():
            with suppress(OSError):
                if what in Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                    return True
        return False

    def processes(self) -> list[int]:
        """All that runs on it."""
        told = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        return [int(line) for line in told.stdout.split()]

    def kill(self) -> None:
        """As if its power were cut: everything there at once, and nothing of it says goodbye."""
        while found := self.processes():
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)


class Hosts:
    """The hosts of a cluster, the head first. As a context manager: Ray is up inside, and nothing is left after it.

    cpus: logical CPUs of each worker; the head has none. folder: for the hosts' own files; all others they share.
    """

    def __init__(self, cpus: Sequence[int], folder: Path) -> None:
        self.folder = folder
        self.hosts = [Host(f"{PREFIX}{chr(97 + number)}", number + 1) for number in range(len(cpus) + 1)]
        self._cpus = cpus
        self._bridge = f"{PREFIX}br"
        self.token = os.urandom(32).hex()
        self._started: list[subprocess.Popen[bytes]] = []

    @property
    def head(self) -> Host:
        return self.hosts[0]

    @property
    def workers(self) -> list[Host]:
        return self.hosts[1:]

    @property
    def url(self) -> str:
        """Of the dashboard; this machine's own namespace reaches it over the bridge."""
        return f"http://{self.head.address}:{DASHBOARD_PORT}"

    def environment(self) -> dict[str, str]:
        """Of every process of the cluster, and of who sends it work."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        own = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_USAGE_STATS_ENABLED": "0"}
        # A job's `python` is the first on the path of Ray's processes.
        return kept | own | {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

    def __enter__(self) -> Hosts:
        try:
            self._connect()
            self._start_ray()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for host in self.hosts:
            if Path(f"/run/netns/{host.name}").exists():
                host.kill()
                _ip("netns", "del", host.name)
        for process in self._started:
            process.wait()
        subprocess.run(["ip", "link", "del", self._bridge], capture_output=True)

    def _connect(self) -> None:
        _ip("link", "add", self._bridge, "type", "bridge")
        _ip("addr", "add", f"{NETWORK}.254/24", "dev", self._bridge)
        _ip("link", "set", self._bridge, "up")
        for host in self.hosts:
            outer, inner = f"{host.name}o", f"{host.name}i"
            _ip("netns", "add", host.name)
            _ip("link", "add", outer, "type", "veth", "peer", "name", inner)
            _ip("link", "set", outer, "master", self._bridge, "up")
            _ip("link", "set", inner, "netns", host.name)
            inside = ["-n", host.name]
            _ip(*inside, "addr", "add", f"{host.address}/24", "dev", inner)
            _ip(*inside, "link", "set", inner, "up")
            _ip(*inside, "link", "set", "lo", "up")

    def _start_ray(self) -> None:
        common = ["--disable-usage-stats", "--object-store-memory=200000000"]
        head = ["--head", f"--node-ip-address={self.head.address}", f"--port={HEAD_PORT}", "--num-cpus=0"]
        head += ["--dashboard-host=0.0.0.0", f"--dashboard-port={DASHBOARD_PORT}"]
        self._begin(self.head, [str(BIN / "ray"), "start", *head, *common])
        self._wait_for(1)
        for host, cpus in zip(self.workers, self._cpus, strict=True):
            joining = [f"--address={self.head.address}:{HEAD_PORT}", f"--node-ip-address={host.address}"]
            self._begin(host, [str(BIN / "ray"), "start", *joining, f"--num-cpus={cpus}", *common])
        self._wait_for(len(self.hosts))

    def _begin(self, host: Host, command: Sequence[str]) -> None:
        """Start what a host lives on: its first process, with which all others of it end."""
        own = self.folder / host.name
        own.mkdir(parents=True)
        Path("/tmp/ray").mkdir(exist_ok=True)
        # Ray's own folder is one of the host's own, under the name that it has everywhere. Ray looks for its node's address among
        # all processes that it sees, so a host sees its own alone.
        script = f"hostname {host.name} && mount --bind {own} /tmp/ray && {shlex.join(command)} && exec sleep infinity"
        apart = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", script]
        words = ["ip", "netns", "exec", host.name, *apart]
        with (self.folder / f"{host.name}.log").open("wb") as log:
            self._started.append(subprocess.Popen(words, env=self.environment(), stdout=log, stderr=log))

    def _wait_for(self, nodes: int) -> None:
        """Wait for as many Ray nodes. Raises RuntimeError with what the hosts said."""
        status = [str(BIN / "ray"), "status", f"--address={self.head.address}:{HEAD_PORT}"]
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            done = subprocess.run(status, env=self.environment(), capture_output=True, text=True, timeout=START_S)
            if done.stdout.partition("Pending:")[0].count(" node_") >= nodes:
                return
            if any(process.poll() is not None for process in self._started):
                break
            time.sleep(1)
        said = "\n".join(path.read_text() for path in self.folder.glob("*.log"))
        raise RuntimeError(f"not {nodes} Ray nodes within {START_S:g} s\n{said}")
