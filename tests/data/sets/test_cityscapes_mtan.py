from __future__ import annotations

import pickle
import re
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionmtl.data.base import identify
from visionmtl.data.sets.cityscapes_mtan import CityscapesMTAN
from visionmtl.types import DenseTarget, Sample

Make = Callable[[Path], None]


@pytest.fixture
def root(tmp_path: Path, make_cityscapes_mtan: Make) -> Path:
    make_cityscapes_mtan(tmp_path)
    return tmp_path


def dense(sample: Sample, task: str) -> DenseTarget:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target


def test_splits_and_ids(root: Path) -> None:
    (root / "train" / "image" / "._0.npy").touch()  # left by macOS
    assert [sample.sample_id for sample in CityscapesMTAN(root, "train")] == ["0", "2", "10"]  # type: ignore[attr-defined]
    assert [sample.sample_id for sample in CityscapesMTAN(root, "val")] == ["0", "1"]  # type: ignore[attr-defined]
    (root / "train" / "image" / "mean.npy").touch()
    with pytest.raises(
        ValueError, match=r"train/image/mean\.npy: expected files 0\.npy, 1\.npy, \.\.\.$"
    ):
        CityscapesMTAN(root, "train")


def test_image_is_widened_to_bytes(root: Path) -> None:
    expected = np.random.default_rng(0).integers(0, 256, (8, 16, 3))
    np.testing.assert_array_equal(CityscapesMTAN(root, "train")[0].image, expected)


@pytest.mark.parametrize("num_classes", [7, 19])
def test_labels(root: Path, num_classes: int) -> None:
    data = CityscapesMTAN(root, "train", num_classes=num_classes)
    target = dense(data[0], "semseg")
    numbers = np.arange(128).reshape(8, 16) % (num_classes + 1) - 1
    np.testing.assert_array_equal(target.valid, numbers >= 0)
    np.testing.assert_array_equal(target.value, np.maximum(numbers, 0))
    assert (data.tasks[0].num_classes, target.value.dtype) == (num_classes, np.uint8)


def test_seven_classes_are_the_categories_without_void(root: Path) -> None:
    semseg, disparity = CityscapesMTAN(root, "train").tasks
    assert semseg.classes == ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
    assert (disparity.kind.name, disparity.kind.max_disparity) == ("disparity", 128)


def test_disparity_has_the_unit_of_the_official_files(root: Path) -> None:
    target = dense(CityscapesMTAN(root, "train")[0], "disparity")
    np.testing.assert_allclose(
        target.value[0, :5], [0, 0, 0.5, 126, 10], rtol=1e-5
    )  # float32 in the file
    assert target.valid[0, :5].tolist() == [False, False, True, True, True]
    assert target.value.dtype == np.float32


def test_published_errors_times_256_are_pixels(root: Path) -> None:
    path = root / "train" / "depth" / "0.npy"
    stored = np.load(path)
    np.save(path, stored + np.float32(0.0125))
    data = CityscapesMTAN(root, "train")
    before, after = dense(data[1], "disparity").value, dense(data[0], "disparity").value
    np.testing.assert_allclose(
        after[1:] - before[1:], 0.0125 * 65535 / 256, rtol=1e-4
    )  # 3.2 pixels


def test_copies_with_one_set_of_labels(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "label_7").rename(root / split / "label")
        shutil.rmtree(root / split / "label_19")
        shutil.rmtree(root / split / "label_2")
    assert dense(CityscapesMTAN(root, "val")[0], "semseg").value.max() == 6
    assert CityscapesMTAN(root, "val", num_classes=19).tasks[0].num_classes == 19


def test_tasks_without_a_folder(root: Path) -> None:
    shutil.rmtree(root / "train" / "label_19")
    assert [spec.name for spec in CityscapesMTAN(root, "train", num_classes=19).tasks] == [
        "disparity"
    ]
    with pytest.raises(
        ValueError, match=r"task 'semseg' needs .*train/label_19, which is not there"
    ):
        CityscapesMTAN(root, "train", ["semseg"], num_classes=19)


def test_a_missing_label_file_means_not_annotated(root: Path) -> None:
    (root / "train" / "label_7" / "2.npy").unlink()
    data = CityscapesMTAN(root, "train")
    assert [set(sample.targets) for sample in data] == [  # type: ignore[attr-defined]
        {"semseg", "disparity"},
        {"disparity"},
        {"semseg", "disparity"},
    ]


def save(root: Path, folder: str, array: np.ndarray) -> Path:
    path = root / "train" / folder / "0.npy"
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("folder", "array", "message"),
    [
        (
            "image",
            np.full((8, 16, 3), 2.0),
            "expected an image (H, W, 3) in 0..1, got float64 (8, 16, 3) in 0..2",
        ),
        (
            "image",
            np.full((8, 16, 3), np.nan),
            "expected an image (H, W, 3) in 0..1, got float64 (8, 16, 3) in nan..nan",
        ),
        (
            "image",
            np.zeros((3, 8, 16)),
            "expected an image (H, W, 3) in 0..1, got float64 (3, 8, 16) in 0..0",
        ),
        ("label_7", np.full((8, 16), 18), "labels 18, expected -1 (void) and 0..6"),
        ("label_7", np.full((8, 16), 0.5), "labels 0.5, expected -1 (void) and 0..6"),
        ("label_7", np.zeros((8, 16, 1)), "expected class ids (H, W), got float64 (8, 16, 1)"),
        (
            "depth",
            np.full((8, 16, 1), 42.0),
            "expected the disparity code divided by 65535, in 0..1, got up to 42",
        ),
        ("depth", np.zeros((8, 16)), "expected disparity (H, W, 1) in 0..1, got float64 (8, 16)"),
        (
            "depth",
            np.zeros((8, 16, 3)),
            "expected disparity (H, W, 1) in 0..1, got float64 (8, 16, 3)",
        ),
    ],
)
def test_other_contents_are_named(root: Path, folder: str, array: np.ndarray, message: str) -> None:
    path = save(root, folder, array)
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        CityscapesMTAN(root, "train")[0]


def test_disparity_that_is_no_number_is_invalid(root: Path) -> None:
    save(root, "depth", np.full((8, 16, 1), np.nan))
    assert not dense(CityscapesMTAN(root, "train")[0], "disparity").valid.any()


@pytest.mark.parametrize("folder", ["image", "label_7", "depth"])
def test_broken_files_are_named(root: Path, folder: str) -> None:
    path = root / "train" / folder / "0.npy"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=re.escape(f"{path}: broken .npy file")):
        CityscapesMTAN(root, "train")[0]


def npy_header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(100)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps([1]),
        npy_header("(" * 250),
        npy_header(
            "{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000000000000, 4, 1)}"
        ),
        npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (400000, 40000000, 1)}"),
    ],
)
def test_hostile_files_are_named(root: Path, content: bytes) -> None:
    path = root / "train" / "depth" / "0.npy"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{path}: broken .npy file: ")) as caught:
        CityscapesMTAN(root, "train")[0]
    assert "\n" not in str(caught.value)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "shown"), [(2, "2"), (13, "13"), (7.5, "7.5"), ("7", "'7'"), (None, "null")]
)
def test_other_numbers_of_classes_are_refused(root: Path, value: Any, shown: str) -> None:
    with pytest.raises(
        ValueError, match=f"^CityscapesMTAN: num_classes: must be 7 or 19, got {shown}$"
    ):
        CityscapesMTAN(root, "train", num_classes=value)


def test_nyuv2_of_the_same_authors_is_another_packing(root: Path) -> None:
    for split in ("train", "val"):
        (root / split / "label").mkdir()
        (root / split / "normal").mkdir()
    assert not CityscapesMTAN.matches(root)
    assert identify(root) == "nyuv2_mtan"
    with pytest.raises(
        ValueError, match=r"not Cityscapes in the MTAN packing .*: use type nyuv2_mtan$"
    ):
        CityscapesMTAN(root, "train")
