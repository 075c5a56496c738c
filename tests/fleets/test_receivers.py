"""vLLM's own receiving engines, given what the transports send; a list stands for NCCL and a buffer for CUDA IPC."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from orchestrator.fleets.transports import _described
from orchestrator.fleets.weights import Fingerprint, to_array

pytestmark = pytest.mark.stack
WEIGHTS = {
    "embedding": torch.arange(24, dtype=torch.float32).reshape(6, 4),
    "norm": torch.full((4,), 0.5, dtype=torch.bfloat16),
}


class Model(nn.Module):
    """Takes over weights as a model of vLLM does."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(tie_word_embeddings=False)
        self.taken: dict[str, torch.Tensor] = {}

    def load_weights(self, weights: Any) -> set[str]:
        self.taken |= {name: tensor.clone() for name, tensor in weights}
        return set(self.taken)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    from vllm.model_executor.model_loader import reload

    # They work on vLLM's layers, of which this model has none.
    monkeypatch.setattr(reload, "initialize_layerwise_reload", lambda model: None)
    monkeypatch.setattr(reload, "finalize_layerwise_reload", lambda model, config: None)
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda: None)
    return Model()


def receiver(kind: str, model: Model) -> Any:
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    import orchestrator.fleets.worker  # noqa: F401  registers the receivers
    from orchestrator.fleets.weights import backend_of

    made = WeightTransferEngineFactory._registry[backend_of(kind)]()
    config = SimpleNamespace(parallel_config=SimpleNamespace(), model_config=None)
    return made(None, config, torch.device("cuda", 0), model)


def take_over(engine: Any, model: Model, info: dict[str, Any]) -> None:
    """As a worker does; then the model holds the weights, and the fingerprint is that of the sender."""
    engine.start_weight_update()
    engine.update_weights(info)
    engine.finish_weight_update()
    sent = Fingerprint()
    sent.add(WEIGHTS)
    assert engine.fingerprint == sent.hexdigest()
    assert list(model.taken) == list(WEIGHTS)
    for name, tensor in WEIGHTS.items():
        assert model.taken[name].dtype == tensor.dtype
        assert bool((model.taken[name] == tensor).all())
    assert model.load_weights.__func__ is Model.load_weights, "the model loads weights as before"


def test_nccl(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    class Group:
        sent = iter(WEIGHTS.values())

        def broadcast(self, tensor: torch.Tensor, src: int, stream: Any) -> None:
            tensor.copy_(next(self.sent))

    engine = receiver("nccl", model)
    engine.device, engine.model_update_group = torch.device("cpu"), Group()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    take_over(engine, model, _described(WEIGHTS))


def test_ipc(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffer is larger than the bucket, as it is after a larger one. Index 6 of a handle is the receiver's device."""
    content = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in WEIGHTS.values()])
    buffer = torch.cat([content, torch.full((7,), 255, dtype=torch.uint8)])
    engine = receiver("ipc", model)
    opened: list[Any] = []
    monkeypatch.setattr(engine._packed_importer, "rebuild", lambda handle: opened.append(handle) or buffer)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="GPU-7"))
    engine.init_transfer_engine(engine.parse_init_info({"packed": True}))
    handles = {"GPU-3": (), "GPU-7": ("memory", 1, 2, 3, 4, 5, 5, 7)}
    sizes = [tensor.nbytes for tensor in WEIGHTS.values()]
    take_over(engine, model, _described(WEIGHTS) | {"ipc_handles": handles, "tensor_sizes": sizes})
    assert opened == [["memory", 1, 2, 3, 4, 5, 0, 7]]


def test_object_store(model: Model) -> None:
    take_over(receiver("object_store", model), model, {"bucket": {name: to_array(t) for name, t in WEIGHTS.items()}})


def test_a_tensor_that_changed_on_its_way_has_another_fingerprint(model: Model) -> None:
    engine = receiver("object_store", model)
    changed = WEIGHTS | {"norm": WEIGHTS["norm"] + 1}
    with pytest.raises(AssertionError):
        take_over(engine, model, {"bucket": {name: to_array(t) for name, t in changed.items()}})
