"""Settings of the guard that compares training data with evaluation data (`orchestrator.contamination`)."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.config.settings import setting


@dataclass
class ContaminationConfig:
    """What is done where training data stand in evaluation data."""

    action: str = setting(
        "drop",
        "`drop` leaves what was found out of training; `report` says it and trains on; `refuse` ends the run before it starts.",
        choices=("drop", "report", "refuse"),
    )
    threshold: float = setting(
        0.8,
        "Share of an evaluation text's own shingles, those that few others have, from which on a training text is a near-duplicate.",
        low=0.01,
        high=1,
    )
    n: int = setting(16, "Letters and digits of a shingle.", low=4, high=64)
    against: str | None = setting(
        None,
        "What is evaluated besides the run's own held-out tasks: workloads and YAML files, as `orchestrate train` and `evaluate` take "
        "them, with commas between. Their evaluation tasks are compared too.",
    )
    sweep: str | None = setting(
        None,
        "A sweep's file that holds what its runs evaluate; a sweep sets it. null: none.",
        indifferent=True,
    )
