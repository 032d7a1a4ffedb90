from __future__ import annotations

import numpy as np
import pytest
import skimage.morphology

from visionmtl.metrics.thinning import thin


@pytest.mark.parametrize("seed", range(8))
def test_thinning_equals_scikit_image(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.random((37, 52)) > rng.random()
    blocks = np.kron(rng.random((12, 18)) > 0.4, np.ones((4, 3))) > 0
    for mask in (
        noise,
        blocks,
        np.ones((9, 15), bool),
        np.zeros((3, 4), bool),
        np.ones((1, 1), bool),
    ):
        expected = skimage.morphology.thin(mask)
        np.testing.assert_array_equal(thin(mask), expected)
        np.testing.assert_array_equal(thin(expected), expected)
