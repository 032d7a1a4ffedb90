"""One-to-one matching of edge pixels."""

from __future__ import annotations

from typing import Any

import numpy as np


def candidate_pairs(predicted: np.ndarray, truth: np.ndarray, radius: float) -> Any:
    """Which predicted and true pixels lie within ``radius`` pixels of each other.

    Args:
        predicted: bool (H, W), with N True.
        truth: bool (H, W), with M True.
        radius: the largest distance of two centres.

    Returns:
        A ``scipy.sparse`` matrix (N, M) in CSR format with an entry, the distance, where a pair may
        match; rows and columns are in the order of ``np.nonzero``.
    """
    from scipy.spatial import cKDTree

    ours = cKDTree(np.argwhere(predicted))
    theirs = cKDTree(np.argwhere(truth))
    return ours.sparse_distance_matrix(theirs, radius, output_type="coo_matrix").tocsr()


def count_matches(pairs: Any) -> int:
    """How many of the pairs (N, M) of ``candidate_pairs`` can be formed at once.

    Each pixel is in one at most. That is the largest flow from N sources to M sinks. Dinic's
    algorithm takes milliseconds, always; SciPy's ``maximum_bipartite_matching`` takes seconds on
    some images (SciPy 1.17).
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_flow

    n, m = pairs.shape
    # Node 0 is the source, then come the predicted pixels, the true pixels, and the sink.
    nodes = np.concatenate(
        [np.arange(1, n + 1), pairs.indices + n + 1, np.full(m, n + m + 1)]
    ).astype(np.int32)
    links = np.concatenate([[n], np.diff(pairs.indptr), np.ones(m), [0]])  # of each node
    starts = np.concatenate([[0], links.cumsum()]).astype(np.int32)
    graph = csr_matrix((np.ones_like(nodes), nodes, starts), shape=(n + m + 2, n + m + 2))
    return int(maximum_flow(graph, 0, n + m + 1, method="dinic").flow_value)
