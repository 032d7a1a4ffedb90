from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from visionmtl.data.base import DATASETS
from visionmtl.data.sets.nyuv2_official import NYUv2Official
from visionmtl.types import DenseTarget, Sample

h5py = pytest.importorskip("h5py")


@pytest.fixture
def root(tmp_path: Path, make_nyuv2_official: Callable[[Path], None]) -> Path:
    make_nyuv2_official(tmp_path)
    return tmp_path


def dense(sample: Sample, task: str) -> DenseTarget:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target


def write(root: Path, name: str, array: np.ndarray, position: int = 3) -> None:
    """Replaces one entry of the file; ``array`` is (H, W)."""
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "r+") as file:
        file[name][position - 1] = array.T


def test_golden_sample(root: Path, nyu_scene: dict[str, np.ndarray]) -> None:
    dataset = NYUv2Official(root, "train")
    assert [spec.name for spec in dataset.tasks] == ["semseg", "depth", "normals"]
    sample = dataset[0]
    assert sample.sample_id == "0003"
    nyu_scene["image"][5, 3, 0] = 3
    np.testing.assert_array_equal(sample.image, nyu_scene["image"])
    assert (sample.image.dtype, sample.image.flags.c_contiguous) == (np.uint8, True)
    semseg = np.array(dataset.tasks[0].classes)[dense(sample, "semseg").value]
    assert (semseg == np.where(nyu_scene["floor"], "floor", "wall"))[1:].all()
    assert dense(sample, "semseg").valid.all(axis=1).tolist() == [False] + [True] * 23


def test_filled_depth_counts_where_the_sensor_sees(
    root: Path, nyu_scene: dict[str, np.ndarray]
) -> None:
    depth = dense(NYUv2Official(root, "train", ["depth"])[0], "depth")
    seen = np.zeros((24, 32), bool)
    seen[2:24, 2:30] = True  # rows 44..470 and columns 40..600 of 480 x 640, a twentieth of it
    np.testing.assert_array_equal(depth.valid, seen)
    np.testing.assert_allclose(depth.value[seen], nyu_scene["depth"][seen], rtol=1e-6)
    assert not depth.value[~seen].any()


def test_raw_depth_has_holes(root: Path, nyu_scene: dict[str, np.ndarray]) -> None:
    depth = dense(NYUv2Official(root, "train", ["depth"], depth="raw")[0], "depth")
    measured = np.zeros((24, 32), bool)
    measured[:, 4:-1] = True
    np.testing.assert_array_equal(depth.valid, measured)
    np.testing.assert_allclose(depth.value[measured], nyu_scene["depth"][measured], rtol=1e-6)


def test_normals_fit_the_scene(root: Path, nyu_scene: dict[str, np.ndarray]) -> None:
    normals = dense(NYUv2Official(root, "train", ["normals"])[0], "normals")
    assert normals.valid[:, 6:-3].mean() > 0.8
    assert not normals.valid[:, :4].any()  # no depth, no normal
    cosine = (normals.value * nyu_scene["normals"]).sum(axis=2)[normals.valid]
    assert np.degrees(np.arccos(cosine.clip(-1, 1))).max() < 1


def test_camera_of_the_published_size(root: Path) -> None:
    camera = NYUv2Official(root, "train").camera("0003", 480, 640)
    assert (camera.fx, camera.fy) == pytest.approx((518.8579, 519.4696), abs=1e-4)
    # The toolbox puts the first pixel at 1 and its ray at (1 - 325.5824) / fx; here its centre is
    # at 0.5.
    assert (0.5 - camera.cx) / camera.fx == pytest.approx(
        (1 - 325.58244941119034) / 518.85790117450188
    )
    assert (0.5 - camera.cy) / camera.fy == pytest.approx(
        (1 - 253.73616633400465) / 519.46961112127485
    )
    half = NYUv2Official(root, "train")[0].camera
    assert half is not None
    assert half.cx / half.width == pytest.approx(camera.cx / 640)


def test_splits(root: Path) -> None:
    train, test = NYUv2Official(root, "train"), NYUv2Official(root, "test")
    assert (len(train), len(test)) == (795, 654)
    assert [test.sample_id(i) for i in (0, 1, 2, -1)] == ["0001", "0002", "0009", "1449"]
    assert test[3].image[5, 3, 0] == 14
    assert not {train.sample_id(i) for i in range(795)} & {test.sample_id(i) for i in range(654)}
    with pytest.raises(
        ValueError, match=r"no split 'val'; NYUv2 as published \(one \.mat file\) has train, test$"
    ):
        NYUv2Official(root, "val")


@pytest.mark.parametrize(
    ("num_classes", "expected"), [(40, ["book", "wall"]), (13, ["books", "wall"])]
)
def test_labels_of_the_paper_become_classes(
    root: Path, num_classes: int, expected: list[str]
) -> None:
    labels = np.full((24, 32), 21, np.uint16)  # wall
    labels[0, :4] = (0, 85, 172, 894)  # no label, books, television, torah
    write(root, "labels", labels)
    dataset = NYUv2Official(root, "train", ["semseg"], num_classes=num_classes)
    semseg = dense(dataset[0], "semseg")
    names = [dataset.tasks[0].classes[c] for c in semseg.value[0, 1:5]]
    assert (
        names
        == {
            40: ["books", "television", "otherprop", "wall"],
            13: ["books", "tv", "objects", "wall"],
        }[num_classes]
    )
    assert semseg.valid[0, :5].tolist() == [False, True, True, True, True]


def test_each_process_opens_the_file(root: Path) -> None:
    dataset = NYUv2Official(root, "train")
    first = dataset[0]
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[0].image, first.image)
    context = "fork" if sys.platform == "linux" else None
    loader: DataLoader[Any] = DataLoader(
        torch.utils.data.Subset(dataset, range(8)),
        2,
        num_workers=2,
        collate_fn=list,
        multiprocessing_context=context,
    )
    positions = [int(sample.image[5, 3, 0]) for batch in loader for sample in batch]
    assert positions == [int(dataset.sample_id(i)) for i in range(8)]
    np.testing.assert_array_equal(dataset[0].image, first.image)  # the parent's file is still open


def test_broken_files_are_named(root: Path) -> None:
    path = root / "nyu_depth_v2_labeled.mat"
    labels = np.full((24, 32), 895, np.uint16)
    write(root, "labels", labels)
    with pytest.raises(
        ValueError, match=r"labeled\.mat: 0003: labels 895 are none of this packing's$"
    ):
        NYUv2Official(root, "train", ["semseg"])[0]
    with h5py.File(path, "r+") as file:
        del file["rawDepths"]
        images = file["images"][:10]
        del file["images"]
        file["images"] = images
    with pytest.raises(ValueError, match=r"labeled\.mat: cannot read 'rawDepths' of image 0003: "):
        NYUv2Official(root, "train", ["normals"])[0]
    with pytest.raises(ValueError, match=r"labeled\.mat: cannot read 'images' of image 1440: "):
        NYUv2Official(root, "train")[794]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"labeled\.mat: cannot read 'images' of image 0003: "):
        NYUv2Official(root, "train")[0]
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(ValueError, match=r"labeled\.mat: cannot read 'images' of image 0003: "):
        NYUv2Official(root, "train")[0]


def test_another_file_of_that_name(root: Path) -> None:
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.zeros((1449, 4, 4), np.float32)
    with pytest.raises(
        ValueError, match=r"'images' of image 0003 is not an array of 3 dimensions$"
    ):
        NYUv2Official(root, "train")[0]
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.zeros((1449, 4, 4, 4), np.float32)
    with pytest.raises(
        ValueError, match=r"image 0003 is float32 \(4, 4, 4\), expected uint8 \(H, W, 3\)$"
    ):
        NYUv2Official(root, "train")[0]


def test_without_h5py(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        ValueError, match=r"labeled\.mat: needs h5py: pip install 'visionmtl\[nyuv2\]'$"
    ):
        NYUv2Official(root, "train")


def test_options(root: Path) -> None:
    for wrong in (41, 40.5, "40", [13]):
        with pytest.raises(
            ValueError, match=r"^NYUv2Official: num_classes: must be 13 or 40, got "
        ):
            NYUv2Official(root, "train", num_classes=wrong)
    message = r"^NYUv2Official: depth: unknown value 'inpainted'; known: filled, raw$"
    with pytest.raises(ValueError, match=message):
        NYUv2Official(root, "train", depth="inpainted")


def test_other_packings_are_refused(
    tmp_path: Path, root: Path, make_nyuv2_mtan: Callable[[Path], None]
) -> None:
    make_nyuv2_mtan(tmp_path / "mtan")
    with pytest.raises(
        ValueError, match=r"which has the file nyu_depth_v2_labeled\.mat; .* use type nyuv2_mtan$"
    ):
        NYUv2Official(tmp_path / "mtan", "train")
    assert [
        name
        for name, reader in DATASETS.items()
        if hasattr(reader, "matches") and reader.matches(root)
    ] == ["nyuv2_official"]
