"""Everything about one run's folder: `Run("runs/rlvr/x").episodes().to_pandas()`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


class Run:
    """A run to look at, finished or still going on. Raises NoRunError where the folder is none."""

    def __init__(self, path: str | Path) -> None:
        from orchestrator.records.folder import RunFolder

        self.folder = RunFolder.open(path)

    def episodes(self, split: str | None = None, steps: Sequence[int] | None = None) -> pa.Table:
        """All episodes, one a row (columns: `orchestrator.records.episodes.SCHEMA`)."""
        from orchestrator.records import episodes

        return episodes.read(self.folder, split, steps)

    def metrics(self) -> pa.Table:
        """One row a step. Null: not measured in that step."""
        import pyarrow.parquet as pq

        from orchestrator.records import metrics

        if self.folder.metrics_log.exists():
            return metrics.table(metrics.read(self.folder.metrics_log))
        if self.folder.metrics_parquet.exists():
            return pq.read_table(self.folder.metrics_parquet)
        return metrics.table([])

    def ledger(self) -> pa.Table:
        """Seconds and GPU-seconds a phase of every step."""
        from orchestrator.records import ledger

        return ledger.read(self.folder.ledger_log)

    def summary(self) -> dict[str, Any]:
        """The numbers of the run: summary.json, or computed now where the run has not written it yet."""
        from orchestrator.records.folder import read_json
        from orchestrator.records.report import summarise

        if self.folder.summary.exists():
            return read_json(self.folder.summary)
        return summarise(self.folder)

    def checkpoint(self) -> Path | None:
        """The newest checkpoint, None where there is none yet."""
        return self.folder.newest_checkpoint()

    def __repr__(self) -> str:
        return f"Run({str(self.folder.path)!r})"
