"""Vectors in the plane, by t-SNE."""

from __future__ import annotations

import numpy as np
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from orchestrator.errors import ConfigError

USUAL_PERPLEXITY = 30.0


def perplexity_for(n: int, asked: float | None) -> float:
    """How many neighbours a point has in t-SNE: as asked for, else 30, or a third of the others where they are few.

    Raises ConfigError where there are not more points than neighbours.
    """
    usual = min(USUAL_PERPLEXITY, (n - 1) / 3)
    if asked is not None and not 1 <= asked < n:
        raise ConfigError(
            f"--perplexity {asked:g}: a question has {n} answers here, and t-SNE needs at least 1 neighbour and fewer than answers. "
            f"Leave it out for {usual:g}."
        )
    return usual if asked is None else asked


def layout(vectors_nD: np.ndarray, perplexity: float, seed: int) -> np.ndarray:
    """Places [n, 2], the middle of their box at 0 and its longer side from -1 to 1. All at 0 where all vectors are the same.

    The same for the same vectors, on one thread: sums in another order would end elsewhere.
    """
    if len(np.unique(vectors_nD, axis=0)) == 1:
        return np.zeros((len(vectors_nD), 2))
    with threadpool_limits(1):
        places: np.ndarray = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors_nD)
    low, high = places.min(0), places.max(0)
    return np.asarray((places - (low + high) / 2) / ((high - low).max() / 2), dtype=np.float64)
