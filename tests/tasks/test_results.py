from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visionmtl.prediction.result import Result
from visionmtl.tasks.coco import write_coco
from visionmtl.tasks.depth import DepthResult
from visionmtl.tasks.detection import DetectionResult
from visionmtl.tasks.disparity import DisparityResult
from visionmtl.tasks.edge import EdgeResult
from visionmtl.tasks.mask import MaskResult
from visionmtl.tasks.normals import NormalsResult
from visionmtl.tasks.range import RangeCodec
from visionmtl.tasks.result import DenseResult, TaskResult
from visionmtl.tasks.semseg import SemSegResult
from visionmtl.types import BoxTarget, DenseTarget, Detections, TaskSpec

SEMSEG, DEPTH, NORMALS = (
    TaskSpec.semseg(["wall", "floor", "chair"]),
    TaskSpec.depth(),
    TaskSpec.normals(),
)
DETECTION = TaskSpec.detection(["dog", "cat"])
DISPARITY, SALIENCY, EDGE = TaskSpec.disparity(64.0), TaskSpec.saliency(), TaskSpec.edge()
H, W = 6, 8
IMAGE = np.full((H, W, 3), 100, np.uint8)


def results() -> dict[str, TaskResult]:
    vectors = F.normalize(torch.randn(3, H, W, generator=torch.Generator().manual_seed(0)), dim=0)
    found = Detections(torch.tensor([[1.0, 2, 5, 6]]), torch.tensor([0.5]), torch.tensor([1]))
    return {
        "semseg": SEMSEG.kind.result_of(torch.ones(H, W, dtype=torch.uint8)),
        "depth": DEPTH.kind.result_of(torch.full((1, H, W), 2.5)),
        "normals": NORMALS.kind.result_of(vectors),
        "detection": DETECTION.kind.result_of(found),
        "disparity": DISPARITY.kind.result_of(torch.full((1, H, W), 20.5)),
        "saliency": SALIENCY.kind.result_of(torch.eye(W)[None, :H]),
        "edge": EDGE.kind.result_of(torch.eye(W)[None, :H]),
    }


def test_outputs_are_finished() -> None:
    logits = torch.randn(2, 3, H, W)
    ids = SEMSEG.kind.finish(logits, False)
    assert (ids.shape, ids.dtype) == ((2, 1, H, W), torch.uint8)
    assert torch.equal(ids[:, 0].long(), logits.argmax(1))
    metres = torch.rand(2, 1, H, W, dtype=torch.float64)
    assert DEPTH.kind.finish(metres, True).dtype == torch.float32
    assert torch.equal(DISPARITY.kind.finish(metres.float(), False), metres.float())
    mixed = torch.randn(2, 3, H, W)
    assert torch.equal(NORMALS.kind.finish(mixed, False), mixed)
    torch.testing.assert_close(NORMALS.kind.finish(mixed, True).norm(dim=1), torch.ones(2, H, W))
    for resampled in (False, True):
        probability = SALIENCY.kind.finish(logits[:, :1].bfloat16(), resampled)
        assert probability.dtype == torch.float32
        assert torch.equal(probability, logits[:, :1].bfloat16().float().sigmoid())


def test_predictions_become_arrays() -> None:
    semseg, depth, normals, detection, disparity, saliency, edge = results().values()
    assert isinstance(semseg, SemSegResult)
    assert (semseg.class_ids.shape, semseg.classes) == ((H, W), SEMSEG.classes)
    assert isinstance(depth, DepthResult)
    assert (depth.metres.shape, depth.metres.dtype) == ((H, W), np.float32)
    assert isinstance(normals, NormalsResult)
    assert normals.vectors.shape == (H, W, 3)
    assert normals.vectors.flags["C_CONTIGUOUS"]
    assert isinstance(detection, DetectionResult)
    assert (detection.boxes.tolist(), detection.labels.tolist()) == ([[1, 2, 5, 6]], [1])
    assert isinstance(disparity, DisparityResult)
    assert (disparity.disparity.shape, disparity.disparity.dtype) == ((H, W), np.float32)
    for mask in (saliency, edge):
        assert isinstance(mask, MaskResult)
        assert (mask.probability.shape, mask.probability.dtype) == ((H, W), np.float32)


def test_a_perfect_prediction_is_drawn_as_the_truth() -> None:
    everywhere = np.ones((H, W), bool)
    for spec in (SEMSEG, DEPTH, NORMALS, DISPARITY, SALIENCY, EDGE):
        result = results()[spec.kind.name]
        assert isinstance(result, DenseResult)
        target = DenseTarget(result.value.astype(spec.kind.dtype), everywhere)
        for largest in (None, 10.0, 64.0):
            truth = spec.kind.draw(target, IMAGE, largest)
            np.testing.assert_array_equal(truth, result.draw(IMAGE, largest))
    boxes = results()["detection"]
    assert isinstance(boxes, DetectionResult)
    truth = DETECTION.kind.draw(BoxTarget(boxes.boxes, boxes.labels), IMAGE)
    assert truth.shape == boxes.draw(IMAGE).shape == IMAGE.shape


def test_results_follow_the_size_of_the_image() -> None:
    half: dict[str, Any] = {task: result.scaled(0.5) for task, result in results().items()}
    assert half["semseg"].class_ids.shape == half["depth"].metres.shape == (3, 4)
    assert half["normals"].vectors.shape == (3, 4, 3)
    np.testing.assert_allclose(np.linalg.norm(half["normals"].vectors, axis=-1), 1, rtol=1e-6)
    assert half["detection"].boxes.tolist() == [[0.5, 1, 2.5, 3]]
    assert (
        half["disparity"].disparity.tolist() == [[20.5] * 4] * 3
    )  # resizing an image leaves its disparities
    assert half["edge"].probability.shape == (3, 4)
    assert half["edge"].probability.diagonal().tolist() == [0.5] * 3  # the line has no gaps


def test_a_result_is_a_mapping_in_task_order(tmp_path: Path) -> None:
    result = Result(IMAGE, results(), "a.png")
    assert list(result) == [
        "semseg",
        "depth",
        "normals",
        "detection",
        "disparity",
        "saliency",
        "edge",
    ]
    assert len(result) == 7
    assert result.panel().dtype == np.uint8
    result.save(tmp_path, "x")
    written = {path.name for path in tmp_path.iterdir()}
    assert written >= {"x_panel.jpg", "x_semseg.png", "x_detection.json"}
    assert written >= {"x_disparity.png", "x_disparity_color.png", "x_saliency.png", "x_edge.png"}


def test_depth_beyond_16_bits_is_unknown(tmp_path: Path) -> None:
    far = TaskSpec.depth(80.0).kind
    DepthResult(far, np.float32([[65.535, 65.54, np.nan, np.inf]])).save(tmp_path, "d", IMAGE)
    assert cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED).tolist() == [[65535, 0, 0, 0]]


def test_disparity_is_written_as_a_folder_reads_it(tmp_path: Path) -> None:
    kind = TaskSpec.disparity(300.0).kind
    values = np.float32([[0.25, 100.125, 255.99], [0.0, 256.0, np.nan]])
    DisparityResult(kind, values).save(tmp_path, "d", IMAGE)
    target = RangeCodec(kind, scale=1 / 256).read(tmp_path / "d.png")
    np.testing.assert_allclose(target.value[0], values[0], atol=1 / 512)
    assert target.valid.tolist() == [[True] * 3, [False] * 3]


def test_masks_are_written_in_8_bits(tmp_path: Path) -> None:
    EdgeResult(EDGE.kind, np.float32([[0, 0.5, 1]])).save(tmp_path, "e", IMAGE)
    assert cv2.imread(str(tmp_path / "e.png"), cv2.IMREAD_UNCHANGED).tolist() == [[0, 128, 255]]


def test_coco_of_several_images(tmp_path: Path) -> None:
    boxes = results()["detection"]
    assert isinstance(boxes, DetectionResult)
    write_coco(
        tmp_path / "c.json",
        [{"id": 0}, {"id": 1}],
        [*boxes.to_coco(0), *boxes.to_coco(1)],
        boxes.classes,
    )
    content = json.loads((tmp_path / "c.json").read_text("utf-8"))
    assert [(a["id"], a["image_id"], a["area"]) for a in content["annotations"]] == [
        (1, 0, 16),
        (2, 1, 16),
    ]
    assert content["categories"] == [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}]


@pytest.mark.parametrize("task", list(results()))
def test_files_go_to_an_existing_folder_only(task: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match="nowhere"):
        results()[task].save(tmp_path / "nowhere", "x", IMAGE, "a.png")
