"""What a workload gathers, of models that are functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fakes.answerers import FakeAnswerer

from orchestrator.config.schema import ServedConfig
from orchestrator.gathering import gather
from orchestrator.values import Gathered


def gathered(made: Any, answer: Any = None) -> tuple[Gathered, FakeAnswerer]:
    """What the workload gathers, and the one function that was all models."""
    fleet = FakeAnswerer(answer)

    @contextmanager
    def opened(role: str, served: ServedConfig) -> Iterator[FakeAnswerer]:
        yield fleet

    found = gather(made.config, made, str, opened)
    assert found is not None
    return found, fleet
