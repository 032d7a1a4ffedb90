from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from visionmtl.models.heads.decode import decode
from visionmtl.models.heads.detection import DetectionHead
from visionmtl.types import DetectionOutput

STRIDES = [4, 8, 16, 32]


def pyramid(size: tuple[int, int], channels: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    height, width = (side + -side % 32 for side in size)
    return [
        torch.randn((2, channels, height // s, width // s), generator=generator) for s in STRIDES
    ]


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 64), (64, 96)])
def test_fields_of_the_output(size: tuple[int, int]) -> None:
    out = DetectionHead(8, STRIDES, 3).eval()(pyramid(size), size)
    height, width = (side + -side % 32 for side in size)
    cells = [math.ceil(height / s) * math.ceil(width / s) for s in (8, 16, 32, 64)]
    assert out.class_logits.shape == (2, sum(cells), 3)
    assert out.distances.shape == (2, sum(cells), 4)
    assert out.centerness.shape == (2, sum(cells))
    assert out.points.shape == (sum(cells), 2)
    assert out.size == size
    assert out.distances.min() > 0
    expected = [
        float(s) for s, count in zip((8, 16, 32, 64), cells, strict=True) for _ in range(count)
    ]
    assert out.strides.tolist() == expected


def test_points_are_cell_centres_in_row_order() -> None:
    out = DetectionHead(8, STRIDES, 1).eval()(pyramid((32, 64)), (32, 64))
    assert out.points[:3].tolist() == [[4, 4], [12, 4], [20, 4]]
    assert out.points[8].tolist() == [4, 12]
    level_16 = out.points[out.strides == 16]
    assert level_16.tolist() == [[x, y] for y in (8, 24) for x in (8, 24, 40, 56)]
    assert out.points[-1].tolist() == [32, 32]  # the only cell of p6


def test_logits_lie_at_their_points() -> None:
    """A bright cell of p3 changes most at its own point."""
    torch.manual_seed(0)
    head = DetectionHead(4, STRIDES, 1, channels=4).eval()
    head.class_tower = nn.Sequential()
    maps = [torch.zeros(1, 4, 64 // s, 96 // s) for s in STRIDES]
    maps[1][..., 2, 5] = 1.0
    with torch.no_grad():
        head.class_logits.weight.zero_()
        head.class_logits.weight[..., 1, 1] = 1.0
    out = head(maps, (64, 96))
    best = int(out.class_logits[0, :, 0].argmax())
    assert out.points[best].tolist() == [5 * 8 + 4, 2 * 8 + 4]
    assert out.strides[best] == 8


def test_start_of_training() -> None:
    """Every class starts at probability 0.01 and boxes at about four strides."""
    torch.manual_seed(3)
    out = DetectionHead(8, STRIDES, 3).eval()(
        [torch.zeros_like(p) for p in pyramid((64, 64))], (64, 64)
    )
    probabilities = out.class_logits.sigmoid()
    torch.testing.assert_close(
        probabilities, torch.full_like(probabilities, 0.01), atol=1e-3, rtol=0
    )
    sides = (out.distances[..., 0] + out.distances[..., 2]) / out.strides
    torch.testing.assert_close(
        sides, torch.full_like(sides, 2 * math.log1p(math.exp(2.0))), atol=0.1, rtol=0
    )


def test_wrong_strides_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"^DetectionHead needs a pyramid with strides \[4, 8, 16, 32\], .* \[4, 8\]$",
    ):
        DetectionHead(8, [4, 8], 1)


def test_output_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        out = DetectionHead(8, STRIDES, 1)(pyramid((64, 64)), (64, 64))
    assert {out.class_logits.dtype, out.distances.dtype, out.centerness.dtype} == {torch.float32}


def output(
    boxes: list[Any], logits: list[Any], centerness: list[float] | None = None
) -> DetectionOutput:
    """One image of 100 x 200 with a point in the middle of every box; centerness is near 1 unless
    it is given.
    """
    corners = torch.tensor(boxes).reshape(-1, 4)
    points = (corners[:, :2] + corners[:, 2:]) / 2
    distances = torch.cat([points - corners[:, :2], corners[:, 2:] - points], dim=1)
    return DetectionOutput(
        class_logits=torch.tensor(logits).reshape(1, len(boxes), -1),
        distances=distances[None],
        centerness=torch.tensor(centerness or [20.0] * len(boxes))[None],
        points=points,
        strides=torch.full((len(boxes),), 8.0),
        size=(100, 200),
    )


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_one_hot_point_gives_its_box_and_score() -> None:
    out = output(
        [[10, 20, 50, 60], [0, 0, 5, 5]], [[-9.0, logit(0.64)], [-9.0, -9.0]], [logit(0.25), 0.0]
    )
    (found,) = decode(out)
    torch.testing.assert_close(found.boxes, torch.tensor([[10.0, 20.0, 50.0, 60.0]]))
    assert found.scores.tolist() == pytest.approx([math.sqrt(0.64 * 0.25)])
    assert found.labels.tolist() == [1]


def test_duplicates_are_removed_within_a_class_only() -> None:
    boxes = [[10.0, 10, 50, 50], [11.0, 11, 51, 51], [10.0, 10, 50, 50], [100.0, 10, 140, 50]]
    (found,) = decode(output(boxes, [[2.0, -9.0], [3.0, -9.0], [-9.0, 1.0], [0.0, -9.0]]))
    assert found.boxes.tolist() == [boxes[1], boxes[2], boxes[3]]
    assert found.labels.tolist() == [0, 1, 0]
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_iou_threshold_is_respected() -> None:
    out = output([[0.0, 0, 10, 10], [0.0, 0, 10, 5]], [[2.0], [1.0]])  # IoU 0.5
    assert len(decode(out, iou_threshold=0.6)[0].boxes) == 2
    assert len(decode(out, iou_threshold=0.4)[0].boxes) == 1


def test_one_point_may_have_two_classes() -> None:
    (found,) = decode(output([[10, 10, 50, 50]], [[3.0, 2.0]]))
    assert found.labels.tolist() == [0, 1]


def test_boxes_are_clipped_to_the_image() -> None:
    (found,) = decode(output([[-30, -20, 250, 180]], [[3.0]]))
    assert found.boxes.tolist() == [[0, 0, 200, 100]]


def test_boxes_outside_the_image_are_dropped() -> None:
    (found,) = decode(output([[210, 10, 260, 50], [10, 110, 50, 150]], [[3.0], [3.0]]))
    assert len(found.boxes) == 0


def test_threshold_and_limit() -> None:
    boxes = [[20.0 * i, 0, 20.0 * i + 10, 10] for i in range(8)]
    out = output(boxes, [[logit(0.1 * (i + 1))] for i in range(8)], [40.0] * 8)
    assert (
        len(decode(out, score_threshold=0.75)[0].scores) == 3
    )  # sqrt(0.6), sqrt(0.7) and sqrt(0.8)
    (found,) = decode(out, max_detections=2)
    assert found.boxes.tolist() == [boxes[7], boxes[6]]


@pytest.mark.parametrize("field", ["class_logits", "distances", "centerness"])
def test_nan_is_dropped(field: str) -> None:
    out = output([[10, 10, 50, 50], [100, 10, 140, 50]], [[3.0], [2.0]])
    getattr(out, field)[0, 0] = math.nan
    (found,) = decode(out)
    assert found.boxes.tolist() == [[100, 10, 140, 50]]


def test_nothing_found_keeps_shapes_and_kinds() -> None:
    (found,) = decode(output([[10, 10, 50, 50]], [[-9.0]]))
    assert (found.boxes.shape, found.scores.shape, found.labels.shape) == ((0, 4), (0,), (0,))
    assert (found.boxes.dtype, found.labels.dtype) == (torch.float32, torch.int64)


def test_images_of_a_batch_are_apart() -> None:
    out = output([[10, 10, 50, 50], [100, 10, 140, 50]], [[3.0], [-9.0]])
    out.class_logits = torch.stack([out.class_logits[0], out.class_logits[0].flip(0)])
    out.distances, out.centerness = out.distances.repeat(2, 1, 1), out.centerness.repeat(2, 1)
    first, second = decode(out)
    assert first.boxes.tolist() == [[10, 10, 50, 50]]
    assert second.boxes.tolist() == [[100, 10, 140, 50]]


def test_decoding_leaves_the_output_alone() -> None:
    out = output([[-30, -20, 250, 180]], [[3.0]])
    distances, points = out.distances.clone(), out.points.clone()
    decode(out)
    assert torch.equal(out.distances, distances)
    assert torch.equal(out.points, points)
