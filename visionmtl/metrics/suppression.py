"""From thick edges to lines of one pixel: suppression of what is no crest of the map."""

from __future__ import annotations

import numpy as np

SMOOTHING = 2.5
"""Pixels; standard deviation of the Gaussian under which the direction of an edge is measured.

It is enough to leave one line of an edge that is itself blurred by 4.
"""
MARGIN = 1.01
"""A pixel stays unless a neighbour across the edge is larger by more than this factor."""


def suppress_non_maxima(probability: np.ndarray) -> np.ndarray:
    """Set to 0 what is not the crest of an edge.

    As ``edgesNms`` of Dollar's Structured Edge toolbox does. A pixel is compared with the map one
    pixel away on either side, interpolated bilinearly. Across the edge is the direction in which
    the smoothed map curves most, down on the crest and up beside it: an eigenvector of its second
    derivatives. (The toolbox smooths with a triangle filter and takes a ratio of second derivatives
    for the angle.)

    Args:
        probability: float (H, W), 0 or more.

    Returns:
        The map with zeros; plateaus stay thick, see ``visionmtl.metrics.thinning``.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    yy = gaussian_filter(probability, SMOOTHING, order=(2, 0), mode="nearest")
    xy = gaussian_filter(probability, SMOOTHING, order=(1, 1), mode="nearest")
    xx = gaussian_filter(probability, SMOOTHING, order=(0, 2), mode="nearest")
    sign = np.where(xx + yy < 0, -1, 1)
    across = 0.5 * np.arctan2(sign * 2 * xy, sign * (xx - yy))
    place = np.indices(probability.shape)
    step = np.stack([np.sin(across), np.cos(across)])
    before = map_coordinates(probability, place - step, order=1, mode="nearest")
    after = map_coordinates(probability, place + step, order=1, mode="nearest")
    crest = MARGIN * probability >= np.maximum(before, after)
    kept: np.ndarray = np.where(crest, probability, 0)
    return kept
