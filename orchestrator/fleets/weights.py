"""Weights on their way: what a bucket is, how two sides know that they hold the same, and how tensors lie in the object store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
"""The bits of a bfloat16, under a name that no other array has."""
FINGERPRINTED_BYTES = 4096
"""How much of each tensor is hashed: enough to tell two versions apart, little enough for any model."""

Bucket = Mapping[str, Any]
"""Whole tensors by their name in a checkpoint; as many as travel at once."""


def backend_of(transport: str) -> str:
    """vLLM's name of the transfer engine that takes over what one of our transports sends (`orchestrator.fleets.worker`)."""
    return f"orchestrator_{transport}"


@dataclass(frozen=True, slots=True)
class WeightVersion:
    """Weights that a fleet is to run on: which version, and what they look like. references: where they lie in the object
    store, a bucket each; None where they were handed over from GPU to GPU and lie nowhere. base: where these are LoRA adapters,
    the weights that servers add them to."""

    version: int
    references: tuple[Any, ...] | None
    fingerprint: str
    base: WeightVersion | None = None

    @property
    def parts(self) -> tuple[WeightVersion, ...]:
        """What a server is given, in order."""
        return (self,) if self.base is None else (self.base, self)


class Fingerprint:
    """Running hash over named tensors (or arrays), in the order in which they travel."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, bucket: Bucket) -> None:
        for name, values in bucket.items():
            self._digest.update(name.encode())
            head = values.reshape(-1)[: FINGERPRINTED_BYTES // values.itemsize]
            self._digest.update(to_array(head).tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def publish(version: int, buckets: Iterable[Bucket], base: WeightVersion | None = None) -> WeightVersion:
    """Put buckets of torch tensors (or NumPy arrays) into the object store, one object a bucket. base: see `WeightVersion`."""
    import ray

    digest = Fingerprint()
    references = []
    for bucket in buckets:
        arrays = {name: to_array(tensor) for name, tensor in bucket.items()}
        digest.add(arrays)
        references.append(ray.put(arrays))
    return WeightVersion(version, tuple(references), digest.hexdigest(), base)


def to_array(tensor: Any) -> Any:
    """NumPy array of a tensor (a view where it lies on the CPU); an array stays as it is. A bfloat16, which NumPy lacks, travels
    as its bits (`BFLOAT16`)."""
    if isinstance(tensor, np.ndarray):
        return tensor
    import torch

    tensor = tensor.detach().cpu()
    return tensor.view(torch.uint16).numpy().view(BFLOAT16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def to_tensor(array: Any) -> Any:
    """The inverse of `to_array`, as a copy: what lies in the object store cannot be written to."""
    import torch

    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
