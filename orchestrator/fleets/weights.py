"""The object-store weight transport: the learner publishes buckets once, every server reads them from shared memory."""

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


@dataclass(frozen=True, slots=True)
class WeightVersion:
    """Published weights: which version, where, and what they look like."""

    version: int
    references: tuple[Any, ...]
    fingerprint: str


class Fingerprint:
    """Running hash over buckets of named arrays."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)

    def add(self, bucket: Mapping[str, Any]) -> None:
        for name, array in bucket.items():
            self._digest.update(name.encode())
            self._digest.update(array.reshape(-1)[: FINGERPRINTED_BYTES // array.itemsize].tobytes())

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def publish(version: int, buckets: Iterable[Mapping[str, Any]]) -> WeightVersion:
    """Put buckets of torch tensors (or NumPy arrays) into the object store, one object a bucket."""
    import ray

    digest = Fingerprint()
    references = []
    for bucket in buckets:
        arrays = {name: to_array(tensor) for name, tensor in bucket.items()}
        digest.add(arrays)
        references.append(ray.put(arrays))
    return WeightVersion(version, tuple(references), digest.hexdigest())


def to_array(tensor: Any) -> Any:
    """NumPy view of a CPU tensor; an array stays as it is. A bfloat16, which NumPy lacks, travels as its bits (`BFLOAT16`)."""
    import torch

    if not isinstance(tensor, torch.Tensor):
        return tensor
    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy().view(BFLOAT16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def to_tensor(array: Any) -> Any:
    """The inverse of `to_array`, as a copy: what lies in the object store cannot be written to."""
    import torch

    if isinstance(array, torch.Tensor):
        return array
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array.view(np.uint16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
