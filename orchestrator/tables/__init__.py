"""A paper's table as a view of a sweep: declared, computed from stored episodes, written down and verified.

This is what a workload's tables.py imports; it imports no framework.
"""

from __future__ import annotations

from orchestrator.tables.declare import (
    LAST,
    START,
    Average,
    Claim,
    Column,
    Difference,
    Half,
    Measured,
    Metric,
    Published,
    Row,
    Table,
)
from orchestrator.tables.metrics import component, cut_off, gap, judged, length, reward, truth

__all__ = [
    "LAST",
    "START",
    "Average",
    "Claim",
    "Column",
    "Difference",
    "Half",
    "Measured",
    "Metric",
    "Published",
    "Row",
    "Table",
    "component",
    "cut_off",
    "gap",
    "judged",
    "length",
    "reward",
    "truth",
]
