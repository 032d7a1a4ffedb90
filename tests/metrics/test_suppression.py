from __future__ import annotations

import numpy as np
import pytest

from visionmtl.metrics.suppression import suppress_non_maxima
from visionmtl.metrics.thinning import thin


def ridge(degrees: float, size: int = 41, width: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """A blurred line through a point beside the centre; the map, and each pixel's distance from the
    crest.
    """
    y, x = np.indices((size, size)) - size / 2 + 0.37
    angle = np.deg2rad(degrees)
    distance = np.abs(x * np.sin(angle) - y * np.cos(angle))
    return np.exp(-(distance**2) / (2 * width**2)), distance


@pytest.mark.parametrize("degrees", range(0, 180, 15))
@pytest.mark.parametrize("width", [1.0, 2.0, 3.0, 4.0])
@pytest.mark.parametrize("ground", [0.0, 0.1])
def test_a_blurred_line_is_one_pixel_at_its_crest(
    degrees: float, width: float, ground: float
) -> None:
    probability, distance = ridge(degrees, width=width)
    probability = ground + (1 - ground) * probability
    crests = suppress_non_maxima(probability)
    line = thin(crests > 0.15)
    steep = 45 < degrees < 135
    inner = (line if steep else line.T)[
        6:-6
    ]  # each row crosses the line; at the border the direction is less certain
    assert (inner.sum(1) == 1).all()
    assert (distance if steep else distance.T)[6:-6][inner].max() < 0.8
    assert (crests[crests > 0] == probability[crests > 0]).all()


def test_a_plateau_keeps_its_middle() -> None:
    probability = np.zeros((20, 21))
    probability[:, 8:13] = 0.8
    line = thin(suppress_non_maxima(probability) > 0.5)
    assert np.flatnonzero(line[4:-4].all(0)).tolist() == [10]


def test_binary_maps_are_left_alone() -> None:
    mask = np.random.default_rng(0).random((20, 30)) > 0.7
    np.testing.assert_array_equal(suppress_non_maxima(mask.astype(float)), mask)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_small_maps(shape: tuple[int, int]) -> None:
    assert suppress_non_maxima(np.full(shape, 0.5)).shape == shape
