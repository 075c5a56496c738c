"""One process of one rank for all tests that need DeepSpeed but not several ranks: importing it takes most of their time."""

from __future__ import annotations

import socket
from typing import Any

import one_rank
import pytest
import torch
import torch.multiprocessing as multiprocessing


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of every case of `one_rank`, by its name."""
    path = tmp_path_factory.mktemp("learned") / "results.pt"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    multiprocessing.spawn(one_rank.work, (port, str(path)), nprocs=1)
    results: dict[str, Any] = torch.load(path, weights_only=False)
    return results
