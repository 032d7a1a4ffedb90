from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from visionmtl.metrics import DetectionMetric
from visionmtl.types import BoxTargets, Detections

CLASSES = ("car", "person", "bike", "bus")
KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_100")
Image = tuple[Detections, Tensor, Tensor, bool]


def image(
    found: list[list[float]],
    scores: list[float],
    found_labels: list[int],
    truth: list[list[float]],
    labels: list[int],
) -> Image:
    detections = Detections(
        torch.tensor(found).view(-1, 4), torch.tensor(scores), torch.tensor(found_labels).long()
    )
    return detections, torch.tensor(truth).view(-1, 4), torch.tensor(labels).long(), True


def random_images(count: int = 12, seed: int = 0) -> list[Image]:
    """Noisy copies of the true boxes plus wrong ones; class ``bus`` has no truth, every fourth
    image no boxes.
    """
    g = torch.Generator().manual_seed(seed)
    images: list[Image] = []
    for i in range(count):
        n = 0 if i % 4 == 3 else 5
        corner, size = 300 * torch.rand(n, 2, generator=g), 10 + 150 * torch.rand(n, 2, generator=g)
        boxes = torch.cat([corner, corner + size], 1)
        labels = torch.randint(0, 3, (n,), generator=g)
        wrong = torch.tensor([[10.0, 10.0, 50.0, 60.0], [0.0, 0.0, 20.0, 20.0]])
        found = torch.cat([boxes + 4 * torch.randn(n, 4, generator=g), wrong])
        found_labels = torch.cat([labels, torch.tensor([0, 3])])
        images.append(
            (Detections(found, torch.rand(n + 2, generator=g), found_labels), boxes, labels, True)
        )
    return images


def batch(images: list[Image]) -> tuple[list[Detections], BoxTargets]:
    detections, boxes, labels, annotated = map(list, zip(*images, strict=True))
    return detections, BoxTargets(boxes, labels, annotated)


def compute(*batches: list[Image]) -> dict[str, Any]:
    metric = DetectionMetric(CLASSES)
    for images in batches:
        metric.update(*batch(images))
    return metric.compute()


def pycocotools_stats(images: list[Image]) -> list[float]:
    annotations, results = [], []
    for i, (found, boxes, labels, _) in enumerate(images):
        for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            w, h = x2 - x1, y2 - y1
            annotations.append(
                {
                    "image_id": i,
                    "bbox": [x1, y1, w, h],
                    "area": w * h,
                    "category_id": label,
                    "iscrowd": 0,
                }
            )
            annotations[-1]["id"] = len(annotations)
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        ):
            results.append(
                {
                    "image_id": i,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                    "category_id": label,
                }
            )
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": i} for i in range(len(CLASSES))],
    }
    truth.createIndex()
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return list(evaluation.stats)


def assert_same(a: dict[str, object], b: dict[str, object]) -> None:
    assert a["per_class"] == pytest.approx(b["per_class"], nan_ok=True)
    assert [a[key] for key in KEYS] == pytest.approx([b[key] for key in KEYS], nan_ok=True)


def test_golden_value():
    box = [0.0, 0.0, 40.0, 40.0]
    result = compute([image([box], [0.9], [0], [box, [60.0, 60.0, 100.0, 100.0]], [0, 0])])
    # Recall 1/2 at precision 1: 51 of COCO's 101 recall points are reached.
    assert result["map"] == pytest.approx(100 * 51 / 101)
    assert result["mar_100"] == pytest.approx(50.0)
    assert math.isnan(result["map_small"])
    assert result["map_medium"] == pytest.approx(100 * 51 / 101)
    assert math.isnan(result["map_large"])


def test_iou_on_a_threshold_matches():
    # IoU is exactly 0.6, so the thresholds 0.50, 0.55 and 0.60 are met: 3 of 10.
    result = compute([image([[0.0, 0.0, 10.0, 6.0]], [0.9], [0], [[0.0, 0.0, 10.0, 10.0]], [0])])
    assert result["map"] == pytest.approx(30.0)


@pytest.mark.parametrize("seed", range(3))
def test_equals_pycocotools(seed: int):
    images = random_images(seed=seed)
    stats = pycocotools_stats(images)
    expected = [100 * stats[i] if stats[i] >= 0 else math.nan for i in (0, 1, 2, 3, 4, 5, 8)]
    result = compute(images)
    assert [result[key] for key in KEYS] == pytest.approx(expected, abs=1e-4, nan_ok=True)
    assert 5 < result["map"] < 95, "the comparison says nothing at 0 or 100"


def test_class_without_truth_is_nan_and_enters_no_mean():
    result = compute(random_images())
    per_class = result["per_class"]
    assert list(per_class) == list(CLASSES)
    assert math.isnan(per_class["bus"])
    assert result["map"] == pytest.approx(np.nanmean(list(per_class.values())))


def test_perfect_prediction():
    images = [
        (Detections(boxes, torch.ones(len(boxes)), labels), boxes, labels, True)
        for _, boxes, labels, _ in random_images()
    ]
    result = compute(images)
    assert result["map"] == pytest.approx(100.0)
    assert result["mar_100"] == pytest.approx(100.0)


def test_batches_in_any_order_and_merged_states_equal_the_whole():
    images = random_images()
    whole = compute(images)
    assert_same(compute(images[7:], images[:7]), whole)
    first, second = DetectionMetric(CLASSES), DetectionMetric(CLASSES)
    first.update(*batch(images[:5]))
    second.update(*batch(images[5:]))
    first.merge_state(second)
    assert_same(first.compute(), whole)


def test_images_that_are_not_annotated_do_not_count():
    images = random_images()
    found, boxes, labels, _ = random_images(1, seed=9)[0]
    assert_same(compute([*images, (found, boxes, labels, False)]), compute(images))


def test_image_without_boxes_is_a_negative():
    box = [0.0, 0.0, 40.0, 40.0]
    positive = image([box], [0.8], [0], [box], [0])
    negative = image([box], [0.9], [0], [], [])
    assert compute([positive])["map"] == pytest.approx(100.0)
    assert compute([positive, negative])["map"] == pytest.approx(50.0)


def test_nothing_found_is_zero():
    result = compute([image([], [], [], [[0.0, 0.0, 9.0, 9.0]], [1])])
    assert (result["map"], result["mar_100"], result["per_class"]["person"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    "images",
    [
        [image([], [], [], [], [])],
        [image([[0.0, 0.0, 9.0, 9.0]], [0.5], [2], [], [])],
        [(*image([[0.0, 0.0, 9.0, 9.0]], [0.5], [2], [[0.0, 0.0, 9.0, 9.0]], [2])[:3], False)],
    ],
    ids=["no boxes at all", "no true boxes", "not annotated"],
)
def test_nothing_to_find_is_nan(images: list[Image]):
    result = compute(images)
    assert all(math.isnan(result[key]) for key in KEYS)
    assert all(math.isnan(value) for value in result["per_class"].values())


def test_is_silent_and_resets(capfd: pytest.CaptureFixture[str]):
    metric = DetectionMetric(CLASSES)
    metric.update(*batch(random_images(seed=1)))
    metric.compute()
    metric.reset()
    metric.update(*batch(random_images(seed=2)))
    assert_same(metric.compute(), compute(random_images(seed=2)))
    assert capfd.readouterr() == ("", "")


def test_half_precision_detections():
    found, boxes, labels, _ = random_images()[0]
    half = Detections(found.boxes.half(), found.scores.bfloat16(), found.labels)
    assert 0 < compute([(half, boxes, labels, True)])["map"] <= 100


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"detection: class ids \[4\] outside 0\.\.3"):
        compute([image([[0.0, 0.0, 9.0, 9.0]], [0.5], [4], [[0.0, 0.0, 9.0, 9.0]], [1])])
    detections, targets = batch(random_images(3))
    with pytest.raises(ValueError, match="detection: expected 3 images, got 2"):
        DetectionMetric(CLASSES).update(detections[:2], targets)


# Annotations that speak of some classes only


def test_detections_of_unknown_classes_are_left_out():
    images = random_images()  # the wrong boxes are of classes 0 and 3
    detections, targets = batch(images)
    targets.known = torch.tensor([[True, True, True, i % 2 == 0] for i in range(len(images))])
    metric = DetectionMetric(CLASSES)
    metric.update(detections, targets)
    without = [
        (Detections(f.boxes[f.labels < 3], f.scores[f.labels < 3], f.labels[f.labels < 3]), *rest)
        if i % 2
        else (f, *rest)
        for i, (f, *rest) in enumerate(images)
    ]
    assert_same(metric.compute(), compute(without))


def test_a_false_alarm_counts_where_its_class_is_annotated():
    box = [0.0, 0.0, 40.0, 40.0]
    positive = image([box], [0.8], [0], [box], [0])
    alarm = image([box], [0.9], [0], [box], [1])

    def value(known: list[bool]) -> float:
        detections, targets = batch([positive, alarm])
        targets.known = torch.tensor([[True] * 4, known])
        metric = DetectionMetric(CLASSES)
        metric.update(detections, targets)
        return metric.compute()["per_class"]["car"]

    assert value([True, True, False, False]) == pytest.approx(50.0)
    assert value([False, True, False, False]) == pytest.approx(100.0)
    detections, targets = batch([positive, alarm])
    metric = DetectionMetric(CLASSES)
    metric.update(detections, targets)  # None: all speak of all
    assert metric.compute()["per_class"]["car"] == pytest.approx(50.0)


def test_nothing_is_left_of_the_detections():
    detections, targets = batch(
        [image([[0.0, 0.0, 9.0, 9.0]], [0.5], [3], [[0.0, 0.0, 9.0, 9.0]], [1])]
    )
    targets.known = torch.tensor([[False, True, False, False]])
    metric = DetectionMetric(CLASSES)
    metric.update(detections, targets)
    assert metric.compute()["per_class"]["person"] == 0.0
