"""The output of the detection head -> boxes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from visionmtl.types import DetectionOutput, Detections

_CANDIDATES = 1000
"""Largest number of boxes of an image that go to non-maximum suppression."""


def decode(
    output: DetectionOutput,
    score_threshold: float = 0.05,
    iou_threshold: float = 0.6,
    max_detections: int = 100,
) -> list[Detections]:
    """Boxes of each image: score threshold, non-maximum suppression per class, the best of them.

    The score is the geometric mean of class probability and centerness (FCOS 2020, section 3.3).
    Boxes are clipped to the image; non-finite and empty ones are dropped.

    Args:
        output: what the head gives.
        score_threshold: boxes have a larger score.
        iou_threshold: of two boxes of a class with a larger IoU the better one stays.
        max_detections: largest number of boxes per image.
    """
    scores = (output.class_logits.sigmoid() * output.centerness.sigmoid().unsqueeze(-1)).sqrt()
    detections = []
    for of_image, boxes in zip(scores, _boxes(output), strict=True):
        sides = boxes[:, 2:] - boxes[:, :2]
        sound = (sides > 0).all(-1, keepdim=True) & boxes.isfinite().all(-1, keepdim=True)
        point, label = ((of_image > score_threshold) & sound).nonzero(as_tuple=True)
        score = of_image[point, label]
        order = score.topk(min(_CANDIDATES, len(score))).indices
        point = point[order]
        label = label[order]
        score = score[order]
        keep = batched_nms(boxes[point], score, label, iou_threshold)[:max_detections]
        detections.append(Detections(boxes[point[keep]], score[keep], label[keep]))
    return detections


def _boxes(output: DetectionOutput) -> Tensor:
    """The boxes of all points (B, A, 4), x1 y1 x2 y2, clipped to the image."""
    height, width = output.size
    left_top, right_bottom = output.distances.chunk(2, dim=-1)
    boxes = torch.cat([output.points - left_top, output.points + right_bottom], dim=-1)
    boxes[..., 0::2] = boxes[..., 0::2].clamp(0, width)
    boxes[..., 1::2] = boxes[..., 1::2].clamp(0, height)
    return boxes
