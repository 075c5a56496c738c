"""The twelve benchmarks, and what their episodes are worth. Components that protocols add: `jaccard` of articles and charges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.values import Episode, Scored
from workloads.legal_delta.benchmarks.choices import EXAMS, DiscLaw, LexEval
from workloads.legal_delta.benchmarks.items import Benchmark, cut
from workloads.legal_delta.benchmarks.lawbench import Amounts, Articles, CaseAnalysis, Charges, Terms, TermsByText

BENCHMARKS: Mapping[str, Benchmark] = {
    one.name: one
    for one in (
        Articles(), Charges(), LexEval(), CaseAnalysis(), Amounts(), Terms(), TermsByText(), *map(DiscLaw, EXAMS),
    )
}  # fmt: skip
"""By name, in the order of the paper's columns: SPP-F, CCP, SLP, CAS, CAC, then 3-4 and 3-5, which it does not report, and the exams
PAE, NJE, PFE, UNGEE and LBK."""


def scored(episodes: Sequence[Episode]) -> list[Scored]:
    """A verdict an episode, each a pure function of its text and its task's reference."""
    references = (episode.task.reference for episode in episodes)
    return [
        BENCHMARKS[reference["benchmark"]].mark(cut(episode.text), reference)
        for episode, reference in zip(episodes, references, strict=True)
    ]
