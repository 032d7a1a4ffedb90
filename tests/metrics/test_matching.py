from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from visionmtl.metrics.matching import candidate_pairs, count_matches


def by_assignment(predicted: np.ndarray, truth: np.ndarray, radius: float) -> int:
    """What the BSDS benchmark solves: the cheapest assignment, where a pixel left over costs 100
    times the radius.
    """
    distance = cdist(np.argwhere(predicted), np.argwhere(truth))
    n, m = distance.shape
    cost = np.zeros((n + m, n + m))  # each pixel may have an outlier of its own
    cost[:n, m:] = cost[n:, :m] = 100 * radius
    cost[:n, :m] = np.where(distance <= radius, distance, 1e9)
    cost[n:, m:] = 0
    rows, columns = linear_sum_assignment(cost)
    return int(((rows < n) & (columns < m)).sum())


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.9, 4.33])
@pytest.mark.parametrize("seed", range(6))
def test_as_many_pairs_as_the_cheapest_assignment_has(radius: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, truth = (rng.random((17, 23)) < share for share in rng.uniform(0.02, 0.25, 2))
    found = count_matches(candidate_pairs(predicted, truth, radius))
    assert found == by_assignment(predicted, truth, radius)


def test_pairs_within_the_radius() -> None:
    rng = np.random.default_rng(0)
    predicted, truth = rng.random((2, 12, 19)) < 0.3
    distance = cdist(np.argwhere(predicted), np.argwhere(truth))
    pairs = candidate_pairs(predicted, truth, 2.5)
    assert pairs.nnz == (distance <= 2.5).sum()
    np.testing.assert_allclose(pairs.toarray(), np.where(distance <= 2.5, distance, 0))
    assert candidate_pairs(predicted, truth, 0).nnz == (predicted & truth).sum()


def test_the_radius_belongs_to_it() -> None:
    predicted, truth = np.zeros((2, 9, 9), bool)
    predicted[0, 0] = truth[3, 4] = True
    assert count_matches(candidate_pairs(predicted, truth, 5.0)) == 1
    assert count_matches(candidate_pairs(predicted, truth, 4.99)) == 0


def test_the_best_matching_is_not_the_greedy_one() -> None:
    """Pixel 1 can match 0 and 2, pixel 3 only 2: the nearest first leaves one alone."""
    predicted, truth = np.zeros((2, 1, 5), bool)
    predicted[0, [1, 3]] = truth[0, [0, 2]] = True
    assert count_matches(candidate_pairs(predicted, truth, 1)) == 2


def test_a_pixel_matches_once() -> None:
    predicted, truth = np.ones((1, 7), bool), np.zeros((1, 7), bool)
    truth[0, 3] = True
    assert count_matches(candidate_pairs(predicted, truth, 3)) == 1


def test_nothing_to_match() -> None:
    empty, full = np.zeros((4, 5), bool), np.ones((4, 5), bool)
    for predicted, truth in ((empty, empty), (empty, full), (full, empty)):
        assert count_matches(candidate_pairs(predicted, truth, 2)) == 0
