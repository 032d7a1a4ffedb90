from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionmtl.data.sets.base import facts
from visionmtl.data.sets.cityscapes import Cityscapes
from visionmtl.types import BoxTarget, Camera, DenseTarget, Sample

Make = Callable[[Path], None]
FIRST = "aachen/aachen_000000_000019"


@pytest.fixture
def root(tmp_path: Path, make_cityscapes: Make) -> Path:
    make_cityscapes(tmp_path)
    return tmp_path


def dense(sample: Sample, task: str) -> DenseTarget:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target


def boxes(sample: Sample) -> BoxTarget:
    target = sample.targets["detection"]
    assert isinstance(target, BoxTarget)
    return target


def gt(root: Path, ending: str) -> Path:
    return root / "gtFine" / "train" / f"{FIRST}_gtFine_{ending}.png"


def test_splits_and_ids(root: Path) -> None:
    (
        root / "leftImg8bit" / "train" / "aachen" / "._aachen_000000_000019_leftImg8bit.png"
    ).touch()  # left by macOS
    train, val = Cityscapes(root, "train"), Cityscapes(root, "val")
    assert [train.sample_id(i) for i in range(len(train))] == [
        FIRST,
        "aachen/aachen_000001_000019",
        "zurich/zurich_000000_000019",
    ]
    assert [sample.sample_id for sample in val] == [  # type: ignore[attr-defined]
        "frankfurt/frankfurt_000000_000294",
        "lindau/lindau_000000_000019",
    ]
    assert [spec.name for spec in train.tasks] == ["semseg", "disparity", "detection"]


def test_classes_are_those_of_the_benchmark(root: Path) -> None:
    semseg, disparity, detection = Cityscapes(root, "train").tasks
    assert (semseg.num_classes, semseg.classes[0], semseg.classes[18]) == (19, "road", "bicycle")
    assert detection.classes == (
        "person",
        "rider",
        "car",
        "truck",
        "bus",
        "train",
        "motorcycle",
        "bicycle",
    )
    assert disparity.kind.max_disparity == 128


def test_facts_agree_with_the_published_table() -> None:
    known = facts("cityscapes")
    table = dict(enumerate(known["train_ids"]))
    # id -> trainId of labels.py, written out by hand
    expected = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10}
    expected |= {24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}
    assert {label: train for label, train in table.items() if train >= 0} == expected
    assert len(table) == 34
    assert [known["classes"][table[label]] for label in known["thing_ids"]] == known["things"]


def test_label_ids_become_training_ids(root: Path) -> None:
    target = dense(Cityscapes(root, "train")[0], "semseg")
    assert not target.valid[:8].any()  # unlabeled, static, caravan
    assert target.valid[8:].all()
    assert (target.value[9, 0], target.value[10, 5], target.value[12, 8], target.value[31, 63]) == (
        0,
        13,
        11,
        18,
    )
    assert (target.value.dtype, target.value[0, 0]) == (np.uint8, 0)


def test_disparity_is_in_pixels_of_the_original(root: Path) -> None:
    target = dense(Cityscapes(root, "train")[0], "disparity")
    assert target.value[0, :5].tolist() == [0, 0, 0.5, 126, 10]
    assert target.valid[0, :5].tolist() == [
        False,
        False,
        True,
        True,
        True,
    ]  # no measurement, infinitely far
    assert target.value.dtype == np.float32


def test_boxes_are_those_of_instances_in_the_order_of_their_numbers(root: Path) -> None:
    target = boxes(Cityscapes(root, "train")[0])
    assert target.boxes.tolist() == [[8, 12, 12, 18], [5, 10, 30, 20], [63, 31, 64, 32]]
    assert target.labels.tolist() == [0, 2, 7]  # person, car, bicycle: no group of cars, no caravan
    assert (target.boxes.dtype, target.labels.dtype) == (np.float32, np.int64)


def test_boxes_equal_a_search_per_instance(root: Path) -> None:
    rng = np.random.default_rng(1)
    ids = rng.choice(
        [7, 26, 24000, 25007, 29001, 30000, 31002, 33999], (32, 64), p=[0.6, 0.1, *[0.05] * 6]
    )
    Image.fromarray(ids.astype(np.uint16)).save(gt(root, "instanceIds"))
    target = boxes(Cityscapes(root, "train")[0])
    for number, label, box in zip(
        [24000, 25007, 31002, 33999], target.labels, target.boxes, strict=True
    ):
        y, x = np.nonzero(ids == number)
        assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]
        assert facts("cityscapes")["thing_ids"][label] == number // 1000


def test_an_image_without_instances_is_annotated_and_empty(root: Path) -> None:
    Image.fromarray(np.full((32, 64), 26, np.uint16)).save(gt(root, "instanceIds"))
    target = boxes(Cityscapes(root, "train")[0])
    assert (target.boxes.shape, target.labels.shape) == ((0, 4), (0,))
    assert (target.boxes.dtype, target.labels.dtype) == (np.float32, np.int64)


def test_a_missing_label_file_means_not_annotated(root: Path) -> None:
    for path in (
        gt(root, "labelIds"),
        gt(root, "instanceIds"),
        root / "disparity/train" / f"{FIRST}_disparity.png",
    ):
        path.unlink()
    train = Cityscapes(root, "train")
    assert train[0].targets == {}
    assert set(train[1].targets) == {"semseg", "disparity", "detection"}


def test_tasks_without_a_folder(root: Path) -> None:
    shutil.rmtree(root / "disparity")
    assert [spec.name for spec in Cityscapes(root, "train").tasks] == ["semseg", "detection"]
    with pytest.raises(
        ValueError, match=r"task 'disparity' needs .*disparity/train, which is not there"
    ):
        Cityscapes(root, "train", ["semseg", "disparity"])


def test_camera_counts_from_the_corner_of_the_first_pixel_and_follows_the_size(root: Path) -> None:
    camera = Cityscapes(root, "train")[0].camera
    assert camera is not None
    expected = Camera(2262.52 / 32, 2265.3017905988554 / 32, 1097.48 / 32, 513.637 / 32, 64, 32)
    np.testing.assert_allclose(list(vars(camera).values()), list(vars(expected).values()))
    shutil.rmtree(root / "camera")
    assert Cityscapes(root, "train")[0].camera is None


def test_camera_of_a_crop_is_refused(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"_camera\.json: is for 2048x1024, the image of 32x32 is no resized copy"
    ):
        Cityscapes(root, "train").camera(FIRST, height=32, width=32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"extrinsic": {}}, "intrinsic: required key is missing"),
        (
            {"intrinsic": {"fx": 0, "fy": 1, "u0": 1, "v0": 1}},
            "intrinsic.fx: must be > 0, got 0",
        ),
    ],
)
def test_malformed_camera(root: Path, content: dict[str, Any], message: str) -> None:
    path = root / "camera" / "train" / f"{FIRST}_camera.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        Cityscapes(root, "train")[0]


def test_labels_outside_the_table_are_named(root: Path) -> None:
    Image.fromarray(np.full((32, 64), 255, np.uint8)).save(gt(root, "labelIds"))  # training ids
    with pytest.raises(
        ValueError, match=r"_gtFine_labelIds\.png: labels 255 are none of this packing's"
    ):
        Cityscapes(root, "train")[0]


@pytest.mark.parametrize("number", [13001, 34000])
def test_instances_of_other_classes_are_named(root: Path, number: int) -> None:
    Image.fromarray(np.full((32, 64), number, np.uint16)).save(
        gt(root, "instanceIds")
    )  # 13001: made of training ids
    with pytest.raises(
        ValueError, match=rf"_gtFine_instanceIds\.png: instances {number} to {number} are none of"
    ):
        Cityscapes(root, "train")[0]


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        ("labelIds", "semseg is 4x2, the image is 64x32"),
        ("instanceIds", "the instances are 4x2, the image is 64x32"),
    ],
)
def test_labels_of_another_size_are_named(root: Path, ending: str, message: str) -> None:
    Image.fromarray(np.full((2, 4), 7, np.uint16 if ending == "instanceIds" else np.uint8)).save(
        gt(root, ending)
    )
    with pytest.raises(ValueError, match=f"{FIRST}.*: {message}"):
        Cityscapes(root, "train")[0]


@pytest.mark.parametrize(
    "name",
    [
        "leftImg8bit/train/{}_leftImg8bit.png",
        "gtFine/train/{}_gtFine_labelIds.png",
        "disparity/train/{}_disparity.png",
    ],
)
def test_broken_files_are_named(root: Path, name: str) -> None:
    path = root / name.format(FIRST)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=re.escape(f"{path}: broken PNG file")):
        Cityscapes(root, "train")[0]


def test_the_test_split_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="no split 'test'; Cityscapes has train, val"):
        Cityscapes(root, "test")


def test_other_folders_are_refused(root: Path) -> None:
    shutil.rmtree(root / "gtFine")
    with pytest.raises(
        ValueError, match=r"not Cityscapes, which has .*; it looks like no known packing$"
    ):
        Cityscapes(root, "train")
    with pytest.raises(ValueError, match="no such folder"):
        Cityscapes(root / "x", "train")
