"""Every geometric step against a scene that is rendered again, analytically, as the new camera sees
it.
"""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest

from visionmtl._options import options_model
from visionmtl.data.transforms.base import AUGMENTATIONS
from visionmtl.data.transforms.joint import PAD_VALUE, JointTransform, build_transform
from visionmtl.tasks import TaskSpec
from visionmtl.types import BoxTarget, Camera, DenseTarget, Sample

TASKS = [
    TaskSpec.semseg(["l", "r", "ball"]),
    TaskSpec.depth(10.0),
    TaskSpec.normals(),
    TaskSpec.detection(["ball"]),
]
CAMERA = Camera(fx=230.0, fy=230.0, cx=171.0, cy=112.0, width=320, height=240)
BALL, RADIUS = np.array([0.25, -0.1, 2.6]), 0.5
WALL, OFFSET = np.array([0.3, -0.25, -0.92]), -3.2
HOLE = (20, 60, 130, 200)  # x1 y1 x2 y2 in the source picture: no truth there


def render(camera: Camera, scene: np.ndarray) -> Sample:
    """A ball before a tilted wall, moved by the linear map ``scene`` (3, 3): p' = scene p, n' ~
    scene^-T n.
    """
    u, v = np.meshgrid(np.arange(camera.width) + 0.5, np.arange(camera.height) + 0.5)
    rays = np.stack([(u - camera.cx) / camera.fx, (v - camera.cy) / camera.fy, np.ones_like(u)], -1)
    source = (
        rays @ np.linalg.inv(scene).T
    )  # in the frame of the unmoved scene; the parameter t stays
    a, b, c = (source**2).sum(-1), source @ BALL, BALL @ BALL - RADIUS**2
    root = b * b - a * c
    ball = root > 0
    depth = np.where(ball, (b - np.sqrt(root.clip(0))) / a, OFFSET / (source @ WALL))
    point = depth[..., None] * source
    normal = np.where(ball[..., None], point - BALL, WALL) @ np.linalg.inv(scene)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    assert ((normal * rays).sum(-1) < 0).all()
    x, y = source[..., 0] / source[..., 2], source[..., 1] / source[..., 2]
    labels = np.where(ball, 2, point[..., 0] > 0).astype(np.uint8)
    image = np.stack(
        [128 + 90 * np.sin(6 * x), 128 + 90 * np.sin(7 * y), 128 + 90 * np.sin(5 * (x - y))], -1
    )
    sx, sy = x * CAMERA.fx + CAMERA.cx, y * CAMERA.fy + CAMERA.cy
    hole = (sx > HOLE[0]) & (sx < HOLE[2]) & (sy > HOLE[1]) & (sy < HOLE[3])
    inside = (sx >= 0) & (sx < CAMERA.width) & (sy >= 0) & (sy < CAMERA.height)
    values = {
        "semseg": labels,
        "depth": depth.astype(np.float32),
        "normals": normal.astype(np.float32),
    }
    valid = inside & ~hole
    for value in values.values():
        value[~valid] = 0
    targets: dict[str, Any] = {name: DenseTarget(value, valid) for name, value in values.items()}
    ys, xs = np.nonzero(ball & inside)
    box = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1] if len(xs) else [0, 0, 0, 0]
    targets["detection"] = BoxTarget(np.array([box], np.float32), np.array([0]))
    image[~inside] = PAD_VALUE
    return Sample(np.rint(image).astype(np.uint8), targets, "scene", camera)


def steady(sample: Sample) -> np.ndarray:
    """Pixels whose neighbourhood (5 x 5) is of one class and one validity."""
    target = sample.targets["semseg"]
    key, kernel = target.value + 4 * target.valid.astype(np.uint8), np.ones((5, 5), np.uint8)
    return cv2.erode(key, kernel) == cv2.dilate(key, kernel)


SOURCE = render(CAMERA, np.eye(3))
FLIP, TURN = {"type": "horizontal_flip", "p": 1.0}, {"type": "rotate", "limit": 20, "p": 1.0}
RECIPES: dict[str, list[dict[str, Any]]] = {
    "resize_down": [{"type": "resize", "size": [96, 128]}],
    "resize_half": [{"type": "resize", "size": [120, 160]}],
    "resize_up": [{"type": "resize", "size": [360, 480]}],
    "stretch": [{"type": "resize", "size": [180, 320]}],
    "zoom_in": [{"type": "random_scale_crop", "size": [192, 256], "scale": [1.4, 1.4]}],
    "zoom_out": [{"type": "random_scale_crop", "size": [192, 256], "scale": [0.6, 0.6]}],
    "zoom_any": [{"type": "random_scale_crop", "size": [192, 256], "scale": [0.7, 2.0]}],
    "crop": [{"type": "random_crop", "size": [200, 220]}],
    "crop_pad": [{"type": "random_crop", "size": [260, 300]}],
    "flip": [FLIP],
    "rotate": [TURN],
    "all": [
        {"type": "resize", "size": [180, 240]},
        {"type": "random_scale_crop", "size": [200, 230], "scale": [0.8, 1.5]},
        TURN,
        FLIP,
        {"type": "random_crop", "size": [170, 220]},
    ],
    "stretch_rotate": [{"type": "resize", "size": [180, 320]}, TURN, FLIP],
}  # fmt: skip
CASES = [(name, "focal") for name in RECIPES]
CASES += [(name, "fixed_intrinsics") for name in RECIPES if "stretch" not in name]


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize(("name", "zoom"), CASES)
def test_result_is_the_scene_seen_by_the_new_camera(name: str, zoom: Any, seed: int) -> None:
    transform = JointTransform(TASKS, RECIPES[name], zoom)
    got = transform(SOURCE, seed)
    view = transform.view(SOURCE, seed)
    scene = np.diag([1.0, 1.0, 1.0 / view.zoom])
    scene[:2, :2] = view.rays  # a wrong turn or zoom would show in the image and the labels
    assert (view.zoom == 1) == (
        zoom == "focal" or not any("scale" in step for step in RECIPES[name])
    )
    assert got.camera is not None
    want = render(got.camera, scene)
    assert got.image.shape == want.image.shape
    assert got.image.dtype == np.uint8

    ok = steady(want)
    assert ok.mean() > 0.6
    assert (np.abs(got.image.astype(int) - want.image)[ok].max()) <= 8
    for task in ("semseg", "depth", "normals"):
        target, truth = got.targets[task], want.targets[task]
        assert target.value.dtype == truth.value.dtype
        np.testing.assert_array_equal(target.valid[ok], truth.valid[ok])
        assert not target.value[~target.valid].any()
        ok_valid = ok & truth.valid
        a, b = target.value[ok_valid].astype(np.float64), truth.value[ok_valid].astype(np.float64)
        if task == "semseg":
            np.testing.assert_array_equal(a, b)
        elif task == "depth":
            relative = a / b - 1
            assert np.abs(relative).max() < 0.02
            assert abs(relative.mean()) < 1e-3
        else:
            np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=1e-5)
            degrees = np.degrees(np.arccos((a * b).sum(1).clip(-1, 1)))
            wall = want.targets["semseg"].value[ok_valid] < 2
            assert degrees[wall].max(initial=0) < 0.05
            assert degrees.mean() < 0.3
            assert degrees.max() < 8  # half a source pixel near the rim of the ball


@pytest.mark.parametrize(("name", "zoom"), CASES)
def test_boxes_follow_the_ball(name: str, zoom: Any) -> None:
    transform = JointTransform(TASKS, RECIPES[name], zoom)
    turns = any(step["type"] == "rotate" for step in RECIPES[name])
    found = 0
    for seed in range(6):
        got = transform(SOURCE, seed)
        labels, boxes = got.targets["semseg"], boxes_of(got)
        assert (boxes.boxes.dtype, boxes.labels.dtype, len(boxes.boxes)) == (
            np.float32,
            np.int64,
            len(boxes.labels),
        )
        ys, xs = np.nonzero(labels.value == 2)
        for x1, y1, x2, y2 in boxes.boxes:
            found += 1
            slack = np.array([xs.min() - x1, ys.min() - y1, x2 - xs.max() - 1, y2 - ys.max() - 1])
            assert slack.min() > -1.6
            assert slack.max() < (45 if turns else 1.6)
    assert found >= 4
    assert transform.dropped_boxes == 6 - found


PHOTOMETRIC: list[dict[str, Any]] = [
    {"type": "color_jitter", "p": 1.0},
    {"type": "gaussian_blur", "p": 1.0},
    {"type": "gaussian_noise", "p": 1.0},
    {"type": "random_gamma", "gamma": [0.6, 0.7], "p": 1.0},
    {"type": "to_gray", "p": 1.0},
    {"type": "jpeg", "quality": [20, 30], "p": 1.0},
]
TYPICAL: list[dict[str, Any]] = [
    {"type": "random_scale_crop", "size": [192, 256], "scale": [0.8, 1.6]},
    {"type": "horizontal_flip"},
    {"type": "color_jitter"},
]


def arrays(sample: Sample) -> list[np.ndarray]:
    out = [sample.image]
    for name in sorted(sample.targets):
        out += [value for value in vars(sample.targets[name]).values() if value is not None]
    return out


def same(a: Sample, b: Sample) -> bool:
    return all(
        x.shape == y.shape and (x == y).all() for x, y in zip(arrays(a), arrays(b), strict=True)
    )


def boxed(boxes: list[list[float]]) -> Sample:
    target = BoxTarget(np.array(boxes, np.float32).reshape(-1, 4), np.arange(len(boxes)))
    return Sample(np.zeros((100, 200, 3), np.uint8), {"detection": target}, "boxes")


def boxes_of(sample: Sample) -> BoxTarget:
    target = sample.targets["detection"]
    assert isinstance(target, BoxTarget)
    return target


def test_fixed_intrinsics_golden_values() -> None:
    dense: dict[str, Any] = {
        "depth": DenseTarget(np.full((8, 8), 3.0, np.float32), np.ones((8, 8), bool)),
        "normals": DenseTarget(
            np.tile(np.float32([0.6, 0.0, -0.8]), (8, 8, 1)), np.ones((8, 8), bool)
        ),
    }
    sample = Sample(np.zeros((8, 8, 3), np.uint8), dense, "a", Camera(10, 10, 4, 4, 8, 8))
    steps = [{"type": "random_scale_crop", "size": [12, 12], "scale": [1.5, 1.5]}]
    near = JointTransform(TASKS, steps, "fixed_intrinsics")(sample, 0)
    np.testing.assert_allclose(near.targets["depth"].value, 2.0)
    np.testing.assert_allclose(
        near.targets["normals"].value[5, 5], np.array([0.6, 0, -1.2]) / 1.8**0.5, rtol=1e-6
    )
    assert near.camera == Camera(10, 10, 6, 6, 12, 12)
    tele = JointTransform(TASKS, steps, "focal")(sample, 0)
    assert (tele.targets["depth"].value == 3).all()
    assert (tele.targets["normals"].value == dense["normals"].value[0, 0]).all()
    assert tele.camera == Camera(15, 15, 6, 6, 12, 12)


def test_depth_that_a_zoom_moves_beyond_the_range_is_invalid() -> None:
    depth = DenseTarget(np.float32([[4.0, 6.0]] * 2), np.ones((2, 2), bool))
    sample = Sample(np.zeros((2, 2, 3), np.uint8), {"depth": depth}, "a")
    steps = [{"type": "random_scale_crop", "size": [1, 1], "scale": [0.5, 0.5]}]
    far = JointTransform([TaskSpec.depth(10.0)], steps, "fixed_intrinsics")(sample, 0).targets[
        "depth"
    ]
    assert (far.value.item(), far.valid.item()) == (0.0, False)  # 6 m -> 12 m


def test_disparity_grows_with_a_zoom_of_fixed_intrinsics_only() -> None:
    disparity = DenseTarget(np.full((8, 8), 40.0, np.float32), np.ones((8, 8), bool))
    disparity.value[4:], disparity.value[0, 0], disparity.valid[0, 0] = 50, 0, False
    sample = Sample(np.zeros((8, 8, 3), np.uint8), {"disparity": disparity}, "a")
    tasks = [TaskSpec.disparity(64.0)]
    zoom = [{"type": "random_scale_crop", "size": [12, 12], "scale": [1.5, 1.5]}]
    near = JointTransform(tasks, zoom, "fixed_intrinsics")(sample, 0).targets["disparity"]
    assert near.value.dtype == np.float32
    assert set(near.value[near.valid].tolist()) == {60.0}
    assert not near.valid[6:].any()  # 75 is beyond the range
    assert not near.value[~near.valid].any()
    assert near.valid[:6].sum() == 6 * 12 - 1  # one source pixel has no truth
    for steps, mode in (
        (zoom, "focal"),
        ([{"type": "resize", "size": [12, 12]}], "fixed_intrinsics"),
        ([FLIP], "focal"),
    ):
        same_scale = JointTransform(tasks, steps, mode)(sample, 0).targets["disparity"]
        assert set(same_scale.value[same_scale.valid].tolist()) == {40.0, 50.0}
    assert disparity.value[7, 7] == 50  # the input is left as it is


def test_the_classes_that_an_annotation_speaks_of_are_kept() -> None:
    known = np.array([True, False, True])
    targets = {
        "semseg": DenseTarget(np.zeros((8, 8), np.uint8), np.ones((8, 8), bool), known),
        "detection": BoxTarget(np.array([[1, 1, 7, 7]], np.float32), np.array([0]), known[:1]),
    }
    sample = Sample(np.zeros((8, 8, 3), np.uint8), targets, "a")
    for steps in (
        [],
        [FLIP, TURN],
        [{"type": "to_gray", "p": 1.0}],
        [{"type": "resize", "size": [4, 4]}],
    ):
        got = JointTransform(TASKS, steps)(sample, 0)
        assert got.targets["semseg"].known is known
        assert got.targets["detection"].known.tolist() == [True]


# Edges

EDGE = [TaskSpec.edge()]


def edges(
    sample_size: tuple[int, int], *points: tuple[int, int], valid: np.ndarray | None = None
) -> Sample:
    """Lines from point to point (x, y), one pixel thick, as OpenCV draws them: pixels touch at
    corners.
    """
    drawn = np.zeros(sample_size, np.uint8)
    for (x0, y0), (x1, y1) in pairwise(points):
        cv2.line(drawn, (x0, y0), (x1, y1), 1, lineType=cv2.LINE_8)
    mask = np.ones(sample_size, bool) if valid is None else valid
    return Sample(np.zeros((*sample_size, 3), np.uint8), {"edge": DenseTarget(drawn, mask)}, "a")


def pieces(sample: Sample) -> int:
    """Connected parts of the edges, over sides and corners."""
    return cv2.connectedComponents(sample.targets["edge"].value, connectivity=8)[0] - 1


SHRINK = {
    "0.5": [{"type": "resize", "size": [60, 80]}],
    "0.3": [{"type": "resize", "size": [36, 48]}],
    "0.77": [{"type": "random_scale_crop", "size": [120, 160], "scale": [0.77, 0.77]}],
    "stretch": [{"type": "resize", "size": [40, 150]}],
    "flip": [{"type": "resize", "size": [36, 48]}, FLIP],
    "turn": [{"type": "rotate", "limit": 180, "p": 1.0}],
    "turn a little": [{"type": "rotate", "limit": 8, "p": 1.0}],
    "turn, 0.5": [{"type": "rotate", "limit": 180, "p": 1.0}, {"type": "resize", "size": [60, 80]}],
    "0.3, turn": [{"type": "resize", "size": [36, 48]}, {"type": "rotate", "limit": 180, "p": 1.0}],
    "stretch, turn": [
        {"type": "resize", "size": [40, 150]},
        {"type": "rotate", "limit": 90, "p": 1.0},
    ],
    "2, turn": [{"type": "resize", "size": [240, 320]}, {"type": "rotate", "limit": 90, "p": 1.0}],
}


@pytest.mark.parametrize("name", SHRINK)
def test_lines_of_one_pixel_stay_in_one_piece(name: str) -> None:
    transform = JointTransform(EDGE, SHRINK[name])
    for angle in np.linspace(0, np.pi, 19):
        for shift in range(3):
            dx, dy = np.cos(angle), np.sin(angle)
            ends = [(round(80 + shift + t * dx), round(60 + shift + t * dy)) for t in (-45, 45)]
            sample = edges((120, 160), *ends)
            got = transform(sample, shift)
            assert pieces(got) == 1, (angle, shift)
            assert got.targets["edge"].value.dtype == np.uint8
            assert set(np.unique(got.targets["edge"].value)) <= {0, 1}


@pytest.mark.parametrize("name", SHRINK)
def test_a_closed_outline_stays_closed(name: str) -> None:
    """What lies inside cannot be reached from the outside over the sides of pixels."""
    points = [(100, 52), (82, 95), (57, 78), (62, 40), (100, 52)]
    for seed in range(5):
        got = JointTransform(EDGE, SHRINK[name])(edges((120, 160), *points), seed)
        background = 1 - got.targets["edge"].value
        areas = cv2.connectedComponentsWithStats(background, connectivity=4)[2][
            1:, cv2.CC_STAT_AREA
        ]
        assert sorted(areas)[-2] > 0.02 * background.size
        assert pieces(got) == 1


def test_edges_are_not_thicker_than_needed() -> None:
    sample = edges((120, 160), (20, 60), (140, 60))
    whole = sample.targets["edge"].value.sum()
    for name, thickest in (
        ("0.5", 1),
        ("0.3", 2),
    ):  # 10 / 3 rows become one, from 4: some lines are seen twice
        lines = [edges((120, 160), (20, y), (140, y)) for y in range(40, 60)]
        rows = [
            JointTransform(EDGE, SHRINK[name])(line, 0).targets["edge"].value.sum(axis=0)
            for line in lines
        ]
        assert {int(row.max()) for row in rows} == set(range(1, thickest + 1))
    turned = JointTransform(EDGE, SHRINK["turn a little"])(sample, 0).targets["edge"].value
    assert abs(int(turned.sum()) - whole) < 10
    grown = (
        JointTransform(EDGE, [{"type": "resize", "size": [240, 320]}])(sample, 0)
        .targets["edge"]
        .value
    )
    assert grown.sum() == 4 * whole
    np.testing.assert_array_equal(
        JointTransform(EDGE, [FLIP])(sample, 0).targets["edge"].value,
        sample.targets["edge"].value[:, ::-1],
    )


def test_edges_do_not_grow_into_pixels_without_truth() -> None:
    valid = np.ones((120, 160), bool)
    valid[61:] = False
    got = JointTransform(EDGE, SHRINK["0.3"])(
        edges((120, 160), (20, 60), (140, 60), valid=valid), 0
    ).targets["edge"]
    assert not got.value[~got.valid].any()
    sample = edges((120, 160), (20, 60), (140, 60))
    before = sample.targets["edge"].value.copy()
    JointTransform(EDGE, SHRINK["turn, 0.5"])(sample, 0)
    np.testing.assert_array_equal(sample.targets["edge"].value, before)


def test_masks_and_classes_are_not_thickened() -> None:
    line = edges((120, 160), (20, 60), (140, 60)).targets["edge"]
    tasks = [TaskSpec.saliency(), TaskSpec.semseg(["a", "b"])]
    sample = Sample(np.zeros((120, 160, 3), np.uint8), {"saliency": line, "semseg": line}, "a")
    got = JointTransform(tasks, SHRINK["0.3"])(sample, 0).targets
    for name in ("saliency", "semseg"):
        assert got[name].value.sum(axis=0).max() <= 1


@pytest.mark.parametrize(
    "size", [[60, 80], [100, 150], [240, 320], [333, 444], [480, 640], [700, 900]]
)
def test_image_and_targets_are_aligned_to_a_fraction_of_a_pixel(size: list[int]) -> None:
    """A ramp of the x coordinate: nearest is at most half a pixel off, the image not at all,
    neither is biased.
    """
    x = np.tile(np.arange(320) + 0.5, (240, 1))
    image = np.repeat((x * 0.75)[..., None], 3, axis=-1).round().astype(np.uint8)
    ones = np.ones((240, 320), bool)
    sample = Sample(image, {"depth": DenseTarget(x.astype(np.float32), ones)}, "ramp")
    got = JointTransform([TaskSpec.depth(1e4)], [{"type": "resize", "size": size}])(sample, 0)
    want = (np.arange(size[1]) + 0.5) * 320 / size[1]
    inner = (want > 3) & (want < 317)
    assert np.abs(got.image[:, inner, 0] / 0.75 - want[inner]).max() < 1.4  # rounded grey levels
    assert abs((got.image[:, inner, 0] / 0.75 - want[inner]).mean()) < 0.05
    off = (got.targets["depth"].value - want)[:, inner]
    assert np.abs(off).max() <= 0.5 + 1e-6
    middle = (
        want[inner] % 1 > 1e-9
    )  # where a centre falls between two source pixels either one will do
    assert abs(off[:, middle].sum()) <= 0.02 * off.size


def test_shrinking_averages_instead_of_aliasing() -> None:
    board = (np.indices((240, 320)).sum(0) % 2 * 255).astype(np.uint8)
    sample = Sample(np.repeat(board[..., None], 3, -1), {}, "board")
    for steps in (
        [{"type": "resize", "size": [97, 131]}],
        [TURN, {"type": "resize", "size": [60, 80]}],
    ):
        image = JointTransform(TASKS, steps)(sample, 1).image[10:-10, 10:-10]
        inside = image[np.abs(image.astype(int) - PAD_VALUE).max(-1) > 8]
        assert len(inside) < 0.02 * image[..., 0].size


def test_whole_pixel_moves_copy_pixels_exactly() -> None:
    got = JointTransform(TASKS, [{"type": "random_crop", "size": [100, 120]}, FLIP])(SOURCE, 2)
    assert got.camera is not None
    left, top = round(CAMERA.cx - (120 - got.camera.cx)), round(CAMERA.cy - got.camera.cy)
    window = (slice(top, top + 100), slice(left, left + 120))
    np.testing.assert_array_equal(got.image, SOURCE.image[window][:, ::-1])
    np.testing.assert_array_equal(
        got.targets["depth"].value, SOURCE.targets["depth"].value[window][:, ::-1]
    )


def test_padding_is_grey_and_invalid() -> None:
    white = replace(SOURCE, image=np.full_like(SOURCE.image, 255))
    for steps in ([{"type": "random_crop", "size": [300, 400]}], [TURN]):
        got = JointTransform(TASKS, steps)(white, 1)
        pad = (got.image == PAD_VALUE).all(-1)
        assert pad.mean() > 0.02
        assert (pad | (got.image == 255).all(-1)).all()  # the border does not bleed
        for task in ("semseg", "depth", "normals"):
            assert not got.targets[task].valid[pad].any()
            assert not got.targets[task].value[pad].any()


def test_equal_seeds_agree_and_different_seeds_differ() -> None:
    steps = [*TYPICAL, TURN, *PHOTOMETRIC[:3]]
    one, two = JointTransform(TASKS, steps), JointTransform(TASKS, steps)
    two(SOURCE, 99)  # no state is left behind
    assert same(one(SOURCE, 5), two(SOURCE, 5))
    assert len({one(SOURCE, seed).image.tobytes() for seed in range(8)}) == 8
    assert same(one(SOURCE, 2**63), pickle.loads(pickle.dumps(one))(SOURCE, 2**63))


def test_global_generators_and_the_input_stay_untouched() -> None:
    before = [a.copy() for a in arrays(SOURCE)]
    states = random.getstate(), np.random.get_state()[1].tolist()
    JointTransform(TASKS, [*TYPICAL, TURN, *PHOTOMETRIC], "fixed_intrinsics")(SOURCE, 1)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
    assert all((a == b).all() for a, b in zip(before, arrays(SOURCE), strict=True))


@pytest.mark.parametrize("step", PHOTOMETRIC, ids=lambda step: step["type"])
def test_photometric_steps_touch_the_image_only(step: dict[str, Any]) -> None:
    got = JointTransform(TASKS, [step])(SOURCE, 0)
    assert (got.image.shape, got.image.dtype) == (SOURCE.image.shape, np.uint8)
    assert (got.image != SOURCE.image).any()
    assert same(replace(got, image=SOURCE.image), SOURCE)
    assert got.camera == SOURCE.camera
    never = JointTransform(TASKS, [{**step, "p": 0}])(SOURCE, 0)
    assert same(never, SOURCE)


def test_steps_fire_independently() -> None:
    """Every step with its own coin: grey, dark and flipped occur in all eight combinations, at
    about even rates.
    """
    dark = {"type": "random_gamma", "gamma": [3.0, 3.0], "p": 0.5}
    transform = JointTransform(
        TASKS, [{"type": "to_gray", "p": 0.5}, dark, {"type": "horizontal_flip"}]
    )
    image = np.zeros((4, 4, 3), np.uint8) + np.uint8([200, 160, 120])
    image[:, :2] //= 2
    counts = np.zeros((2, 2, 2), int)
    for seed in range(400):
        pixels = transform(Sample(image, {}, "a"), seed).image.astype(int)
        flipped = pixels[0, 0].sum() > pixels[0, 3].sum()
        counts[int(np.ptp(pixels, axis=-1).max() == 0), int(pixels.max() < 150), int(flipped)] += 1
    assert counts.min() > 25
    assert counts.max() < 80


def test_an_empty_recipe_is_the_identity() -> None:
    transform = build_transform(TASKS, [])
    got = transform(SOURCE, 0)
    assert same(got, SOURCE)
    assert got.camera == SOURCE.camera
    odd = boxed([[5, 5, 5, 9]])
    assert same(transform(odd, 0), odd)


def test_absent_tasks_stay_absent_and_no_boxes_is_annotated() -> None:
    partial = replace(SOURCE, targets={"normals": SOURCE.targets["normals"]}, camera=None)
    got = JointTransform(TASKS, TYPICAL)(partial, 0)
    assert list(got.targets) == ["normals"]
    assert got.camera is None
    empty = boxes_of(JointTransform(TASKS, [FLIP])(boxed([]), 0))
    assert (empty.boxes.shape, empty.boxes.dtype, empty.labels.dtype) == (
        (0, 4),
        np.float32,
        np.int64,
    )


def test_boxes_golden_values() -> None:
    flipped = boxes_of(JointTransform(TASKS, [FLIP])(boxed([[10, 20, 30, 60]]), 0))
    np.testing.assert_array_equal(flipped.boxes, [[170, 20, 190, 60]])
    half = boxes_of(
        JointTransform(TASKS, [{"type": "resize", "size": [50, 400]}])(boxed([[10, 20, 30, 60]]), 0)
    )
    np.testing.assert_array_equal(half.boxes, [[20, 10, 60, 30]])


def test_bad_boxes_never_raise_and_are_counted() -> None:
    nan, inf = float("nan"), float("inf")
    bad = [
        [nan, 0, 10, 10],
        [0, 0, inf, 10],
        [30, 10, 20, 40],
        [10, 10, 10, 40],
        [0, 0, 0, 0],
        [-50, -50, -20, -20],
    ]
    small = [[20, 20, 21.5, 60], [180, 10, 270, 60]]  # too thin; visible to 22 %
    good = [[10, 10, 50, 50], [150, 10, 250, 60]]  # the second one is half visible
    for step in (FLIP, {"type": "rotate", "limit": 0, "p": 1.0}):
        transform = JointTransform(TASKS, [step])
        got = boxes_of(transform(boxed(bad + small + good), 0))
        assert got.labels.tolist() == [8, 9]
        assert transform.dropped_boxes == 8
        assert got.boxes.min() >= 0
        assert (got.boxes[:, [0, 2]] <= 200).all()


def test_bad_samples_are_refused_with_their_name() -> None:
    with pytest.raises(ValueError, match="unknown zoom 'lens'; known: focal, fixed_intrinsics"):
        JointTransform(TASKS, [], "lens")
    stretch = JointTransform(TASKS, RECIPES["stretch"], "fixed_intrinsics")
    with pytest.raises(
        ValueError, match=r"sample 'scene': .*240x320 to 180x320 stretches .* 'fixed_intrinsics'"
    ):
        stretch(SOURCE, 0)
    JointTransform(TASKS, [{"type": "resize", "size": [181, 240]}], "fixed_intrinsics")(
        SOURCE, 0
    )  # rounding
    transform = JointTransform(TASKS[:2], TYPICAL)
    with pytest.raises(
        ValueError, match="sample 'scene': target of unknown task 'normals'; known: semseg, depth"
    ):
        transform(SOURCE, 0)
    small = replace(SOURCE, image=SOURCE.image[:100], targets={"depth": SOURCE.targets["depth"]})
    with pytest.raises(
        ValueError, match=r"sample 'scene': task 'depth' has value \(240, 320\).*\(100, 320\)"
    ):
        transform(small, 0)
    with pytest.raises(
        ValueError,
        match=r"sample 'scene': its camera is for \(240, 320\), its image is \(100, 320\)",
    ):
        transform(replace(small, targets={}), 0)


def test_albumentations_is_imported_only_for_photometric_augmentations() -> None:
    code = (
        "import sys; from visionmtl.data.transforms.joint import build_transform;"
        "build_transform([], [{'type': 'horizontal_flip'}]);"
        "assert 'albumentations' not in sys.modules;"
        "build_transform([], [{'type': 'to_gray'}]);"
        "assert 'albumentations' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_augmentation_builds_with_its_defaults() -> None:
    given = {"size": [64, 96], "scale": [0.5, 1.5], "limit": 10}
    for name, cls in AUGMENTATIONS.items():
        options = options_model(cls).model_fields
        required = {key: given[key] for key, field in options.items() if field.is_required()}
        for seed in range(3):
            got = JointTransform(TASKS, [{"type": name, **required}])(SOURCE, seed)
            assert got.image.flags["C_CONTIGUOUS"]
