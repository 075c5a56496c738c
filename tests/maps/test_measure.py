"""Statistics of vectors whose values are known, and matching by length."""

from __future__ import annotations

import math

import numpy as np
import pytest

from orchestrator.maps.match import matched
from orchestrator.maps.measure import density_clusters, mean_clusters, mean_distance, measure, vendi_score

SAME = np.tile([[0.6, 0.8]], (7, 1))
ORTHOGONAL = np.eye(6)


def blobs(centres: int, each: int, spread: float = 0.1) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(centres * each, 16)) * spread
    vectors = np.repeat(np.eye(16)[:centres], each, axis=0) + noise
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


# All the same: no distance, one effective answer. All orthogonal: every pair is at 1, and n are effective. Two and two: 4 of the 6
# pairs are at 1, and the kernel divided by n has the eigenvalues 1/2 and 1/2, whose entropy is log 2.
@pytest.mark.parametrize(
    ("vectors", "distance", "vendi"),
    [(SAME, 0, 1), (ORTHOGONAL, 1, 6), (np.eye(2)[[0, 0, 1, 1]], 4 / 6, 2), (np.array([[1.0, 0], [-1.0, 0]]), 2, 1)],
)
def test_distance_and_vendi_score(vectors: np.ndarray, distance: float, vendi: float) -> None:
    assert mean_distance(vectors) == pytest.approx(distance, abs=1e-12)
    assert vendi_score(vectors) == pytest.approx(vendi)


def test_the_vendi_score_is_the_same_from_the_kernel_and_from_the_covariance() -> None:
    """More vectors than dimensions takes the one product, the same vectors with zeros behind them the other."""
    vectors = blobs(3, 10)
    assert vendi_score(vectors) == pytest.approx(vendi_score(np.hstack([vectors, np.zeros((30, 40))])))


# Two pairs, each of two points a distance of a apart, the pairs sqrt(2) from each other nearly: within a blob of equal points the
# silhouette is (sqrt 2 - 0) / sqrt 2 = 1.
def test_clusters_of_separated_and_of_single_clouds() -> None:
    assert mean_clusters(np.eye(3)[[0] * 5 + [1] * 5], seed=0) == (2, 1.0)
    two = blobs(2, 20)
    k, silhouette = mean_clusters(two, seed=0)
    assert k == 2
    assert silhouette > 0.6
    assert density_clusters(two) == (2, 0.0)
    assert mean_clusters(blobs(4, 20), seed=0)[0] == 4
    assert density_clusters(blobs(1, 40, 0.5))[0] == 0
    k, silhouette = mean_clusters(SAME, seed=0)
    assert (k, math.isnan(silhouette)) == (1, True)


def test_all_measures_of_answers_that_repeat_each_other() -> None:
    """Eight answers, of two texts."""
    found = measure(np.eye(2)[[0] * 4 + [1] * 4], ["a"] * 4 + ["b"] * 4, [10] * 4 + [20] * 4, seed=0)
    assert (found.n, found.tokens, found.distinct, found.kmeans, found.silhouette) == (8, 15, 0.25, 2, 1)
    # 16 of the 28 pairs are at 1
    assert found.distance == pytest.approx(16 / 28)


# Classes are halves: the pooled median of 1 2 3 4 and 3 4 5 6 is 3.5. Up to it the sets have three and one, above one and three:
# of each class one of each set stays.
def test_matched_sets_have_the_same_classes_of_length() -> None:
    first, second = [1, 2, 3, 4], [3, 4, 5, 6]
    mine, others = matched([first, second], seed=0, classes=2)
    assert [first[place] <= 3.5 for place in mine] == [True, False]
    assert [second[place] <= 3.5 for place in others] == [True, False]
    assert matched([first, second], seed=0, classes=2) == [mine, others]
    assert matched([[1, 1, 1], [9, 9, 9]], seed=0) == [[], []]


def test_matching_brings_mean_lengths_together_and_keeps_what_is_alike() -> None:
    draw = np.random.default_rng(0)
    long, short = draw.integers(30, 90, 400), draw.integers(10, 70, 400)
    mine, others = matched([long.tolist(), short.tolist()], seed=0)
    assert len(mine) == len(others) > 150
    assert len(set(mine)) == len(mine)
    assert abs(long[mine].mean() - short[others].mean()) < 1.5
    same = long.tolist()
    assert [sorted(places) for places in matched([same, same], seed=0)] == [list(range(400))] * 2
