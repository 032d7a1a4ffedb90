"""How an augmented picture looks at its source picture.

Conventions: pixel centres at integer + 0.5; camera frame x right, y down, z forward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Zoom = Literal["focal", "fixed_intrinsics"]
"""What a change of scale means. ``focal``: the lens changed, so the focal lengths are multiplied by
s, and depth and normals stay. ``fixed_intrinsics``: the camera came nearer, so the focal lengths
stay, depth is divided by s, and n becomes normalise(n_x, n_y, s n_z), which is the scene (X, Y, Z)
-> (X, Y, Z / s).
"""


@dataclass(frozen=True)
class View:
    """How the output picture looks at the source picture.

    Attributes:
        matrix: (3, 3), source pixel coordinates -> output pixel coordinates.
        size: (H, W) of the output.
        focal: (2,), focal lengths fx, fy of the output in pixels; (1, 1) at the start if the camera
            is unknown.
        rays: (2, 2), orthogonal, what flips and rotations do to the x and y of a direction.
        zoom: by how much the camera came nearer (1 in ``focal`` mode).
    """

    matrix: np.ndarray
    size: tuple[int, int]
    focal: np.ndarray
    rays: np.ndarray
    zoom: float = 1.0

    def then(self, matrix: np.ndarray, **changes: Any) -> View:
        """This view followed by ``matrix`` (3, 3)."""
        return replace(self, matrix=matrix @ self.matrix, **changes)

    def source_pixels(self, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The source pixel that covers each output pixel's centre.

        Exact in float64: OpenCV's nearest neighbour rounds coordinates to fixed point and knows
        neither bool nor int64.

        Returns:
            Flat indices into the (height, width) source, int64 (H, W), 0 where outside; inside,
            bool (H, W).
        """
        across, down, _ = np.linalg.inv(self.matrix)
        columns = np.arange(self.size[1]) + 0.5
        rows = np.arange(self.size[0])[:, None] + 0.5
        x = across[0] * columns + (across[1] * rows + across[2])
        y = down[0] * columns + (down[1] * rows + down[2])
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        index = np.floor(y).astype(np.int64) * width + np.floor(x).astype(np.int64)
        return np.where(inside, index, 0), inside
