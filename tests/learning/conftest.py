"""One start of one rank and one of two for all tests that need DeepSpeed: importing it takes most of their time."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import one_rank
import pytest
import torch
import torch.multiprocessing as multiprocessing
import two_ranks


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Results of every case of `one_rank`, by its name."""
    path = tmp_path_factory.mktemp("learned") / "results.pt"
    multiprocessing.spawn(one_rank.work, (free_port(), str(path)), nprocs=1)
    results: dict[str, Any] = torch.load(path, weights_only=False)
    return results


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every case of `two_ranks` wrote, by the name of its file."""
    folder: Path = tmp_path_factory.mktemp("trained")
    multiprocessing.spawn(two_ranks.work, ((free_port(), free_port()), folder), nprocs=2)
    return {path.stem: torch.load(path, weights_only=False) for path in sorted(folder.glob("*.pt"))}
