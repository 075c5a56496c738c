"""Which items of an evaluation stand in training data, whole or nearly.

An evaluation text is found in a training item by its shingles (runs of n letters and digits; Broder 1997, "On the resemblance and
containment of documents"): the share of its own ones that are also the item's, its containment there. Its own are those that are rare
on both sides and touch none that is not; of all rare ones half must be there too. So neither a common instruction nor the sentences of
a grammar, which its stories put together in many ways, make two texts alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array, diags_array

from orchestrator.config.contamination import ContaminationConfig
from orchestrator.contamination.items import Item, bare

RARE_SHARE, RARE_LEAST, RARE_MOST = 0.05, 3, 20
"""A shingle or mark is rare where at most this share of a side's groups has it, which is held between so many (of a few groups a third,
and one in any case) and so many."""
FEWEST_GROUPS = 3
"""Of a side that tells what is common. Where both have fewer, an instruction looks like a text of its own: only whole ones count."""
FEWEST = 16
"""Own shingles of a text that has something to be known by; others are found by their marks alone."""
LEAST_OF_RARE = 0.5
"""Share of a text's rare shingles that must be there beside its own ones."""
BASE = np.uint64(0x9E3779B97F4A7C15)
"""Of the polynomial hash of a shingle, modulo 2^64."""
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Match:
    """training, evaluation: indices of the items. similarity: containment, 1 for a whole text (`exact`)."""

    training: int
    evaluation: int
    similarity: float
    exact: bool


def matches(training: Sequence[Item], evaluation: Sequence[Item], settings: ContaminationConfig) -> list[Match]:
    """All pairs of which the evaluation item stands in the training item, in their order, each once."""
    return Trained.of(training, settings.n).matches(evaluation, settings.threshold)


def most_that_is_rare(groups: int) -> int:
    """How many of so many groups may have what is rare."""
    return min(RARE_MOST, max(1, min(RARE_LEAST, groups // 3), int(groups * RARE_SHARE)))


def _by_mark(items: Sequence[Item]) -> dict[str, list[int]]:
    """The items by their rare marks."""
    groups, found = _groups(items), defaultdict[str, list[int]](list)
    for index, item in enumerate(items):
        for mark in item.marks:
            found[mark].append(index)
    most = most_that_is_rare(len(set(groups.tolist())))
    return {mark: those for mark, those in found.items() if len(set(groups[those].tolist())) <= most}


def _groups(items: Sequence[Item]) -> Numbers:
    """A number for each item's group."""
    numbers = {group: number for number, group in enumerate(dict.fromkeys(item.group for item in items))}
    return np.array([numbers[item.group] for item in items], dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Shingles:
    """All shingles of several texts in their order, those of a text side by side. rows: the text of each. starts: where each begins,
    in characters of all texts together."""

    hashes: npt.NDArray[np.uint64]
    rows: Numbers
    starts: Numbers

    @classmethod
    def of(cls, texts: Sequence[str], n: int) -> Shingles:
        """Of each text's letters and digits; a text of fewer than n has none."""
        cleaned = [bare(text) for text in texts]
        codes = np.frombuffer("".join(cleaned).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
        lengths = np.array([len(text) for text in cleaned], dtype=np.int64)
        rows, ends = np.repeat(np.arange(len(texts)), lengths), np.repeat(np.cumsum(lengths), lengths)
        starts = np.flatnonzero(np.arange(len(codes)) + n <= ends)
        hashes = np.zeros(max(0, len(codes) - n + 1), dtype=np.uint64)
        for offset in range(n):
            hashes = hashes * BASE + codes[offset : offset + len(hashes)]
        return cls(hashes[starts], rows[starts], starts)

    def by_hash(self) -> Shingles:
        """The same in the order of their hashes."""
        order = np.argsort(self.hashes)
        return Shingles(self.hashes[order], self.rows[order], self.starts[order])

    def apart_from(self, others: npt.NDArray[np.bool_], n: int) -> npt.NDArray[np.bool_]:
        """Which shingles share no character with any of `others`, a mask. Those of two texts never do."""
        if not len(self.starts):
            return others
        taken = np.zeros(self.starts[-1] + 2 * n, dtype=np.int64)
        taken[self.starts[others] + n] = 1
        before = np.cumsum(taken)
        return before[self.starts + 2 * n - 1] == before[self.starts]


@dataclass(frozen=True, slots=True)
class Trained:
    """Items of training, to be compared with one evaluation after another. shingles: by hash. marks: items by their rare marks."""

    items: Sequence[Item]
    groups: Numbers
    shingles: Shingles
    marks: Mapping[str, list[int]]
    n: int

    @classmethod
    def of(cls, items: Sequence[Item], n: int) -> Trained:
        """n: letters and digits of a shingle."""
        shingles = Shingles.of(["\n".join(item.texts) for item in items], n).by_hash()
        return cls(items, _groups(items), shingles, _by_mark(items), n)

    def matches(self, evaluation: Sequence[Item], threshold: float) -> list[Match]:
        """All pairs of which the evaluation item stands in the training item, in their order, each once."""
        if not self.items or not evaluation:
            return []
        found = {(match.training, match.evaluation): match for match in self._near(evaluation, threshold)}
        asked = _by_mark(evaluation)
        for mark in self.marks.keys() & asked.keys():
            found |= {(mine, one): Match(mine, one, 1.0, True) for one in asked[mark] for mine in self.marks[mark]}
        return [found[pair] for pair in sorted(found)]

    def _near(self, evaluation: Sequence[Item], threshold: float) -> list[Match]:
        """Pairs of which a text of the evaluation item is contained in the training item."""
        passages = [(index, text) for index, item in enumerate(evaluation) for text in item.texts]
        asked = Shingles.of([text for _, text in passages], self.n)
        asked_groups = _groups(evaluation)
        if max(self.groups.max(), asked_groups.max()) < FEWEST_GROUPS - 1:
            return []
        kinds, numbers = np.unique(asked.hashes, return_inverse=True)
        rows, known = self._known(kinds)
        is_rare = _rare(asked_groups[[index for index, _ in passages]], asked.rows, numbers, len(kinds))
        is_rare &= _rare(self.groups, rows, known, len(kinds))
        rare, kept = is_rare[numbers], is_rare[known]
        own = asked.apart_from(~rare, self.n)
        trained = _table(rows[kept], known[kept], len(self.items), len(kinds))
        of_own, counts = _shares(_table(asked.rows[own], numbers[own], len(passages), len(kinds)), trained)
        of_rare, _ = _shares(_table(asked.rows[rare], numbers[rare], len(passages), len(kinds)), trained)
        best: dict[tuple[int, int], float] = {}
        for row, column in zip(*(of_own >= threshold).nonzero(), strict=True):
            if counts[row] >= FEWEST and of_rare[row, column] >= LEAST_OF_RARE:
                pair = int(column), passages[row][0]
                best[pair] = max(best.get(pair, 0.0), float(of_own[row, column]))
        return [Match(*pair, value, False) for pair, value in best.items()]

    def _known(self, kinds: npt.NDArray[np.uint64]) -> tuple[Numbers, Numbers]:
        """(item, place in `kinds`) of the shingles whose hash is among these. kinds: hashes, sorted."""
        if not len(kinds):
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
        places = np.minimum(np.searchsorted(kinds, self.shingles.hashes), len(kinds) - 1)
        there = kinds[places] == self.shingles.hashes
        return self.shingles.rows[there], places[there]


def _shares(asked: Any, trained: Any) -> tuple[Any, Numbers]:
    """(share of each asked row that is in each trained row, sparse; size of each asked row)."""
    counts = np.diff(asked.indptr)
    return diags_array(1 / np.maximum(counts, 1)).tocsr() @ (asked @ trained.T), counts


def _rare(groups: Numbers, rows: Numbers, numbers: Numbers, kinds: int) -> npt.NDArray[np.bool_]:
    """Which of so many kinds of shingles few enough groups have; all where there are too few groups to say.

    groups: of each text. rows, numbers: text and kind of each shingle.
    """
    names, places = np.unique(groups, return_inverse=True)
    if len(names) < FEWEST_GROUPS:
        return np.ones(kinds, dtype=bool)
    pairs = np.unique(numbers * np.int64(len(names)) + places[rows])
    return np.bincount(pairs // len(names), minlength=kinds) <= most_that_is_rare(len(names))


def _table(rows: Numbers, columns: Numbers, height: int, width: int) -> Any:
    """A sparse matrix that has a one wherever a row has a column."""
    table = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(height, width))
    table.data[:] = 1
    return table
