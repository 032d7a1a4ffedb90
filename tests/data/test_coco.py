from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionmtl.data.coco import CocoBoxes
from visionmtl.types import BoxTarget

CLASSES = ["cup", "chair"]
CUP, CHAIR = 3, 7  # category ids, which are not the class ids
SIZE = (8, 6)


def instances(*boxes: tuple[int, int, list[float]]) -> dict[str, Any]:
    """Images a and b with boxes (image id, category id, x y w h)."""
    return {
        "images": [
            {"id": i, "file_name": f"deep/{name}.jpg", "width": 8, "height": 6}
            for i, name in enumerate("ab")
        ],
        "annotations": [{"image_id": i, "category_id": c, "bbox": box} for i, c, box in boxes],
        "categories": [{"id": CHAIR, "name": "chair"}, {"id": CUP, "name": "cup"}],
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "detection.json"


def write(path: Path, values: dict[str, Any]) -> CocoBoxes:
    path.write_text(json.dumps(values))
    return CocoBoxes(path, CLASSES)


def read(boxes: CocoBoxes, sample_id: str) -> BoxTarget:
    target = boxes.read(sample_id, SIZE)
    assert target is not None
    return target


def test_boxes_are_found_by_the_stem_of_their_image(path: Path) -> None:
    boxes = write(
        path, instances((1, CUP, [1, 2, 3, 2]), (0, CHAIR, [6, 4, 2, 2]), (1, CHAIR, [0, 0, 8, 6]))
    )
    a, b = read(boxes, "a"), read(boxes, "b")
    assert a.boxes.tolist() == [[6, 4, 8, 6]]
    assert b.boxes.tolist() == [[1, 2, 4, 4], [0, 0, 8, 6]]
    assert (a.labels.tolist(), b.labels.tolist()) == ([1], [0, 1])
    assert (a.boxes.dtype, a.labels.dtype) == (np.float32, np.int64)
    assert boxes.read("c", SIZE) is None
    assert boxes.ids == {"a", "b"}


def test_targets_are_copies_and_the_reader_can_be_pickled(path: Path) -> None:
    boxes = write(path, instances((0, CUP, [1, 2, 3, 2])))
    read(boxes, "a").boxes[:] = 0
    assert read(pickle.loads(pickle.dumps(boxes)), "a").boxes.tolist() == [[1, 2, 4, 4]]


def test_boxes_are_clipped_dropped_and_counted(path: Path) -> None:
    values = instances(
        (0, CUP, [-2, -2, 4, 4]),
        (0, CUP, [float("nan"), 0, 1, 1]),
        (0, CUP, [0, 0, float("inf"), 1]),
        (0, CUP, [1, 1, 0, 3]),
        (0, CUP, [3, 3, -2, 2]),
        (0, CUP, [8, 0, 2, 2]),
        (0, CUP, [-5, -5, 2, 2]),
        (1, CHAIR, [0, 0, 8, 6]),
        (0, CHAIR, [2, 2, 1, 1]),
    )
    values["annotations"].append(
        {"image_id": 0, "category_id": CUP, "bbox": [0, 0, 5, 5], "iscrowd": 1}
    )
    boxes = write(path, values)
    assert read(boxes, "a").boxes.tolist() == [[0, 0, 2, 2], [2, 2, 3, 3]]
    assert read(boxes, "a").labels.tolist() == [0, 1]
    assert read(boxes, "b").boxes.tolist() == [[0, 0, 8, 6]]
    assert boxes.dropped == {"not finite": 2, "no area": 2, "outside": 2, "crowd": 1}


def test_no_image_has_a_box(path: Path) -> None:
    boxes = write(path, instances())
    assert read(boxes, "a").boxes.shape == (0, 4)
    assert read(boxes, "a").labels.shape == (0,)
    assert boxes.dropped == {}


def replaced(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda values: values.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda v: v["categories"].append({"id": 8, "name": "lamp"}),
            r"unknown category 'lamp'; .*: cup, chair$",
        ),
        (
            lambda v: v["categories"].append({"id": 7, "name": "cup"}),
            r"category id 7 is listed more than once$",
        ),
        (
            lambda v: v["categories"].append({"id": 8, "name": "cup"}),
            r"category 'cup' is listed more than once$",
        ),
        (
            lambda v: v["annotations"][0].update(image_id=99),
            r"an annotation has image_id 99 and category_id 7, of",
        ),
        (
            lambda v: v["annotations"][0].update(category_id=1),
            r"an annotation has image_id 0 and category_id 1, of",
        ),
        (
            lambda v: v["annotations"][0].update(bbox=[1, 2, 3]),
            r"annotations\.0\.bbox: must be at least 4 long",
        ),
        (
            lambda v: v["annotations"][1].update(bbox="no"),
            r"annotations\.1\.bbox: must be a list, got 'no'$",
        ),
        (lambda v: v["images"][0].pop("width"), r"images\.0\.width: required key is missing$"),
        (lambda v: v["images"][1].update(id=0), r"image id 0 is listed more than once$"),
        (
            lambda v: v["images"][1].update(file_name="a.png"),
            r"image 'a' is listed more than once$",
        ),
        (replaced("images", None), r"images: must be a list, got null$"),
    ],
)
def test_faults_of_the_file(
    path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    values = instances((0, CHAIR, [1, 2, 3, 2]), (0, CUP, [6, 4, 9, 9]))
    change(values)
    with pytest.raises(ValueError, match=rf"detection\.json: {message}"):
        write(path, values)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '{"images": [\n'])
def test_broken_json_is_one_line(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=r"\A[^\n]*detection\.json: [^\n]+\Z"):
        CocoBoxes(path, CLASSES)


def test_listed_size_must_be_the_image_size(path: Path) -> None:
    values = instances()
    values["images"][1].update(width=80, height=60)
    boxes = write(path, values)
    assert boxes.read("a", SIZE) is not None
    with pytest.raises(
        ValueError, match=r"detection\.json: size of 'b' is 80x60, the image is 8x6$"
    ):
        boxes.read("b", SIZE)


def test_a_size_beyond_all_bounds(path: Path) -> None:
    values = instances()
    values["images"][0]["width"] = 10**30
    with pytest.raises(ValueError, match=r"images\.0\.width: must be < 2147483648"):
        write(path, values)
