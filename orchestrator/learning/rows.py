"""Rows of tokens: what a forward pass is given.

A row is a prefix and one or more branches that continue it. Branches see the prefix and themselves, never each other, and their
positions restart where the prefix ends: a row with k branches computes exactly what k separate sequences would, with the
prefix computed once. One mechanism serves plain sequences (one branch), a judged response with a branch a criterion, and a
group of completions of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Row:
    """Token ids. Of each branch the last `learned[i]` tokens are targets: scored, and trained where a loss weighs them."""

    prefix: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    learned: tuple[int, ...]

    def __post_init__(self) -> None:
        for branch, learned in zip(self.branches, self.learned, strict=True):
            first = len(self.prefix) + len(branch) - learned
            if not 0 < learned <= len(branch) or first < 1:
                raise ValueError(
                    f"a branch of {len(branch)} tokens after a prefix of {len(self.prefix)} cannot learn {learned}"
                )

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.branches))

    @property
    def targets(self) -> int:
        """Number of scored tokens."""
        return sum(self.learned)


@dataclass(slots=True)
class Microbatch:
    """Tensors of one forward pass; rows of length at most L, padded on the right, T targets in row and branch order.

    ids, positions: [B, L] int64. mask: [B, 1, L, L] bool (True: may attend), or None where plain causal attention says the
    same. source: [T] flat index (row * L + position) of the hidden state that predicts each target. target: [T] ids.
    flat: [T] index of each target in the flat order of all targets of the batch; -1 in a filler, which takes part in no loss.
    prefixes: [B] length of each row's prefix.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor | None
    source: torch.Tensor
    target: torch.Tensor
    flat: torch.Tensor
    prefixes: torch.Tensor

    def to(self, device: torch.device) -> Microbatch:
        mask = None if self.mask is None else self.mask.to(device)
        ids, positions, source, target, flat, prefixes = (
            tensor.to(device)
            for tensor in (self.ids, self.positions, self.source, self.target, self.flat, self.prefixes)
        )
        return Microbatch(ids, positions, mask, source, target, flat, prefixes)


def _layout(row: Row) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """(ids, positions, branch number of each token with the prefix as 0, source of each target, target ids)."""
    ids, positions, owner = list(row.prefix), list(range(len(row.prefix))), [0] * len(row.prefix)
    sources, targets = [], []
    for number, (branch, learned) in enumerate(zip(row.branches, row.learned, strict=True), 1):
        start = len(ids)
        for offset in range(len(branch) - learned, len(branch)):
            sources.append(start + offset - 1 if offset else len(row.prefix) - 1)
            targets.append(branch[offset])
        ids += branch
        positions += range(len(row.prefix), len(row.prefix) + len(branch))
        owner += [number] * len(branch)
    return ids, positions, owner, sources, targets


def collate(rows: Sequence[Row], flat_starts: Sequence[int], pad_id: int) -> Microbatch:
    """Pad rows into one microbatch. flat_starts[i] is the flat index of row i's first target."""
    length = max(len(row) for row in rows)
    ids = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    # Padding counts on: a jump in positions would be read as the start of another packed sequence.
    positions = torch.arange(length).repeat(len(rows), 1)
    owner = torch.zeros((len(rows), length), dtype=torch.int64)
    source: list[int] = []
    target: list[int] = []
    flat: list[int] = []
    for index, (row, flat_start) in enumerate(zip(rows, flat_starts, strict=True)):
        row_ids, row_positions, row_owner, row_sources, row_targets = _layout(row)
        n = len(row_ids)
        ids[index, :n] = torch.tensor(row_ids)
        positions[index, :n] = torch.tensor(row_positions)
        owner[index, :n] = torch.tensor(row_owner)
        source += [index * length + position for position in row_sources]
        target += row_targets
        flat += range(flat_start, flat_start + len(row_targets))
    mask = None
    if any(len(row.branches) > 1 for row in rows):
        # Padding stands last, so causality alone keeps it away from real tokens; it attends to itself, which keeps softmax finite.
        causal = torch.ones((length, length), dtype=torch.bool).tril()
        same_branch = (owner[:, :, None] == owner[:, None, :]) | (owner[:, None, :] == 0)
        mask = (same_branch & causal)[:, None]
    prefixes = torch.tensor([len(row.prefix) for row in rows])
    return Microbatch(ids, positions, mask, torch.tensor(source), torch.tensor(target), torch.tensor(flat), prefixes)


def plan_microbatches(
    lengths: Sequence[int], ranks: int, tokens: int, units: Sequence[Sequence[int]] | None = None
) -> list[list[list[int]]]:
    """Deal rows to ranks and pack each rank's rows into microbatches of at most `tokens` padded tokens.

    units: row indices that must not be parted, each row once; by default each row is one. A unit beyond `tokens` stands alone.
    Returns, a rank, its microbatches as lists of row indices. Every rank has the same number of microbatches, because ZeRO's
    collectives run once in each; a rank that has fewer gets empty ones, which `pack` fills. Deterministic.
    """
    units = units or [[index] for index in range(len(lengths))]
    widths = [max(lengths[index] for index in unit) for unit in units]
    order = sorted(range(len(units)), key=lambda number: (-widths[number], units[number][0]))
    plans: list[list[list[int]]] = []
    for rank in range(ranks):
        batches: list[list[int]] = []
        width = 0
        for number in order[rank::ranks]:
            unit = units[number]
            if batches and width * (len(batches[-1]) + len(unit)) <= tokens:
                batches[-1].extend(unit)
            else:
                batches.append(list(unit))
                width = widths[number]
        plans.append(batches)
    most = max(map(len, plans))
    return [batches + [[]] * (most - len(batches)) for batches in plans]


def pack(
    rows: Sequence[Row], rank: int, ranks: int, tokens: int, pad_id: int, units: Sequence[Sequence[int]] | None = None
) -> list[Microbatch]:
    """This rank's microbatches. A filler microbatch has targets with flat index -1: they take part in no loss."""
    starts = [0]
    for row in rows:
        starts.append(starts[-1] + row.targets)
    microbatches = []
    for indices in plan_microbatches([len(row) for row in rows], ranks, tokens, units)[rank]:
        chosen = indices or [min(range(len(rows)), key=lambda index: len(rows[index]))]
        microbatch = collate([rows[index] for index in chosen], [starts[index] for index in chosen], pad_id)
        if not indices:
            microbatch.flat = torch.full_like(microbatch.flat, -1)
        microbatches.append(microbatch)
    return microbatches


def common_prefix(sequences: Sequence[Sequence[int]]) -> int:
    """Length of the longest beginning that all sequences share, leaving each at least one token of its own."""
    shortest = min(map(len, sequences)) - 1
    first = sequences[0]
    for position in range(shortest):
        if any(sequence[position] != first[position] for sequence in sequences):
            return position
    return shortest
