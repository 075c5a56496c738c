"""How new weights get from the learner's ranks to the servers of a fleet: through the object store, by NCCL, or by CUDA IPC.

Sending is collective: every rank iterates the same buckets, because ZeRO-3 gathers them together; only rank 0 holds the fleet and
talks to it. Each message to a server has a deadline, and there are as many as buckets, plus two. NCCL and IPC speak the
protocol of vLLM's weight-transfer API, whose receiving engines run in the servers (`orchestrator.fleets.worker`).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
import torch.distributed as dist

from orchestrator.config.schema import SyncConfig
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Fleet
from orchestrator.fleets.weights import Bucket, Fingerprint, WeightVersion, publish


class Transport(Protocol):
    """Every rank has one and calls it at the same time. fleet: on rank 0, None elsewhere."""

    def connect(self, fleet: Fleet | None) -> None:
        """Meet the servers, once, before the first `send`."""
        ...

    def send(self, fleet: Fleet | None, version: int, buckets: Iterable[Bucket]) -> None:
        """Hand over all weights; returns when every server has acknowledged them. Raises RunError naming the server that fails."""
        ...


class ObjectStore:
    """Through the host's memory; works everywhere, and a server that is lost can be given its weights again."""

    def connect(self, fleet: Fleet | None) -> None:
        """There is nobody to meet."""

    def send(self, fleet: Fleet | None, version: int, buckets: Iterable[Bucket]) -> None:
        """See `Transport.send`."""
        if fleet:
            fleet.push(publish(version, buckets))
        else:
            _exhaust(buckets)


class Nccl:
    """Rank 0 broadcasts each tensor to all GPUs of all servers, in a group of its own with them.

    join: (address, port, world size) -> the communicator of its rank 0, by default vLLM's.
    """

    def __init__(self, settings: SyncConfig, join: Callable[[str, int, int], Any] | None = None) -> None:
        self._deadline_s = settings.deadline_s
        self._join = join or _join_as_first
        self._group: Any = None

    def connect(self, fleet: Fleet | None) -> None:
        """The servers' workers take the group's ranks from 1 on, server after server."""
        if not fleet:
            return
        import ray

        address, port = ray.util.get_node_ip_address(), _free_port()
        sizes = [int(answer["workers"]) for answer in fleet.wait_ready()]
        size = 1 + sum(sizes)
        meeting = {"master_address": address, "master_port": port, "world_size": size, "packed": False}
        infos = [({**meeting, "rank_offset": 1 + sum(sizes[:index])},) for index in range(len(sizes))]
        pending = fleet.ask("open_transfer", infos)
        joining = InBackground(lambda: self._join(address, port, size))
        fleet.collect(pending, self._deadline_s, f"join the NCCL group of {size} at {address}:{port}", joining)
        self._group = joining.result(self._deadline_s, f"join the NCCL group at {address}:{port}")

    def send(self, fleet: Fleet | None, version: int, buckets: Iterable[Bucket]) -> None:
        """See `Transport.send`. A broadcast that its receivers never join would block for ever, so it runs beside the wait for them."""
        if not fleet:
            _exhaust(buckets)
            return
        with fleet.busy:
            self._send(fleet, version, buckets)

    def _send(self, fleet: Fleet, version: int, buckets: Iterable[Bucket]) -> None:
        digest = _start(fleet, self._deadline_s)
        for bucket in buckets:
            tensors = {name: tensor.contiguous() for name, tensor in bucket.items()}
            digest.add(tensors)
            pending = fleet.ask("receive", (_described(tensors),))
            sending = InBackground(lambda tensors=tensors: self._broadcast(tensors.values()))  # type: ignore[misc]
            fleet.collect(pending, self._deadline_s, "receive a bucket of weights by NCCL", sending)
            sending.result(self._deadline_s, "broadcast a bucket of weights")
        _finish(fleet, version, digest, self._deadline_s)

    def _broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        stream = torch.cuda.current_stream() if torch.cuda.is_available() else None
        for tensor in tensors:
            self._group.broadcast(tensor, src=0, stream=stream)
        if stream:
            stream.synchronize()


class Ipc:
    """Every rank shares a buffer on its GPU with the servers that sit on the same GPU.

    group: of all ranks, for what is not tensors. share: tensor -> (UUID of its GPU, handle with which another process opens it),
    by default CUDA's.
    """

    def __init__(
        self,
        settings: SyncConfig,
        group: Any,
        share: Callable[[torch.Tensor], tuple[str, tuple[Any, ...]]] | None = None,
    ) -> None:
        self._deadline_s, self._group = settings.deadline_s, group
        self._share = share or _cuda_handle
        self._buffer: torch.Tensor | None = None

    def connect(self, fleet: Fleet | None) -> None:
        """Tell the servers how a bucket lies in the buffer: tensor after tensor."""
        if fleet:
            fleet.collect(fleet.ask("open_transfer", ({"packed": True},)), self._deadline_s, "open its end of CUDA IPC")

    def send(self, fleet: Fleet | None, version: int, buckets: Iterable[Bucket]) -> None:
        """See `Transport.send`. The buffer is filled anew only when every server has copied what was in it."""
        digest = _start(fleet, self._deadline_s) if fleet else None
        for bucket in buckets:
            handle = self._share(self._packed(bucket))
            handles: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(handles, handle, group=self._group)
            if fleet and digest:
                digest.add(bucket)
                sizes = [tensor.nbytes for tensor in bucket.values()]
                info = _described(bucket) | {"ipc_handles": dict(handles), "tensor_sizes": sizes}
                fleet.collect(
                    fleet.ask("receive", (info,)), self._deadline_s, "receive a bucket of weights by CUDA IPC"
                )
            dist.barrier(self._group)
        if fleet and digest:
            _finish(fleet, version, digest, self._deadline_s)
        # The servers' cache wants the memory next.
        self._buffer = None
        if torch.cuda.is_available():
            torch.cuda.ipc_collect()

    def _packed(self, bucket: Bucket) -> torch.Tensor:
        """The bucket's bytes end to end in this rank's buffer."""
        tensors = list(bucket.values())
        size = sum(tensor.nbytes for tensor in tensors)
        if self._buffer is None or len(self._buffer) < size:
            self._buffer = torch.empty(size, dtype=torch.uint8, device=tensors[0].device)
        at = 0
        for tensor in tensors:
            self._buffer[at : at + tensor.nbytes] = tensor.contiguous().reshape(-1).view(torch.uint8)
            at += tensor.nbytes
        if self._buffer.is_cuda:
            torch.cuda.synchronize()
        return self._buffer


def send_adapter(fleet: Fleet | None, version: int, buckets: Iterable[Bucket]) -> None:
    """Hand over LoRA adapters, through the object store, to servers that have the weights they are added to. See `Transport.send`."""
    if fleet:
        fleet.push(publish(version, buckets, fleet.base))
    else:
        _exhaust(buckets)


def transport_of(name: str, settings: SyncConfig, group: Any) -> Transport:
    """name: `object_store`, `nccl` or `ipc` (see `RunConfig.transport`). group: of all ranks, for what is not tensors."""
    if name == "object_store":
        return ObjectStore()
    return Nccl(settings) if name == "nccl" else Ipc(settings, group)


class InBackground:
    """A call in a thread of its own, which this process does not wait for when it ends: what blocks in it may block for ever."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._device = torch.cuda.current_device() if torch.cuda.is_available() else None
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            if self._device is not None:
                torch.cuda.set_device(self._device)
            self._result = call()
        # Raised again where the result is asked for.
        except BaseException as error:
            self._error = error

    def check(self, doing: str) -> None:
        """Raise RunError where the call has failed."""
        if self._error is not None:
            raise RunError(f"the learner failed while the servers should {doing}: {self._error}") from self._error

    def result(self, deadline_s: float, doing: str) -> Any:
        """What the call returned. Raises RunError where it failed or did not end in time."""
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            raise RunError(f"the learner did not {doing} within {deadline_s:.0f} s (sync.deadline_s).")
        self.check(doing)
        return self._result


def _start(fleet: Fleet, deadline_s: float) -> Fingerprint:
    fleet.collect(fleet.ask("start_update", ()), deadline_s, "prepare for new weights")
    return Fingerprint()


def _finish(fleet: Fleet, version: int, digest: Fingerprint, deadline_s: float) -> None:
    acknowledged = fleet.collect(fleet.ask("finish_update", (version,)), deadline_s, f"take over weights {version}")
    fleet.adopt(WeightVersion(version, None, digest.hexdigest()), acknowledged)


def _described(bucket: Bucket) -> dict[str, Any]:
    """Names, types and shapes, in the words of vLLM's transfer engines."""
    return {
        "names": list(bucket),
        "dtype_names": [str(tensor.dtype).removeprefix("torch.") for tensor in bucket.values()],
        "shapes": [list(tensor.shape) for tensor in bucket.values()],
    }


def _join_as_first(address: str, port: int, size: int) -> Any:
    from vllm.distributed.weight_transfer.nccl_common import stateless_init_process_group

    return stateless_init_process_group(address, port, 0, size, torch.cuda.current_device())


def _cuda_handle(tensor: torch.Tensor) -> tuple[str, tuple[Any, ...]]:
    from torch.multiprocessing.reductions import reduce_tensor

    return str(torch.cuda.get_device_properties(tensor.device).uuid), reduce_tensor(tensor)[1]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def _exhaust(buckets: Iterable[Bucket]) -> None:
    for _ in buckets:
        pass
