"""The part that runs inside vLLM's workers: takes over new weights through vLLM's weight-transfer API, and says what it got.

vLLM imports this module in each worker (`worker_extension_cls`), before it creates the worker's transfer engine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine

from orchestrator.fleets.weights import Bucket, Fingerprint, backend_of, to_tensor


class Fingerprinted(WeightTransferEngine[Any, Any]):
    """Mixed into a transfer engine: hashes each tensor that the model is given between start and finish."""

    fingerprint = ""

    def start_weight_update(self) -> None:
        digest, load = Fingerprint(), type(self.model).load_weights

        def load_and_hash(weights: Iterable[tuple[str, torch.Tensor]]) -> Any:
            named = list(weights)
            digest.add(dict(named))
            return load(self.model, named)

        super().start_weight_update()
        self._digest = digest
        self.model.load_weights = load_and_hash

    def finish_weight_update(self) -> None:
        del self.model.load_weights
        super().finish_weight_update()
        self.fingerprint = self._digest.hexdigest()


@dataclass
class NoInit(WeightTransferInitInfo):
    """The object store needs no rendezvous."""


@dataclass
class BucketUpdate(WeightTransferUpdateInfo):
    """bucket: arrays by checkpoint name, as they lie in the object store."""

    bucket: Bucket


class ObjectStoreReceiver(WeightTransferEngine[NoInit, BucketUpdate]):
    """Takes over buckets that its server read from Ray's object store. Works on the CPU too, where vLLM has no engine of its own."""

    init_info_cls = NoInit
    update_info_cls = BucketUpdate

    def init_transfer_engine(self, init_info: NoInit) -> None:
        """Nothing to do."""

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        # vLLM's own waits for an accelerator, which the CPU has none of.
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: BucketUpdate) -> None:
        self.model.load_weights((name, to_tensor(array)) for name, array in update_info.bucket.items())

    def finish_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        self._refresh_tied_head()

    def _refresh_tied_head(self) -> None:
        """On the CPU a tied output head keeps a packed copy of the old embedding; without this it goes on answering with it."""
        from vllm.platforms import current_platform

        if not current_platform.is_cpu() or not getattr(self.model.config, "tie_word_embeddings", False):
            return
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        dispatch_cpu_unquantized_gemm(self.model.lm_head, remove_weight=False)

    def shutdown(self) -> None:
        """Nothing to give back."""


class FingerprintedObjectStore(Fingerprinted, ObjectStoreReceiver):
    """Receiver of `object_store`."""


class FingerprintedNccl(Fingerprinted, NCCLWeightTransferEngine):
    """Receiver of `nccl`."""


class FingerprintedIpc(Fingerprinted, IPCWeightTransferEngine):
    """Receiver of `ipc`."""


WeightTransferEngineFactory.register_engine(backend_of("object_store"), FingerprintedObjectStore)
WeightTransferEngineFactory.register_engine(backend_of("nccl"), FingerprintedNccl)
WeightTransferEngineFactory.register_engine(backend_of("ipc"), FingerprintedIpc)


class WorkerExtension:
    """Mixed into vLLM's worker class, so `self` is a worker."""

    weight_transfer_engine: Fingerprinted

    def weights_fingerprint(self) -> str:
        """Of the weights that were taken over last."""
        return self.weight_transfer_engine.fingerprint
