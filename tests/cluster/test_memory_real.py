"""Estimates of memory against what the real learner allocates, at small size."""

from __future__ import annotations

import socket
from typing import Any

import memory_rank
import pytest
import torch
import torch.multiprocessing as multiprocessing

from orchestrator.cluster import memory
from orchestrator.learning import model, zero


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("memory") / "results.pt"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    multiprocessing.spawn(memory_rank.work, (port, str(path), list(memory_rank.cases())), nprocs=1)
    results: dict[str, Any] = torch.load(path, weights_only=True)
    return results


@pytest.fixture
def estimate(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The estimate of a case, with the small buckets and chunks that it was measured with."""
    monkeypatch.setattr(memory, "BUCKET_ELEMENTS", memory_rank.BUCKET_ELEMENTS)
    monkeypatch.setattr(memory, "LOGIT_ELEMENTS", memory_rank.LOGIT_ELEMENTS)

    def of(case: memory_rank.Case) -> memory.LearnerMemory:
        size = memory.Work(case.rows * case.row, case.rows * case.learned, case.row)
        return memory.learner_memory(case.shape, case.learner, case.dtype, size, case.reference, gpu=False)

    return of


@pytest.mark.long
@pytest.mark.parametrize("name", memory_rank.cases())
def test_the_real_learner_takes_what_is_estimated(name: str, measured: dict[str, Any], estimate: Any) -> None:
    needs = estimate(memory_rank.cases()[name])
    moments = {moment: sum(needs.at(moment).values()) for moment in needs.moments}
    told = f"measured {measured[name]}, estimated {moments}"
    assert sum(needs.resident.values()) == pytest.approx(measured[name]["resident"], rel=0.02), told
    assert moments.pop("step") == pytest.approx(measured[name]["step"], rel=0.05), told
    assert max(moments.values()) == pytest.approx(measured[name]["score"], rel=0.15), told


def test_the_constants_are_those_of_the_learner() -> None:
    assert memory.BUCKET_ELEMENTS == zero.BUCKET_ELEMENTS
    assert model.TokenScorer.logits_at_once == memory.LOGIT_ELEMENTS
