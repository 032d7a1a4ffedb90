from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionmtl.tasks.depth import draw_depth
from visionmtl.tasks.detection import draw_boxes
from visionmtl.tasks.disparity import draw_disparity
from visionmtl.tasks.drawing import GAP, draw_values, grid, palette, save_image
from visionmtl.tasks.edge import draw_edges
from visionmtl.tasks.normals import draw_normals
from visionmtl.tasks.saliency import draw_saliency
from visionmtl.tasks.semseg import draw_semseg

CLASSES = ["wall", "floor", "chair"]


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def test_palette_is_distinct_and_stable() -> None:
    colours = palette(255)
    assert colours.shape == (255, 3)
    assert colours.dtype == np.uint8
    assert len(np.unique(colours, axis=0)) == 255
    assert np.array_equal(palette(13), colours[:13])
    apart = np.abs(colours[:20, None].astype(int) - colours[None, :20]).sum(-1) + 999 * np.eye(
        20, dtype=int
    )
    assert apart.min() >= 60
    with pytest.raises(ValueError, match="read-only"):
        colours[0] = 0


def test_semseg_blends_colours_and_blackens_invalid() -> None:
    ids = np.zeros((8, 6), np.uint8)
    ids[:, 3:] = 2
    valid = np.ones((8, 6), bool)
    valid[0] = False
    plain = draw_semseg(ids, valid, None, CLASSES)  # too small for a legend
    assert (plain[0] == 0).all()
    assert (plain[1:, :3] == palette(3)[0]).all()
    assert (plain[1:, 3:] == palette(3)[2]).all()
    mixed = draw_semseg(ids, None, grey(8, 6), CLASSES, alpha=0.5)
    assert np.abs(mixed[4, 4].astype(int) - (palette(3)[2] / 2 + 50)).max() <= 1


def test_semseg_legend_shows_only_present_classes() -> None:
    one, three = np.ones((120, 160), np.uint8), np.ones((120, 160), np.uint8)
    three[:10], three[10:20] = 0, 2
    small, large = (draw_semseg(ids, None, None, CLASSES) for ids in (one, three))
    drawn = [(picture[30:] != palette(3)[1]).any(-1).any(1).sum() for picture in (small, large)]
    assert 0 < drawn[0] < drawn[1] < 90


def test_depth_is_warm_near_cool_far_black_invalid() -> None:
    metres = np.linspace(0.5, 9.5, 100, dtype=np.float32)[None].repeat(4, 0)
    valid = np.ones(metres.shape, bool)
    valid[:, 50] = False
    picture = draw_depth(metres, valid, max_depth=10)
    assert (picture[:, 50] == 0).all()
    assert picture[0, 2, 0] > picture[0, 2, 2]
    assert picture[0, -2, 2] > picture[0, -2, 0]
    metres[:, 60] = np.nan
    assert (draw_depth(metres)[:, 60] == 0).all()
    assert (draw_depth(metres, np.zeros_like(valid)) == 0).all()


def test_depth_range_can_be_shared() -> None:
    near, far = np.full((4, 4), 2, np.float32), np.full((4, 4), 4, np.float32)
    assert np.array_equal(draw_depth(near), draw_depth(far))
    assert not np.array_equal(draw_depth(near, max_depth=5), draw_depth(far, max_depth=5))


def test_disparity_has_the_colours_of_depth() -> None:
    disparity = np.linspace(1, 99, 100, dtype=np.float32)[None].repeat(4, 0)
    valid = np.ones(disparity.shape, bool)
    valid[:, 50] = False
    picture = draw_disparity(disparity, valid, max_disparity=100)
    np.testing.assert_array_equal(picture, draw_depth(100 - disparity, valid, max_depth=100))
    assert picture[0, 2, 2] > picture[0, 2, 0]  # far, cool
    assert not np.array_equal(draw_disparity(disparity), picture)


@pytest.mark.parametrize(("draw", "first"), [(draw_depth, "near"), (draw_disparity, "far")])
def test_scales_run_from_zero(draw: Callable[[np.ndarray], np.ndarray], first: str) -> None:
    picture = draw(np.full((200, 300), np.nan, np.float32)).astype(
        int
    )  # only the scale has colours
    bar = picture[:, (np.ptp(picture, axis=2) > 60).any(0)].max(0)
    assert len(bar) > 50
    left, right = ("near", "far") if bar[5, 0] > bar[5, 2] else ("far", "near")
    assert left == first
    assert (bar[-5, 0] > bar[-5, 2]) == (right == "near")


def test_values_of_any_sign_run_from_cool_to_warm() -> None:
    values = np.linspace(-1, 1, 100, dtype=np.float32)[None].repeat(4, 0)
    valid = np.ones(values.shape, bool)
    valid[:, 50] = False
    picture = draw_values(values, valid)
    assert (picture[:, 50] == 0).all()
    assert picture[0, 4, 2] > picture[0, 4, 0]  # low, cool
    assert picture[0, -5, 0] > picture[0, -5, 2]
    assert np.array_equal(draw_values(values, valid, 1.0), draw_values(values, valid, 1.0))
    positive = np.abs(values)
    assert not np.array_equal(draw_values(positive, None, 1.0), draw_values(positive, None, 2.0))
    assert (draw_values(values, ~np.ones_like(valid)) == 0).all()


def test_saliency_glows() -> None:
    probability = np.float32([[0, 0.5, 1, np.nan, 1]])
    valid = np.array([[True, True, True, True, False]])
    picture = draw_saliency(probability, valid, grey(1, 5)).astype(int)[0]
    assert picture[0].tolist() == picture[3].tolist() == [45] * 3
    assert picture[2, 0] > picture[1, 0] > picture[0, 0]
    assert picture[2, 0] > picture[2, 1] > picture[2, 2]
    assert picture[4].tolist() == [0] * 3
    assert draw_saliency(probability > 0.9, None, grey(1, 5))[0, 2].tolist() == picture[2].tolist()


def test_edges_are_bright_lines() -> None:
    probability = np.zeros((9, 9), np.float32)
    probability[4] = 1
    image = grey(9, 9)
    picture = draw_edges(probability, None, image)
    assert (image == 100).all()
    assert (picture[4] == (255, 225, 130)).all()
    assert (picture[:4] == 30).all()
    assert (draw_edges(probability.astype(np.uint8), probability > 2, image) == 0).all()


def test_normals_colours() -> None:
    vectors = np.float32([[[1, 0, 0], [0, -1, 0], [0, 0, -1], [-1, 0, 0], [0, 0, 0]]])
    picture = draw_normals(vectors, np.array([[True, True, True, True, False]]))
    assert picture[0].tolist() == [
        [255, 128, 128],
        [128, 255, 128],
        [128, 128, 255],
        [0, 128, 128],
        [0, 0, 0],
    ]


def test_boxes_are_outlined_and_tags_stay_inside() -> None:
    image = grey(200, 300)
    picture = draw_boxes(
        image, np.float32([[40, 60, 200, 180]]), np.array([1]), np.float32([0.87]), CLASSES
    )
    assert (image == 100).all()
    assert (picture[60, 150:200] == palette(3)[1]).all()
    assert (picture[179, 40:200] == palette(3)[1]).all()
    assert (picture[180:] == 100).all()
    assert (picture[80:170, 60:190] == 100).all()
    corners = np.float32([[0, 0, 5, 5], [290, 0, 300, 10], [-20, 190, 400, 260]])
    assert draw_boxes(image, corners, np.array([0, 1, 2]), None, CLASSES).shape == image.shape
    empty = draw_boxes(image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), None, CLASSES)
    assert np.array_equal(empty, image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (31, 47), (240, 320)])
def test_every_picture_at_odd_sizes(shape: tuple[int, int]) -> None:
    image, valid = grey(*shape), np.ones(shape, bool)
    box = np.float32([[0, 0, shape[1], shape[0]]])
    for picture in (
        draw_semseg(np.ones(shape, np.uint8), valid, image, CLASSES),
        draw_depth(np.ones(shape, np.float32), valid),
        draw_disparity(np.ones(shape, np.float32), valid),
        draw_saliency(np.ones(shape, np.float32), valid, image),
        draw_edges(np.ones(shape, np.float32), None, image),
        draw_values(np.ones(shape, np.float32), valid),
        draw_normals(np.zeros((*shape, 3), np.float32), ~valid),
        draw_boxes(image, box, np.array([2]), None, CLASSES),
    ):
        assert picture.shape == (*shape, 3)
        assert picture.dtype == np.uint8


def test_grid_layout() -> None:
    red, wide = np.full((40, 30, 3), (255, 0, 0), np.uint8), np.zeros((20, 40, 3), np.uint8)
    sheet = grid([[red, wide], [red]])
    assert sheet.shape == (2 * 40 + 3 * GAP, 30 + 80 + 3 * GAP, 3)
    assert (sheet[GAP : GAP + 40, GAP : GAP + 30] == (255, 0, 0)).all()
    assert (sheet[GAP : GAP + 40, GAP + 30 + GAP : -GAP] == 0).all()
    assert (sheet[GAP + 40 + GAP :, GAP + 30 :] == 255).all()
    assert (sheet[:GAP] == 255).all()
    titled = grid([[red, wide]], titles=["a long title", "b"], height=20)
    assert titled.shape[0] > 20 + 2 * GAP
    assert (titled[:GAP] < 255).sum() < (titled[: -20 - GAP] < 255).sum()
    with pytest.raises(ValueError, match="at least one image"):
        grid([[]])


def test_save_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    path = tmp_path / "Zürich 東京.png"
    save_image(path, pixels)
    assert np.array_equal(np.array(Image.open(path)), pixels)
    with pytest.raises(ValueError, match=r"missing.*does not exist"):
        save_image(tmp_path / "missing" / "a.png", pixels)
    with pytest.raises(ValueError, match=r"a\.xyz: cannot write uint8 of shape \(5, 7, 3\)"):
        save_image(tmp_path / "a.xyz", pixels)
    with pytest.raises(ValueError, match="no suffix"):
        save_image(tmp_path / "a", pixels)
    with pytest.raises(ValueError, match=r"wide\.jpg"):
        save_image(tmp_path / "wide.jpg", np.zeros((1, 70000, 3), np.uint8))
