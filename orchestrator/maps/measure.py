"""How spread out some unit vectors are: what a picture of them cannot prove."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

MOST_CLUSTERS = 10
SMALLEST_SHARE = 0.05
"""Of all answers: the smallest group that HDBSCAN calls a cluster, and five answers at least."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Of n answers to a question.

    distance: mean over pairs of 1 - cosine. vendi: the effective number of different answers, from 1 to n. distinct: share of
    texts that differ. hdbscan: clusters, 0 where none stands out, and noise: the share of answers in none. kmeans: the k of 2
    to 10 with the highest silhouette, and this silhouette; 1 and NaN where all vectors are the same.
    """

    n: int
    tokens: float
    distance: float
    vendi: float
    distinct: float
    hdbscan: float
    noise: float
    kmeans: float
    silhouette: float


def measure(vectors_nD: np.ndarray, texts: Sequence[str], tokens: Sequence[int], seed: int) -> Measures:
    """All of them, of vectors of length 1."""
    n = len(texts)
    # One thread: sums in another order may make another clustering.
    with threadpool_limits(1):
        clusters, noise = density_clusters(vectors_nD)
        k, silhouette = mean_clusters(vectors_nD, seed)
        return Measures(
            n, float(np.mean(tokens)), mean_distance(vectors_nD), vendi_score(vectors_nD), len(set(texts)) / n,
            clusters, noise, k, silhouette,
        )  # fmt: skip


def mean_distance(vectors_nD: np.ndarray) -> float:
    """Mean cosine distance of all pairs: the squared length of the sum holds every cosine twice, and n ones."""
    n = len(vectors_nD)
    cosines = (float(np.sum(vectors_nD.sum(0) ** 2)) - n) / (n * (n - 1))
    return max(0.0, 1 - cosines)


def vendi_score(vectors_nD: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues of the cosine kernel divided by n (Friedman & Dieng 2023): 1 where all are the same, n
    where all are orthogonal."""
    n, dimensions = vectors_nD.shape
    # The smaller of the two products has the same eigenvalues but for zeros.
    kernel = vectors_nD @ vectors_nD.T if n <= dimensions else vectors_nD.T @ vectors_nD
    values = np.linalg.eigvalsh(kernel / n)
    values = values[values > 1e-12]
    return math.exp(-float(np.sum(values * np.log(values))))


def density_clusters(vectors_nD: np.ndarray) -> tuple[int, float]:
    """(clusters that HDBSCAN finds, share of vectors in none). One cloud, however dense, is no cluster: it stands out from nothing."""
    smallest = max(5, math.ceil(SMALLEST_SHARE * len(vectors_nD)))
    labels = HDBSCAN(min_cluster_size=min(smallest, len(vectors_nD)), copy=True).fit_predict(vectors_nD)
    return int(labels.max()) + 1, float(np.mean(labels < 0))


def mean_clusters(vectors_nD: np.ndarray, seed: int) -> tuple[int, float]:
    """(k, silhouette) of the k-means clustering with the highest mean silhouette; (1, NaN) where all vectors are the same."""
    distinct = len(np.unique(vectors_nD, axis=0))
    best = (-math.inf, 1)
    for k in range(2, min(MOST_CLUSTERS, distinct, len(vectors_nD) - 1) + 1):
        labels = KMeans(k, n_init=4, random_state=seed).fit_predict(vectors_nD)
        best = max(best, (float(silhouette_score(vectors_nD, labels)), k), key=lambda found: found[0])
    return best[1], best[0] if best[1] > 1 else math.nan
