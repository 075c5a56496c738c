"""NCCL and IPC over stub ZeRO-3 parameters and fake servers behind real Ray actors; a folder stands for the wire."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from fakes import servers
from fakes.servers import FolderGroup, Trouble, journal
from torch import nn

from orchestrator.config.schema import FleetConfig, RunConfig, SyncConfig
from orchestrator.director import Director
from orchestrator.errors import RunError
from orchestrator.fleets.fleet import Fleet
from orchestrator.fleets.specs import Seat, share_seats
from orchestrator.fleets.transports import Ipc, Nccl, ObjectStore, Transport
from orchestrator.learning.engine import Engine
from orchestrator.values import Call, Sampling

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("one_rank")]
QUICKLY = SyncConfig(deadline_s=20)


class StubZero:
    """Stands for `deepspeed.zero.GatheredParameters`: parameters have their values inside the block alone."""

    open_elements: ClassVar[list[int]] = []

    def __init__(self, parameters: Sequence[Any], enabled: bool) -> None:
        assert enabled
        self._parameters = parameters

    def __enter__(self) -> None:
        StubZero.open_elements.append(sum(parameter.ds_numel for parameter in self._parameters))
        for parameter in self._parameters:
            parameter.data = parameter.whole

    def __exit__(self, *error: Any) -> None:
        for parameter in self._parameters:
            parameter.data = parameter.whole.new_empty(0)


def stub_parameter(whole: torch.Tensor) -> nn.Parameter:
    """As ZeRO-3 leaves a parameter: empty, its true size in ds_numel and ds_shape."""
    parameter: Any = nn.Parameter(whole.new_empty(0), requires_grad=False)
    parameter.whole, parameter.ds_numel, parameter.ds_shape = whole, whole.numel(), whole.shape
    return parameter


WHOLE = {
    "embedding": torch.arange(24, dtype=torch.float32).reshape(6, 4),
    "norm": torch.full((4,), 0.5, dtype=torch.bfloat16),
    "head": torch.arange(8, dtype=torch.float32).reshape(2, 4) - 3,
}


@pytest.fixture
def buckets(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The learner's weights in buckets of 96 bytes: embedding (24 x 4 = 96) | norm (4 x 2) and head (8 x 4), 40."""
    import deepspeed

    monkeypatch.setattr(deepspeed.zero, "GatheredParameters", StubZero)
    StubZero.open_elements = []
    engine = object.__new__(Engine)
    engine.stage = 3
    return engine.weights([(name, stub_parameter(whole)) for name, whole in WHOLE.items()], 96)


@pytest.fixture(scope="module")
def pair(ray_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    folder = tmp_path_factory.mktemp("servers")
    with servers.running(folder, 2) as handles:
        warm_up(Fleet("policy", handles, 60, 60, 2))
        yield folder, handles


def fleet_of(pair: tuple[Path, list[Any]], *troubles: Trouble) -> tuple[Path, Fleet]:
    folder, handles = pair
    fleet = Fleet("policy", handles, 60, 60, 2)
    fleet.wait_ready()
    servers.arrange(folder, *troubles)
    return folder, fleet


def restart(fleet: Fleet) -> None:
    """End all servers and wait for those that Ray starts in their place."""
    import ray

    for handle in fleet.servers:
        ray.kill(handle, no_restart=False)
    for _ in range(100):
        time.sleep(0.2)
        try:
            fleet.wait_ready()
            break
        except RunError:
            continue
    warm_up(fleet)


def warm_up(fleet: Fleet) -> None:
    fleet.collect(fleet.ask("open_transfer", ({},)), 60, "import torch")


def transport_over(kind: str, folder: Path, settings: SyncConfig = QUICKLY) -> Transport:
    def share(tensor: torch.Tensor) -> tuple[str, tuple[Any, ...]]:
        torch.save(tensor.clone(), folder / "shared.pt")
        return "GPU-0", (str(folder / "shared.pt"),)

    if kind == "nccl":
        return Nccl(settings, lambda address, port, size: FolderGroup(folder, port))
    return Ipc(settings, None, share) if kind == "ipc" else ObjectStore()


@pytest.mark.parametrize("kind", ["nccl", "ipc"])
def test_every_server_gets_every_tensor_whole_in_as_many_messages_as_buckets(
    pair: Any, buckets: Any, kind: str
) -> None:
    """Two buckets: start, two receives, finish. The acknowledged fingerprints are those of the whole tensors, or it would raise.
    No more than a bucket is gathered at once: 24 elements, then 4 + 8."""
    folder, fleet = fleet_of(pair)
    transport = transport_over(kind, folder)
    transport.connect(fleet)
    transport.send(fleet, 7, buckets)
    assert fleet.version == 7
    for server in ("policy-0", "policy-1"):
        opened, *update = journal(folder, server)
        assert opened.startswith("open ")
        assert update == ["start update", "receive embedding", "receive norm head", "finish update 7"]
    assert StubZero.open_elements == [24, 12]


def test_the_servers_join_after_rank_0_one_after_the_other(pair: Any) -> None:
    """A group of 3: the learner's rank 0, then one worker of each server."""
    folder, fleet = fleet_of(pair)
    transport_over("nccl", folder).connect(fleet)
    infos = [json.loads(journal(folder, server)[0].removeprefix("open ")) for server in ("policy-0", "policy-1")]
    assert [(info["rank_offset"], info["world_size"]) for info in infos] == [(1, 3), (2, 3)]
    assert len({(info["master_address"], info["master_port"]) for info in infos}) == 1


@pytest.mark.parametrize("kind", ["nccl", "ipc"])
def test_a_server_that_fails_in_the_middle_is_named_with_its_words(pair: Any, buckets: Any, kind: str) -> None:
    folder, fleet = fleet_of(pair, Trouble("policy-1", "raise_receiving", at=2))
    transport = transport_over(kind, folder)
    transport.connect(fleet)
    with pytest.raises(RunError, match=r"^policy-1 failed while it should receive a bucket .*: ValueError: no room"):
        transport.send(fleet, 8, buckets)
    assert "finish update 8" not in journal(folder, "policy-0")


def test_a_server_that_hangs_ends_the_sync_at_its_deadline(pair: Any, buckets: Any) -> None:
    """1.5 s for a message, of which the first is answered and the second never."""
    folder, fleet = fleet_of(pair, Trouble("policy-0", "hang_receiving", at=1))
    transport = transport_over("nccl", folder, SyncConfig(deadline_s=1.5))
    transport.connect(fleet)
    started = time.monotonic()
    with pytest.raises(RunError, match=r"^policy-0 did not receive a bucket of weights by NCCL within 2 s"):
        transport.send(fleet, 9, buckets)
    assert time.monotonic() - started < 10
    restart(fleet)


def test_a_broadcast_that_nobody_joins_ends_at_its_deadline(pair: Any, buckets: Any) -> None:
    """The servers have all they need, but the learner's own end blocks, as NCCL does when a peer is gone."""
    folder, fleet = fleet_of(pair)

    class Blocking(FolderGroup):
        def broadcast(self, tensor: Any, src: int, stream: Any) -> None:
            super().broadcast(tensor, src, stream)
            time.sleep(60)

    transport = Nccl(SyncConfig(deadline_s=6), lambda address, port, size: Blocking(folder, port))
    transport.connect(fleet)
    # Only the first bucket's one tensor is sent before the block.
    with pytest.raises(RunError, match=r"^the learner did not broadcast a bucket of weights within 6 s"):
        transport.send(fleet, 10, buckets)


def test_a_server_lost_after_weights_that_lie_nowhere_says_what_to_do(pair: Any, buckets: Any) -> None:
    folder, fleet = fleet_of(pair)
    transport = transport_over("ipc", folder)
    transport.connect(fleet)
    transport.send(fleet, 11, buckets)
    restart(fleet)
    with pytest.raises(RunError, match=r"lie nowhere else: resume the run.*sync.transport=object_store"):
        fleet.complete([Call("a", "policy", (), Sampling(8), seed=1)])


def test_a_tensor_that_was_not_gathered_is_not_sent() -> None:
    engine = object.__new__(Engine)
    engine.stage = 2
    with pytest.raises(RunError, match=r"\['norm'\] are empty on this rank"):
        next(engine.weights([("norm", stub_parameter(WHOLE["norm"]))], 96))


def test_servers_sleep_and_wake_in_two_phases(pair: Any) -> None:
    folder, fleet = fleet_of(pair)
    fleet.sleep(2)
    fleet.wake("weights")
    fleet.wake("kv_cache")
    for server in ("policy-0", "policy-1"):
        assert journal(folder, server) == ["sleep 2", "wake weights", "wake kv_cache"]


@pytest.mark.parametrize(("part", "number"), [("weights", 1), ("kv_cache", 2)])
def test_a_failed_wake_puts_all_to_sleep_again(pair: Any, part: str, number: int) -> None:
    """policy-1 runs out of memory in one of the two phases: both servers end asleep, at the level of before."""
    folder, fleet = fleet_of(pair, Trouble("policy-1", "raise_waking", at=number))
    director = object.__new__(Director)
    director.config, director.fleets = RunConfig(), {"policy": fleet}
    fleet.sleep(2)
    with pytest.raises(RunError, match=rf"^policy-1 failed .* wake its {part}: MemoryError.*gpu_memory_share"):
        director.wake(["policy"], ["weights", "kv_cache"])
    for server in ("policy-0", "policy-1"):
        assert journal(folder, server)[-2:] == [f"wake {part}", "sleep 2"]


@pytest.mark.parametrize(
    ("placement", "learner_gpus", "server_gpus", "expected"),
    [
        ("split", 0, 0, "object_store"),
        ("split", 1, 2, "nccl"),
        ("split", 0.4, 0.3, "object_store"),
        ("colocated", 1, 1, "ipc"),
        ("colocated", 0, 0, "object_store"),
    ],
)
def test_auto_chooses_by_where_the_gpus_are(
    placement: str, learner_gpus: float, server_gpus: float, expected: str
) -> None:
    config = RunConfig()
    config.placement.name, config.learner.gpus_per_rank = placement, learner_gpus
    config.rollout.fleet.gpus_per_server = server_gpus
    assert config.transport() == expected


def test_colocated_servers_take_the_ranks_gpus_in_order() -> None:
    """Four ranks on two nodes of two GPUs; two servers of two GPUs get a node each, one of three would cross."""
    ranks = [
        Seat("a", ("0",)),
        Seat("a", ("1",)),
        Seat("b", ("0",)),
        Seat("b", ("1",)),
    ]
    seats = share_seats(ranks, FleetConfig(servers=2, gpus_per_server=2), "policy")
    assert seats == [Seat("a", ("0", "1")), Seat("b", ("0", "1"))]
    with pytest.raises(RunError, match=r"^policy-0 would use GPUs of ranks on 2 nodes"):
        share_seats(ranks, FleetConfig(servers=1, gpus_per_server=3), "policy")
