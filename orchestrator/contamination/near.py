"""Which items of an evaluation stand in training data, whole or nearly.

An evaluation text is found in a training item by its shingles (runs of n letters and digits; Broder 1997, "On the resemblance and
containment of documents"): the share of its own ones that are also the item's, its containment there. Its own are those that are rare
on both sides and touch none that is not; of all rare ones half must be there too. So neither a common instruction nor the sentences of
a grammar, which its stories put together in many ways, make two texts alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
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
    if not training or not evaluation:
        return []
    near, exact = _near(training, evaluation, settings), _exact(training, evaluation)
    found = {(match.training, match.evaluation): match for match in (*near, *exact)}
    return [found[pair] for pair in sorted(found)]


def most_that_is_rare(groups: int) -> int:
    """How many of so many groups may have what is rare."""
    return min(RARE_MOST, max(1, min(RARE_LEAST, groups // 3), int(groups * RARE_SHARE)))


# --- whole texts ---


def _exact(training: Sequence[Item], evaluation: Sequence[Item]) -> Iterable[Match]:
    """Pairs with a mark in common that is rare on both sides."""
    there, asked = _by_mark(training), _by_mark(evaluation)
    for mark in there.keys() & asked.keys():
        for one in asked[mark]:
            yield from (Match(other, one, 1.0, True) for other in there[mark])


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
    return np.array([numbers[item.group] for item in items])


# --- shingles ---


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
        lengths = np.array([len(text) for text in cleaned])
        rows, ends = np.repeat(np.arange(len(texts)), lengths), np.repeat(np.cumsum(lengths), lengths)
        starts = np.flatnonzero(np.arange(len(codes)) + n <= ends)
        hashes = np.zeros(max(0, len(codes) - n + 1), dtype=np.uint64)
        for offset in range(n):
            hashes = hashes * BASE + codes[offset : offset + len(hashes)]
        return cls(hashes[starts], rows[starts], starts)

    def apart_from(self, others: npt.NDArray[np.bool_], n: int) -> npt.NDArray[np.bool_]:
        """Which shingles share no character with any of `others`, a mask. Those of two texts never do."""
        if not len(self.starts):
            return others
        taken = np.zeros(self.starts[-1] + 2 * n, dtype=np.int64)
        taken[self.starts[others] + n] = 1
        before = np.cumsum(taken)
        return before[self.starts + 2 * n - 1] == before[self.starts]


def _near(training: Sequence[Item], evaluation: Sequence[Item], settings: ContaminationConfig) -> list[Match]:
    """Pairs of which a text of the evaluation item is contained in the training item to `settings.threshold`."""
    passages = [(index, text) for index, item in enumerate(evaluation) for text in item.texts]
    asked = Shingles.of([text for _, text in passages], settings.n)
    there = Shingles.of(["\n".join(item.texts) for item in training], settings.n)
    kinds, asked_kinds = np.unique(asked.hashes, return_inverse=True)
    there_rows, there_kinds = _known(there, kinds)
    asked_groups, there_groups = _groups(evaluation)[[index for index, _ in passages]], _groups(training)
    is_rare = _rare(asked_groups[asked.rows], asked_kinds, len(set(asked_groups.tolist())), len(kinds))
    is_rare &= _rare(there_groups[there_rows], there_kinds, len(set(there_groups.tolist())), len(kinds))
    rare = is_rare[asked_kinds]
    own = asked.apart_from(~rare, settings.n)
    shape, kept = (len(passages), len(kinds)), is_rare[there_kinds]
    trained = _table(there_rows[kept], there_kinds[kept], (len(training), len(kinds)))
    of_own, counts = _shares(_table(asked.rows[own], asked_kinds[own], shape), trained)
    of_rare, _ = _shares(_table(asked.rows[rare], asked_kinds[rare], shape), trained)
    best: dict[tuple[int, int], float] = {}
    for row, column in zip(*(of_own >= settings.threshold).nonzero(), strict=True):
        if counts[row] >= FEWEST and of_rare[row, column] >= LEAST_OF_RARE:
            pair = int(column), passages[row][0]
            best[pair] = max(best.get(pair, 0.0), float(of_own[row, column]))
    return [Match(*pair, value, False) for pair, value in best.items()]


def _shares(asked: Any, trained: Any) -> tuple[Any, Numbers]:
    """(share of each asked row that is in each trained row, sparse; size of each asked row)."""
    counts = np.diff(asked.indptr)
    return diags_array(1 / np.maximum(counts, 1)).tocsr() @ (asked @ trained.T), counts


def _known(shingles: Shingles, kinds: npt.NDArray[np.uint64]) -> tuple[Numbers, Numbers]:
    """(text, place in `kinds`) of the shingles whose hash is there. kinds: sorted."""
    if not len(kinds):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    order = np.argsort(shingles.hashes)  # a sorted search stays in the processor's cache
    hashes = shingles.hashes[order]
    places = np.minimum(np.searchsorted(kinds, hashes), len(kinds) - 1)
    there = kinds[places] == hashes
    return shingles.rows[order[there]], places[there]


def _rare(groups: Numbers, kinds: Numbers, of: int, count: int) -> npt.NDArray[np.bool_]:
    """Which of the kinds few enough of the groups have. groups, kinds: of each shingle. of, count: how many there are of either."""
    pairs = np.unique(kinds * np.int64(groups.max(initial=0) + 1) + groups)
    return np.bincount(pairs // (groups.max(initial=0) + 1), minlength=count) <= most_that_is_rare(of)


def _table(rows: Numbers, columns: Numbers, shape: tuple[int, int]) -> Any:
    """A sparse matrix that has a one wherever a row has a column."""
    table = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)
    table.data[:] = 1
    return table
