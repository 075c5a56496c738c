"""A server that obeys the protocol of `orchestrator.fleets.fleet`, without vLLM, and goes wrong on order."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.config.schema import FleetConfig, ModelConfig
from orchestrator.fleets.server import Acknowledgement, MissedBatchesError, StaleWeightsError
from orchestrator.fleets.specs import ServerSpec
from orchestrator.values import Answer, Call, Choice, Score, Turn, stable_hash

TROUBLES = "troubles.json"
HANG_S = 600.0


@dataclass(frozen=True)
class Trouble:
    """What goes wrong at one server. kind: die, hang, raise or slow in a batch, of which `at` is the first (from 1, counted
    since `arrange` over all processes of the server) and `times` how many in a row; old_version or other_fingerprint in the
    acknowledgement of the weights `at`; raise_starting when a process starts; raise_receiving or hang_receiving at the bucket
    `at`; raise_waking at the part `at` (1 weights, 2 the cache).
    """

    server: str
    kind: str
    at: int = 1
    times: int = 1


def arrange(folder: Path, *troubles: Trouble) -> None:
    """What is to go wrong from now on with the servers of this folder; their journals begin anew."""
    for old in folder.glob("*.log"):
        old.unlink()
    (folder / TROUBLES).write_text(json.dumps([asdict(trouble) for trouble in troubles]))


def specs(folder: Path, count: int, max_restarts: int) -> list[ServerSpec]:
    """Specs of fake servers whose troubles and journals lie in `folder`. max_restarts: of Ray, not of the fleet."""
    fleet = FleetConfig(cpus_per_server=0, max_restarts=max_restarts)
    return [ServerSpec("policy", index, str(folder), False, ModelConfig(), fleet) for index in range(count)]


def journal(folder: Path, server: str) -> list[str]:
    """What a server did since `arrange`, over all its processes."""
    path = folder / f"{server}.log"
    return path.read_text().splitlines() if path.exists() else []


def answer_to(call: Call, version: int) -> Answer:
    """A function of the call's key and seed and of the weights, as a real server's answer is."""
    if call.choices:
        return Choice({word: stable_hash(call.key, word) % 1000 / 2000 for word in call.choices})
    if call.scalar:
        raw = stable_hash(call.key) % 1000 / 100
        return Score(raw, raw)
    assert call.sampling is not None
    ids = tuple(stable_hash(call.key, call.seed, version, position) % 50 for position in range(4))
    text = " ".join(str(token) for token in ids)
    return Turn(call.role, (1,), ids, (-0.5,) * 4, text, "stop", call.sampling.temperature, version, call.seed)


def wire_of(folder: Path, port: int) -> Path:
    """Where what was broadcast in the group that meets at this port lies, a file a tensor."""
    return folder / f"wire-{port}"


class FolderGroup:
    """A communicator's rank 0 whose broadcasts are files."""

    def __init__(self, folder: Path, port: int) -> None:
        self._wire = wire_of(folder, port)
        self._wire.mkdir()
        self._sent = 0

    def broadcast(self, tensor: Any, src: int, stream: Any) -> None:
        import torch

        assert src == 0
        torch.save(tensor.clone(), self._wire / "part")
        (self._wire / "part").rename(self._wire / f"{self._sent}.pt")
        self._sent += 1


@contextmanager
def running(folder: Path, count: int) -> Iterator[list[Any]]:
    """So many fake servers in Ray actors; Ray restarts them as often as the tests end them."""
    import ray
    import ray.cloudpickle

    from orchestrator.fleets.fleet import start_servers

    # Workers cannot import from the tests' folder.
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    arrange(folder)
    handles = start_servers(specs(folder, count, max_restarts=20), FakeServer)
    yield handles
    for handle in handles:
        ray.kill(handle)
    ray.cloudpickle.unregister_pickle_by_value(module)


class FakeServer:
    """Wrapped by `start_servers` as `VllmServer` is."""

    def __init__(self, spec: ServerSpec) -> None:
        self._name, self._folder = spec.name, Path(spec.folder)
        self._version = 0 if spec.trained else -1
        self._batches = 0
        self._note("start")
        if self._due("raise_starting", 1):
            raise FileNotFoundError("no model folder")

    def ping(self) -> dict[str, Any]:
        return {"server": self._name, "version": self._version, "pid": os.getpid(), "workers": 1}

    def open_transfer(self, info: dict[str, Any]) -> None:
        import torch  # noqa: F401  takes seconds, and the deadlines of tests begin here

        self._note(f"open {json.dumps(info, sort_keys=True)}")
        self._wire, self._tensors = wire_of(self._folder, info.get("master_port", 0)), 0

    def start_update(self) -> None:
        from orchestrator.fleets.weights import Fingerprint

        self._note("start update")
        self._version, self._digest, self._buckets = -1, Fingerprint(), 0

    def receive(self, info: dict[str, Any]) -> None:
        import torch

        self._buckets += 1
        self._note(f"receive {' '.join(info['names'])}")
        if self._due("raise_receiving", self._buckets):
            raise ValueError("no room for this bucket")
        if self._due("hang_receiving", self._buckets):
            time.sleep(HANG_S)
        types = [getattr(torch, name) for name in info["dtype_names"]]
        if "ipc_handles" in info:
            ((path,),) = info["ipc_handles"].values()
            sizes = info["tensor_sizes"]
            parts = torch.load(path)[: sum(sizes)].split(sizes)
            flat = [part.view(type_) for part, type_ in zip(parts, types, strict=True)]
        else:
            flat = [torch.load(self._next_on_the_wire()) for _ in types]
        for name, tensor, shape, type_ in zip(info["names"], flat, info["shapes"], types, strict=True):
            assert tensor.dtype == type_
            self._digest.add({name: tensor.reshape(shape)})

    def _next_on_the_wire(self) -> Path:
        path = self._wire / f"{self._tensors}.pt"
        self._tensors += 1
        while not path.exists():
            time.sleep(0.01)
        return path

    def finish_update(self, version: int) -> Acknowledgement:
        self._note(f"finish update {version}")
        self._version = version
        return Acknowledgement(self._name, version, self._digest.hexdigest())

    def sleep(self, level: int) -> None:
        self._note(f"sleep {level}")
        self._version = -1 if level == 2 else self._version

    def wake(self, part: str) -> None:
        self._note(f"wake {part}")
        if self._due("raise_waking", 1 if part == "weights" else 2):
            raise MemoryError("CUDA out of memory")

    def update_weights(self, version: int, references: Sequence[Any]) -> Acknowledgement:
        import ray

        from orchestrator.fleets.weights import Fingerprint

        digest = Fingerprint()
        for reference in references:
            digest.add(ray.get(reference))
        self._note(f"update {version}")
        if self._due("old_version", version):
            return Acknowledgement(self._name, self._version, digest.hexdigest())
        self._version = version
        fingerprint = "0" * 32 if self._due("other_fingerprint", version) else digest.hexdigest()
        return Acknowledgement(self._name, version, fingerprint)

    def update_adapter(self, version: int, references: Sequence[Any]) -> Acknowledgement:
        self._note("adapter follows")
        return self.update_weights(version, references)

    def complete(self, calls: Sequence[Call], version: int, number: int) -> tuple[list[Answer], dict[str, float]]:
        if version != self._version:
            raise StaleWeightsError(f"{self._name} holds weights {self._version}, asked for {version}")
        if number not in (0, self._batches):
            raise MissedBatchesError(f"{self._name} knows {self._batches} batches of this step, not {number}")
        self._batches = number + 1
        self._note(f"batch {' '.join(call.key for call in calls)}")
        count = sum(line.startswith("batch") for line in journal(self._folder, self._name))
        if self._due("die", count):
            os._exit(1)
        if self._due("hang", count):
            time.sleep(HANG_S)
        if self._due("slow", count):
            time.sleep(1.5)
        if self._due("raise", count):
            raise ValueError("no single token spells 'yes'")
        counted = {"prompt_tokens": float(len(calls)), "seconds": float(len(calls))}
        return [answer_to(call, self._version) for call in calls], counted

    def _due(self, kind: str, number: int) -> bool:
        troubles = (Trouble(**values) for values in json.loads((self._folder / TROUBLES).read_text()))
        return any(
            (trouble.server, trouble.kind) == (self._name, kind)
            and number in range(trouble.at, trouble.at + trouble.times)
            for trouble in troubles
        )

    def _note(self, line: str) -> None:
        with (self._folder / f"{self._name}.log").open("a") as file:
            file.write(line + "\n")
