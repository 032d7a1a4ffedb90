from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionmtl.data.sets.coco import Coco
from visionmtl.data.sets.panoptic import PanopticSegments
from visionmtl.types import BoxTarget, DenseTarget, Sample

Make = Callable[[Path], None]


@pytest.fixture
def root(tmp_path: Path, make_coco: Make) -> Path:
    make_coco(tmp_path)
    return tmp_path


def semseg(sample: Sample) -> DenseTarget:
    target = sample.targets["semseg"]
    assert isinstance(target, DenseTarget)
    return target


def boxes(sample: Sample) -> BoxTarget:
    target = sample.targets["detection"]
    assert isinstance(target, BoxTarget)
    return target


def edit(
    root: Path, kind: str, change: Callable[[dict[str, Any]], object], split: str = "train"
) -> Path:
    path = root / "annotations" / f"{kind}_{split}2017.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    return path


def test_splits_and_ids(root: Path) -> None:
    (root / "train2017" / "._000000000009.jpg").touch()  # left by macOS
    assert [sample.sample_id for sample in Coco(root, "train")] == ["000000000009", "000000000025"]  # type: ignore[attr-defined]
    val = Coco(root, "val")
    assert [val.sample_id(i) for i in range(len(val))] == [
        "000000000139",
        "000000000285",
        "000000000632",
    ]


def test_classes_are_in_the_order_of_the_categories(root: Path) -> None:
    panoptic, detection = Coco(root, "val").tasks
    assert (panoptic.num_classes, detection.num_classes) == (133, 80)
    assert panoptic.classes[:80] == detection.classes
    assert (detection.classes[0], detection.classes[79]) == ("person", "toothbrush")
    assert (panoptic.classes[80], panoptic.classes[132]) == ("banner", "rug-merged")


def test_segments_become_classes(root: Path) -> None:
    target = semseg(Coco(root, "train")[0])
    assert not target.valid[:6, :5].any()  # id 0
    assert target.valid.sum() == 12 * 20 - 30
    assert np.unique(target.value[:6, 5:15]) == 0  # person
    assert np.unique(target.value[6:, :15]) == 2  # a crowd keeps its class
    assert np.unique(target.value[:, 15:]) == 132
    assert target.value.dtype == np.uint8


def test_crowds_become_no_boxes_and_are_counted(root: Path) -> None:
    data = Coco(root, "val")
    target = boxes(data[0])
    assert (target.boxes.tolist(), target.labels.tolist()) == ([[5, 0, 15, 6]], [0])
    assert data.dropped_boxes == {"crowd": 2}


def test_listed_without_annotations_is_empty_and_not_listed_is_not_annotated(root: Path) -> None:
    edit(
        root, "instances", lambda values: values.update(images=values["images"][1:], annotations=[])
    )
    edit(root, "panoptic", lambda values: values["annotations"].pop())
    first, second = Coco(root, "train")  # type: ignore[misc]
    assert set(first.targets) == {"semseg"}
    assert set(second.targets) == {"detection"}
    assert boxes(second).boxes.shape == (0, 4)


def test_a_missing_label_image_means_not_annotated(root: Path) -> None:
    (root / "annotations" / "panoptic_train2017" / "000000000009.png").unlink()
    assert [set(sample.targets) for sample in Coco(root, "train")] == [  # type: ignore[attr-defined]
        {"detection"},
        {"semseg", "detection"},
    ]


def test_a_label_image_that_is_a_link_to_nothing_is_an_error(root: Path) -> None:
    path = root / "annotations" / "panoptic_train2017" / "000000000009.png"
    path.unlink()
    path.symlink_to("gone.png")
    with pytest.raises(ValueError, match=re.escape(f"{path}: No such file or directory")):
        Coco(root, "train")[0]


def test_label_images_may_lie_beside_annotations(root: Path) -> None:
    (root / "annotations" / "panoptic_val2017").rename(root / "panoptic_val2017")
    assert semseg(Coco(root, "val")[2]).valid.any()


def test_label_images_that_are_still_packed_are_named(root: Path) -> None:
    shutil.rmtree(root / "annotations" / "panoptic_val2017")
    expected = (
        r"panoptic_val2017\.json: its label images are missing, "
        r"unpack panoptic_val2017\.zip as .*panoptic_val2017$"
    )
    with pytest.raises(ValueError, match=expected):
        Coco(root, "val")


def test_tasks_without_a_file(root: Path) -> None:
    (root / "annotations" / "panoptic_val2017.json").unlink()
    data = Coco(root, "val")
    assert [spec.name for spec in data.tasks] == ["detection"]
    assert set(data[0].targets) == {"detection"}
    with pytest.raises(
        ValueError, match=r"task 'semseg' needs .*panoptic_val2017\.json, which is not there"
    ):
        Coco(root, "val", ["detection", "semseg"])
    (root / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(ValueError, match=r"task 'semseg' needs .*, which is not there"):
        Coco(root, "val")


def test_only_the_files_of_the_wanted_tasks_are_read(root: Path) -> None:
    (root / "annotations" / "panoptic_val2017.json").write_text("{")
    assert Coco(root, "val", ["detection"]).dropped_boxes == {"crowd": 2}
    (root / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(ValueError, match=r"panoptic_val2017\.json: not valid JSON"):
        Coco(root, "val", ["semseg"])


@pytest.mark.parametrize("kind", ["instances", "panoptic"])
def test_listed_images_that_are_not_there_are_named(root: Path, kind: str) -> None:
    for name in ("000000000285", "000000000632"):
        (root / "val2017" / f"{name}.jpg").unlink()
    task = {"instances": "detection", "panoptic": "semseg"}[kind]
    expected = (
        rf"{kind}_val2017\.json: lists val2017/000000000285\.jpg, which is not there; "
        r"missing: 2 of 3$"
    )
    with pytest.raises(ValueError, match=expected):
        Coco(root, "val", [task])


def test_unlisted_segments_are_named(root: Path) -> None:
    edit(root, "panoptic", lambda values: values["annotations"][0]["segments_info"].pop(1))
    with pytest.raises(
        ValueError, match=r"000000000009\.png: segments that the json file does not list: 7$"
    ):
        Coco(root, "train")[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("categories"), "categories: required key is missing"),
        (
            lambda v: v["annotations"][1].pop("file_name"),
            "annotations.1.file_name: required key is missing",
        ),
        (
            lambda v: v["annotations"][0]["segments_info"][2].update(id=2**24),
            "annotations.0.segments_info.2.id: must be < 16777216, got 16777216",
        ),
        (
            lambda v: v["annotations"][0]["segments_info"][2].update(category_id=7),
            "a segment has category_id 7, which is not listed",
        ),
        (
            lambda v: v["categories"][0].update(name="human"),
            "unknown category 'human'; classes of the task: person, ",
        ),
        (
            lambda v: v["annotations"][1].update(file_name="000000000009.png"),
            "image '000000000009' is listed more",
        ),
    ],
)
def test_malformed_panoptic_files_are_named(
    root: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = edit(root, "panoptic", change)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        Coco(root, "train")


def test_images_of_another_size_are_named(root: Path) -> None:
    Image.new("RGB", (10, 6)).save(root / "train2017" / "000000000009.jpg")
    with pytest.raises(
        ValueError, match=r"instances_train2017\.json: size of '000000000009' is 20x12, .* is 10x6"
    ):
        Coco(root, "train", ["detection"])[0]
    with pytest.raises(ValueError, match=r"000000000009: semseg is 20x12, the image is 10x6"):
        Coco(root, "train", ["semseg"])[0]


@pytest.mark.parametrize(
    "name", ["train2017/000000000009.jpg", "annotations/panoptic_train2017/000000000009.png"]
)
def test_broken_files_are_named(root: Path, name: str) -> None:
    path = root / name
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=re.escape(f"{path}: broken ")):
        Coco(root, "train")[0]


def test_segments_are_flat_arrays_and_can_be_pickled(root: Path) -> None:
    data = Coco(root, "train")
    segments = pickle.loads(pickle.dumps(data._segments))
    assert isinstance(segments, PanopticSegments)
    assert all(isinstance(value, np.ndarray | Path) for value in vars(segments).values())
    found = segments.read("000000000025")
    assert found is not None
    np.testing.assert_array_equal(found.value, semseg(data[1]).value)
    assert segments.read("000000000026") is None
    assert segments.read("") is None


def test_the_order_of_the_file_does_not_matter(root: Path) -> None:
    def shuffle(values: dict[str, Any]) -> None:
        values["annotations"].reverse()
        values["annotations"][0]["segments_info"] = values["annotations"][0]["segments_info"][::-1]
        values["categories"].reverse()

    before = [semseg(sample) for sample in Coco(root, "train")]  # type: ignore[attr-defined]
    edit(root, "panoptic", shuffle)
    for old, sample in zip(before, Coco(root, "train"), strict=True):  # type: ignore[call-overload]
        np.testing.assert_array_equal(old.value, semseg(sample).value)
        np.testing.assert_array_equal(old.valid, semseg(sample).valid)
