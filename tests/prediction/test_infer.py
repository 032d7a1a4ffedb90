from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionmtl.prediction.infer import infer, network_size
from visionmtl.prediction.tiles import OVERLAP, spans
from visionmtl.tasks import TaskSpec
from visionmtl.types import DetectionOutput

STRIDE = 32  # coarse: at most 576 points in a tile, decoding takes the best 1000


class LocalModel(nn.Module):
    """Per-pixel predictions from the colours; detection sees the visible part of each object, as a
    network would.

    An object is a region of one blue value above 0; its class is blue % 2.
    """

    multiple = 32

    def __init__(self, input_size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.tasks = [
            TaskSpec.detection(["even", "odd"], name="boxes"),
            TaskSpec.semseg(["a", "b", "c"]),
            TaskSpec.depth(),
            TaskSpec.normals(),
            TaskSpec.saliency(),
        ]
        self.input_size = input_size
        self.multiple = 32
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> dict[str, Tensor | DetectionOutput]:
        self.seen.append(tuple(images.shape))
        x = images.float() / 255
        blurred = F.avg_pool2d(x, 3, stride=1, padding=1)
        logits = torch.stack([x[:, 0], x[:, 1], 1 - x[:, 0] - x[:, 1]], dim=1)
        return {
            "boxes": self.boxes(images),
            "semseg": logits,
            "depth": 1 + 5 * blurred[:, :1],
            "normals": F.normalize(torch.stack([x[:, 0], x[:, 1] - 0.5, -1 - x[:, 0]], dim=1)),
            "saliency": 8 * x[:, :1] - 4,
        }

    def boxes(self, images: Tensor) -> DetectionOutput:
        height, width = images.shape[-2:]
        rows, columns = torch.meshgrid(
            torch.arange(0, height, STRIDE), torch.arange(0, width, STRIDE), indexing="ij"
        )
        points = torch.stack([columns.flatten(), rows.flatten()], dim=1)
        logits = torch.full((len(images), len(points), 2), -20.0)
        distances = torch.ones(len(images), len(points), 4)
        for b, blue in enumerate(images[:, 2].round().long()):
            at_point = blue[points[:, 1], points[:, 0]]
            for value in at_point[at_point > 0].unique().tolist():
                ys, xs = (blue == value).nonzero(as_tuple=True)
                inside = at_point == value
                p = points[inside]
                logits[b, inside, value % 2] = value / 50
                left, top, right, bottom = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
                distances[b, inside] = torch.stack(
                    [p[:, 0] - left, p[:, 1] - top, right - p[:, 0], bottom - p[:, 1]], dim=1
                ).float()
        centerness, strides = torch.full(logits.shape[:2], 20.0), torch.full((len(points),), STRIDE)
        return DetectionOutput(
            logits, distances, centerness, points.float(), strides, (height, width)
        )


def picture(
    height: int,
    width: int,
    objects: dict[int, tuple[int, int, int, int]] | None = None,
    batch: int = 1,
) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(batch, 3, 6, 9, generator=generator) * 255
    images = F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 255).to(torch.uint8)
    images[:, 2] = 0
    for blue, (x1, y1, x2, y2) in (objects or {}).items():
        images[:, 2, y1:y2, x1:x2] = blue
    return images


def test_same_size_is_the_output_of_the_model() -> None:
    model, images = LocalModel(), picture(37, 53, {101: (8, 8, 40, 36)}, batch=2)
    raw, out = model(images), infer(model, images)
    assert list(out) == ["boxes", "semseg", "depth", "normals", "saliency"]
    assert torch.equal(out["depth"], raw["depth"])
    assert torch.equal(out["normals"], raw["normals"])
    assert torch.equal(out["saliency"], raw["saliency"].sigmoid())
    assert torch.equal(out["semseg"], raw["semseg"].argmax(1))
    assert out["semseg"].dtype == torch.uint8
    assert out["semseg"].shape == (2, 37, 53)
    assert [d.boxes.tolist() for d in out["boxes"]] == [[[8, 8, 40, 36]]] * 2
    assert [d.labels.tolist() for d in out["boxes"]] == [[1]] * 2


def test_no_grad_and_mode_is_left_alone() -> None:
    model = LocalModel()
    assert model.training
    out = infer(model, picture(16, 16))
    assert model.training
    assert not out["depth"].requires_grad


@pytest.mark.parametrize(
    ("shape", "size", "input_size", "expected"),
    [
        ((480, 640), None, (240, 320), (240, 320)),
        ((480, 640), None, None, (480, 640)),
        ((480, 640), "native", (240, 320), (480, 640)),
        ((640, 480), 120, (240, 320), (160, 120)),
        ((100, 150), None, (320, 240), (240, 360)),
        ((1, 5000), None, (240, 320), (1, 1920)),
        ((1, 1), 64, None, (64, 64)),
    ],
)
def test_network_size(
    shape: tuple[int, int],
    size: int | None,
    input_size: tuple[int, int] | None,
    expected: tuple[int, int],
) -> None:
    assert network_size(*shape, size, input_size) == expected


@pytest.mark.parametrize("size", [0, -3, "large", 2.5, True])
def test_bad_size(size: object) -> None:
    with pytest.raises(
        ValueError, match="size must be a positive number of pixels, 'native' or None"
    ):
        infer(LocalModel(), picture(8, 8), size)


def test_bad_images_and_tile() -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 3, H, W\)"):
        infer(LocalModel(), torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="tile must be at least 768"):
        infer(LocalModel(), picture(8, 8), tile=512)


def test_dense_predictions_come_back_bilinearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "visionmtl.prediction.resize.STRIP_ELEMENTS", 3 * 101 * 7
    )  # strips of 7 rows for three channels
    model, images = LocalModel((48, 64)), picture(79, 101, batch=1)
    out = infer(model, images)
    assert model.seen == [(1, 3, 48, 61)]
    small = F.interpolate(images.float(), (48, 61), mode="bilinear", antialias=True)
    reference = {
        k: F.interpolate(v, (79, 101), mode="bilinear")
        for k, v in model(small).items()
        if k != "boxes"
    }
    torch.testing.assert_close(out["depth"], reference["depth"])
    torch.testing.assert_close(out["normals"], F.normalize(reference["normals"]))
    torch.testing.assert_close(out["saliency"], reference["saliency"].sigmoid())
    torch.testing.assert_close(out["normals"].norm(dim=1), torch.ones(1, 79, 101))
    assert (out["semseg"] != reference["semseg"].argmax(1)).float().mean() < 1e-3


def test_boxes_are_scaled_back() -> None:
    out = infer(
        LocalModel((64, 80)), picture(128, 160, {100: (64, 32, 128, 96)}), score_threshold=0.92
    )
    assert out["boxes"][0].boxes.tolist() == [[64, 32, 128, 96]]


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (31, 33)])
@pytest.mark.parametrize("size", [None, "native", 16])
def test_odd_shapes(shape: tuple[int, int], size: int | None) -> None:
    out = infer(LocalModel((24, 32)), picture(*shape), size)
    assert out["semseg"].shape == (1, *shape)
    assert out["depth"].shape == (1, 1, *shape)
    assert out["normals"].shape == (1, 3, *shape)


@pytest.mark.parametrize("limit", [768, 800, 2048])
def test_spans_cover_with_exact_overlaps(limit: int) -> None:
    for length in [
        1,
        limit,
        limit + 1,
        2 * limit - OVERLAP,
        2 * limit - OVERLAP + 1,
        5000,
        12000,
        16383,
    ]:
        found = spans(length, limit, 32)
        assert found[0].start == 0
        assert found[-1].stop == length
        assert all(s.stop - s.start <= limit and s.start % 32 == 0 for s in found)
        total = torch.zeros(length)
        for span in found:
            total[span.start : span.stop] += span.ramp(total)
        torch.testing.assert_close(total, torch.ones(length))
        for before, after in pairwise(found):
            assert before.stop - after.start == OVERLAP
            assert before.start + before.lead <= before.stop - before.trail


@pytest.mark.parametrize("shape", [(1500, 700), (901, 1333)])
def test_tiles_equal_the_whole_image(shape: tuple[int, int]) -> None:
    objects = {100: (24, 24, 88, 64), 101: (370, 200, 466, 280), 103: (600, 330, 696, 426)}
    model, images = LocalModel(), picture(*shape, objects)
    whole = infer(model, images, "native")
    model.seen.clear()
    tiled: Mapping[str, Any] = infer(model, images, "native", tile=768)
    assert len(model.seen) > 1
    assert all(h <= 768 and w <= 768 for _, _, h, w in model.seen)
    assert list(tiled) == list(whole)
    assert (tiled["semseg"] != whole["semseg"]).float().mean() < 1e-4
    torch.testing.assert_close(tiled["normals"], whole["normals"])
    torch.testing.assert_close(tiled["saliency"], whole["saliency"])
    difference = (tiled["depth"] - whole["depth"]).abs()
    assert (
        difference.max() < 0.02
    )  # zero padding at the outermost pixel of a tile, where the ramp is 1/512
    assert difference.median() < 1e-6
    for a, b in zip(tiled["boxes"], whole["boxes"], strict=True):
        torch.testing.assert_close(a.boxes, b.boxes)
        torch.testing.assert_close(a.scores, b.scores)
        assert a.labels.tolist() == b.labels.tolist()


def test_objects_larger_than_the_overlap_come_out_once() -> None:
    objects = {
        100: (40, 40, 1450, 200),
        121: (300, 260, 800, 960),
        141: (900, 300, 1200, 900),
        142: (1300, 500, 1350, 550),
    }
    out = infer(LocalModel(), picture(1000, 1500, objects, batch=2), "native", tile=768)
    for found in out["boxes"]:
        pairs = zip(found.boxes.tolist(), found.labels.tolist(), strict=True)
        boxes = sorted([*map(int, box), label] for box, label in pairs)
        assert boxes == sorted([*box, blue % 2] for blue, box in objects.items())
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_neighbours_in_an_overlap_stay_apart() -> None:
    low = spans(1400, 768, 32)[1].start
    objects = {101: (low - 100, 40, low + 120, 240), 103: (low + 130, 40, low + 400, 240)}
    out = infer(LocalModel(), picture(700, 1400, objects), "native", tile=768)
    assert sorted(map(tuple, out["boxes"][0].boxes.int().tolist())) == sorted(objects.values())


def test_tiles_of_a_resized_image_and_no_boxes() -> None:
    images = picture(500, 640)
    out: Mapping[str, Any] = infer(LocalModel(), images, 1000, tile=768)
    assert out["semseg"].shape == (1, 500, 640)
    assert out["boxes"][0].boxes.shape == (0, 4)
    assert (out["semseg"] != infer(LocalModel(), images)["semseg"]).float().mean() < 0.01
    torch.testing.assert_close(
        out["saliency"], infer(LocalModel(), images)["saliency"], atol=0.05, rtol=0
    )
    torch.testing.assert_close(out["normals"].norm(dim=1), torch.ones(1, 500, 640))
