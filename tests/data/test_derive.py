from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visionmtl.data.derive import normals_from_depth
from visionmtl.data.folder import FolderDataset
from visionmtl.types import Camera, DenseTarget

pytestmark = pytest.mark.filterwarnings("error")

SAMPLE = Path(__file__).parents[2] / "assets" / "rooms3d_sample"

CAMERA = Camera(260.0, 260.0, 160.0, 120.0, 320, 240)
KINECT = Camera(580.0, 580.0, 320.0, 240.0, 640, 480)
ODD = Camera(
    300.0, 190.0, 91.3, 230.8, 320, 240
)  # pixels that are no squares, a principal point far off the middle

Plane = tuple[tuple[float, float, float], float]
"""A normal that faces the camera and the distance to the camera in metres: n . P = -distance."""


def rays(camera: Camera) -> np.ndarray:
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    return np.stack([*np.meshgrid(x, y), np.ones((camera.height, camera.width))], axis=-1)


def render(camera: Camera, *planes: Plane) -> tuple[np.ndarray, np.ndarray]:
    """Depth float32 (H, W) and normals (H, W, 3) of the inside of a convex room: the nearest plane
    counts.
    """
    normals = np.array([normal for normal, _ in planes])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    inverse = rays(camera) @ -normals.T / [distance for _, distance in planes]
    depth: np.ndarray = 1 / inverse.max(axis=-1)
    return depth.astype(np.float32), normals[inverse.argmax(axis=-1)]


def everywhere(depth: np.ndarray) -> np.ndarray:
    return np.ones(depth.shape, bool)


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The angle, exact for small ones too."""
    return np.degrees(
        2 * np.arcsin(np.clip(np.linalg.norm(a - b.astype(np.float64), axis=-1) / 2, 0, 1))
    )


def check_contract(target: DenseTarget, camera: Camera) -> None:
    assert (target.value.dtype, target.value.shape) == (
        np.float32,
        (camera.height, camera.width, 3),
    )
    assert (target.valid.dtype, target.valid.shape) == (bool, target.value.shape[:2])
    assert target.value.flags.c_contiguous
    assert (target.value[~target.valid] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(target.value[target.valid], axis=-1), 1, atol=1e-6)
    assert ((target.value * rays(camera)).sum(axis=-1)[target.valid] < 0).all()


@pytest.mark.parametrize("camera", [CAMERA, ODD, KINECT])
@pytest.mark.parametrize(
    "normal", [(0.0, 0.0, -1.0), (0.6, 0.0, -2.0), (-0.3, -0.5, -1.8), (0.2, 0.4, -1.3)]
)
def test_planes_are_exact_up_to_the_borders_of_the_picture(
    normal: tuple[float, float, float], camera: Camera
) -> None:
    depth, truth = render(camera, (normal, 1.7))
    target = normals_from_depth(depth, everywhere(depth), camera)
    check_contract(target, camera)
    assert target.valid.all()
    assert degrees(target.value, truth).max() < 0.01


def test_a_floor_seen_at_a_grazing_angle() -> None:
    depth, truth = render(CAMERA, ((0.0, -1.0, 0.0), 1.4), ((0.0, 0.0, -1.0), 9.0))
    target = normals_from_depth(depth, everywhere(depth), CAMERA)
    floor = target.valid & (truth[..., 1] == -1)
    assert floor.sum() > 0.99 * (truth[..., 1] == -1).sum()
    assert degrees(target.value, truth)[floor].max() < 0.1


def test_a_sphere() -> None:
    centre, radius = np.array([0.1, -0.05, 2.0]), 0.5
    ray = rays(CAMERA)
    square, middle = (ray * ray).sum(-1), ray @ centre
    root = middle**2 - square * (centre @ centre - radius**2)
    hit = root > 0
    depth = np.where(hit, (middle - np.sqrt(np.maximum(root, 0))) / square, 0).astype(np.float32)
    truth = (ray * depth[..., None] - centre) / radius
    target = normals_from_depth(depth, hit, CAMERA)
    check_contract(target, CAMERA)
    assert target.valid.sum() > 0.9 * hit.sum()
    error = degrees(target.value, truth)[target.valid]
    assert error.mean() < 0.7
    assert np.median(error) < 0.2


@pytest.mark.parametrize("step", [0.02, 0.2, 2.0])
def test_a_depth_step_does_not_smear(step: float) -> None:
    depth, truth = render(CAMERA, ((0.3, 0.2, -1.0), 1.5))
    depth[np.add.outer(np.arange(240), 2 * np.arange(320)) > 400] *= (
        1 + step
    )  # a parallel plane, farther away
    target = normals_from_depth(depth, everywhere(depth), CAMERA)
    assert target.valid.mean() > 0.99
    assert degrees(target.value, truth)[target.valid].max() < 0.1


def test_a_wall_behind_a_post_does_not_smear() -> None:
    depth, truth = render(CAMERA, ((0.3, 0.2, -1.0), 3.0))
    post, facing = render(CAMERA, ((-0.5, 0.0, -1.0), 1.5))
    depth[:, 100:140], truth[:, 100:140] = post[:, 100:140], facing[:, 100:140]
    target = normals_from_depth(depth, everywhere(depth), CAMERA)
    assert target.valid.mean() > 0.99
    assert degrees(target.value, truth)[target.valid].max() < 0.1


def test_a_crease_does_not_smear() -> None:
    depth, truth = render(
        CAMERA, ((0.7, 0.1, -1.0), 2.0), ((-1.0, 0.1, -0.8), 2.0), ((0.0, -1.0, -0.1), 1.2)
    )
    target = normals_from_depth(depth, everywhere(depth), CAMERA)
    assert target.valid.mean() > 0.99
    error = degrees(target.value, truth)[target.valid]
    assert error.mean() < 0.1
    assert (error > 1).mean() < 0.005


def test_a_thin_bar_is_invalid_and_leaves_the_wall_alone() -> None:
    depth, truth = render(CAMERA, ((0.1, 0.0, -1.0), 2.0))
    depth[:, 100:102] = 1.5
    target = normals_from_depth(depth, everywhere(depth), CAMERA)
    assert not target.valid[:, 100:102].any()
    assert degrees(target.value, truth)[target.valid].max() < 0.1
    assert target.valid.mean() > 0.97


def kinect_room() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Depth with the noise and holes of a Kinect, its mask, and the true normals of a room seen
    from 1.4 m above.

    Disparities of a baseline of 7.5 cm, noise of 1/8 pixel, rounded to 1/8 pixel.
    """
    rng = np.random.default_rng(7)
    walls = [((1.0, 0.0, -0.2), 1.5), ((-1.0, 0.0, -0.2), 1.8), ((0.1, 0.0, -1.0), 3.0)]
    depth, truth = render(KINECT, *walls, ((0.0, -1.0, -0.3), 1.4), ((0.0, 1.0, -0.3), 1.6))
    pixel_metres = 580 * 0.075
    disparity = pixel_metres / depth + rng.normal(0, 1 / 8, depth.shape)
    noisy = pixel_metres / (np.round(disparity * 8) / 8)
    valid = rng.random(depth.shape) > 0.02
    for row, column in rng.integers((0, 0), (440, 600), (40, 2)):
        valid[row : row + rng.integers(5, 40), column : column + rng.integers(5, 40)] = False
    return np.where(valid, noisy, 0).astype(np.float32), valid, truth


def test_a_noisy_kinect_room() -> None:
    depth, valid, truth = kinect_room()
    depth.flags.writeable = valid.flags.writeable = False  # the input is not changed
    target = normals_from_depth(depth, valid, KINECT)
    check_contract(target, KINECT)
    assert not target.valid[~valid].any()
    assert target.valid.sum() > 0.99 * valid.sum()
    error = degrees(target.value, truth)[target.valid]
    assert error.mean() < 5
    assert np.median(error) < 3.5


def test_larger_windows_are_smoother() -> None:
    depth, valid, truth = kinect_room()

    def median(radius: int) -> float:
        target = normals_from_depth(depth, valid, KINECT, radius)
        return float(np.median(degrees(target.value, truth)[target.valid]))

    small, middle, large = median(3), median(6), median(12)
    assert small > 3 * middle > 9 * large


def test_equal_to_least_squares_over_the_valid_pixels_of_the_window() -> None:
    rng = np.random.default_rng(3)
    depth, _ = render(ODD, ((0.3, 0.4, -1.5), 2.0))
    depth *= 1 + rng.normal(0, 0.002, depth.shape).astype(np.float32)
    valid = rng.random(depth.shape) > 0.1
    target = normals_from_depth(depth, valid, ODD, radius=4)
    pixels = np.argwhere(target.valid)
    inside = pixels[
        ((pixels > 4) & (pixels < [235, 315])).all(axis=1)
    ]  # at the borders emptier windows are left
    for row, column in rng.choice(inside, 20, replace=False):
        near = np.zeros_like(valid)
        near[row - 4 : row + 5, column - 4 : column + 5] = True
        near &= valid
        plane = np.linalg.lstsq(rays(ODD)[near], 1 / depth[near].astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(
            target.value[row, column], -plane / np.linalg.norm(plane), atol=1e-5
        )


def test_agrees_with_the_rendered_normals_of_the_sample() -> None:
    dataset = FolderDataset(SAMPLE, "val", ["depth", "normals"])
    errors, shares = [], []
    for index in range(0, len(dataset), 6):
        sample = dataset[index]
        depth, truth = sample.targets["depth"], sample.targets["normals"]
        assert isinstance(depth, DenseTarget)
        assert isinstance(truth, DenseTarget)
        assert sample.camera is not None
        target = normals_from_depth(depth.value, depth.valid, sample.camera)
        both = target.valid & truth.valid
        errors.append(degrees(target.value, truth.value)[both])
        shares.append(both.mean())
    error = np.concatenate(
        errors
    )  # much of it is smooth shading: normals that are not those of the flat faces
    assert error.mean() < 4
    assert np.median(error) < 0.4
    assert np.mean(shares) > 0.9


@pytest.mark.parametrize("fill", [0.0, 2.0, np.nan, np.inf])
def test_nothing_valid(fill: float) -> None:
    depth = np.full((240, 320), fill, np.float32)
    with np.errstate(all="raise"):
        target = normals_from_depth(depth, np.zeros(depth.shape, bool), CAMERA)
    check_contract(target, CAMERA)
    assert not target.valid.any()


def test_junk_in_invalid_pixels_changes_nothing() -> None:
    depth, _ = render(CAMERA, ((0.2, 0.1, -1.0), 2.0))
    valid = everywhere(depth)
    valid[50:100, 60:160] = valid[:, -9:] = False
    clean = normals_from_depth(depth, valid, CAMERA)
    depth[~valid] = np.resize([np.nan, np.inf, -1, 0], (~valid).sum())
    with np.errstate(all="raise"):
        target = normals_from_depth(depth, valid, CAMERA)
    np.testing.assert_array_equal(target.value, clean.value)
    np.testing.assert_array_equal(target.valid, valid)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 6)])
def test_pictures_smaller_than_the_window(size: tuple[int, int]) -> None:
    camera = Camera(50.0, 50.0, 2.0, 1.0, size[1], size[0])
    depth = np.full(size, 2.0, np.float32)
    with np.errstate(all="raise"):
        assert not normals_from_depth(depth, everywhere(depth), camera, radius=7).valid.any()


@pytest.mark.parametrize(
    ("depth", "valid", "camera", "radius", "message"),
    [
        (
            (240, 320, 1),
            (240, 320, 1),
            CAMERA,
            3,
            r"\(H, W\) of one size, valid bool; got \(240, 320, 1\)",
        ),
        ((240, 320), (240, 319), CAMERA, 3, r"got \(240, 320\), \(240, 319\) bool"),
        (
            (240, 320),
            (240, 320),
            KINECT,
            3,
            "the camera is for 640x480 pixels, the depth map has 320x240",
        ),
        ((240, 320), (240, 320), CAMERA, 0, "radius must be a positive number of pixels, got 0"),
        (
            (240, 320),
            (240, 320),
            CAMERA,
            2.5,
            "radius must be a positive number of pixels, got 2.5",
        ),
    ],
)
def test_bad_input_gets_its_message(
    depth: tuple[int, ...], valid: tuple[int, ...], camera: Camera, radius: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        normals_from_depth(np.ones(depth, np.float32), np.ones(valid, bool), camera, radius)


def test_a_mask_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"valid bool; got \(240, 320\), \(240, 320\) uint8"):
        normals_from_depth(np.ones((240, 320), np.float32), np.ones((240, 320), np.uint8), CAMERA)
