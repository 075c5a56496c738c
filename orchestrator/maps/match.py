"""Sets of answers of one and the same distribution of lengths."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from orchestrator.values import stable_hash

CLASSES = 10
"""Classes of length: deciles of all answers together."""


def matched(lengths: Sequence[Sequence[int]], seed: int, classes: int = CLASSES) -> list[list[int]]:
    """Of each set, the places of members such that every set has as many of each class of length: as many as the set with the
    fewest has. lengths: of the members of each set. Empty lists where no class is in all sets."""
    pooled = np.concatenate([np.asarray(one) for one in lengths])
    inner = np.quantile(pooled, np.arange(1, classes) / classes)
    places: list[list[int]] = [[] for _ in lengths]
    found = [np.searchsorted(inner, np.asarray(one), side="left") for one in lengths]
    for number in range(classes):
        members = [np.flatnonzero(classes_of == number).tolist() for classes_of in found]
        fewest = min(map(len, members))
        for place, (chosen, those) in enumerate(zip(places, members, strict=True)):
            chosen += sorted(random.Random(stable_hash("matched", seed, number, place)).sample(those, fewest))
    return places
