from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionmtl.data.base import DATASETS, identify
from visionmtl.data.sets.base import facts
from visionmtl.data.sets.nyuv2_mtan import NYUv2MTAN
from visionmtl.types import DenseTarget, Sample

ARCHIVE = Path(__file__).parents[4] / "shared/meta/nyuv2/nyuv2_test_class13.tgz"


@pytest.fixture
def root(tmp_path: Path, make_nyuv2_mtan: Callable[[Path], None]) -> Path:
    make_nyuv2_mtan(tmp_path)
    return tmp_path


def dense(sample: Sample, task: str) -> DenseTarget:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target


def test_golden_sample(root: Path, nyu_scene: dict[str, np.ndarray]) -> None:
    dataset = NYUv2MTAN(root, "train")
    assert [spec.name for spec in dataset.tasks] == ["semseg", "depth", "normals"]
    assert dataset.tasks[0].classes[:3] == ("bed", "books", "ceiling")
    sample = dataset[0]
    assert sample.image.dtype == np.uint8
    np.testing.assert_array_equal(sample.image, nyu_scene["image"])
    inside = np.ones((24, 32), bool)
    inside[0] = False
    for task in ("semseg", "depth", "normals"):
        np.testing.assert_array_equal(dense(sample, task).valid, inside)
        assert not dense(sample, task).value[~inside].any()
    semseg = np.array(dataset.tasks[0].classes)[dense(sample, "semseg").value]
    assert (semseg == np.where(nyu_scene["floor"], "floor", "wall"))[inside].all()
    np.testing.assert_allclose(
        dense(sample, "depth").value[inside], nyu_scene["depth"][inside], rtol=1e-6
    )
    np.testing.assert_allclose(
        dense(sample, "normals").value[inside], nyu_scene["normals"][inside], atol=1e-6
    )
    assert sample.camera is None


def test_ids_are_ordered_as_numbers(root: Path) -> None:
    train, val = NYUv2MTAN(root, "train"), NYUv2MTAN(root, "val")
    assert [train.sample_id(i) for i in range(len(train))] == ["9", "10"]
    assert [val.sample_id(i) for i in range(len(val))] == ["0", "1"]
    (root / "train/image/._9.npy").write_bytes(b"of a Mac")
    assert len(NYUv2MTAN(root, "train")) == 2
    (root / "train/image/mean.npy").write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"train/image/mean\.npy: expected files 0\.npy, 1\.npy, \.\.\.$"
    ):
        NYUv2MTAN(root, "train")


@pytest.mark.parametrize("dtype", ["int8", "int64", "float32", "float64"])
def test_labels_of_any_type_and_depth_without_a_channel(root: Path, dtype: str) -> None:
    np.save(root / "val/label/0.npy", np.tile(np.array([-1, 0, 12, 5], dtype), (24, 8)))
    np.save(root / "val/depth/0.npy", np.full((24, 32), 2.5, np.float64))
    sample = NYUv2MTAN(root, "val")[0]
    assert dense(sample, "semseg").value[3, :4].tolist() == [0, 0, 12, 5]
    assert dense(sample, "semseg").valid[3, :4].tolist() == [False, True, True, True]
    assert dense(sample, "semseg").value.dtype == np.uint8
    assert (dense(sample, "depth").value == 2.5).all()


def test_missing_label_is_no_annotation_and_missing_image_an_error(root: Path) -> None:
    (root / "train/normal/9.npy").unlink()
    dataset = NYUv2MTAN(root, "train")
    assert list(dataset[0].targets) == ["semseg", "depth"]
    assert list(dataset[1].targets) == ["semseg", "depth", "normals"]
    (root / "train/image/9.npy").unlink()
    with pytest.raises(ValueError, match=r"train/image/9\.npy: No such file or directory$"):
        dataset[0]


def test_tasks_without_folder(root: Path) -> None:
    for path in (root / "train/depth").iterdir():
        path.unlink()
    (root / "train/depth").rmdir()
    assert [spec.name for spec in NYUv2MTAN(root, "train").tasks] == ["semseg", "normals"]
    with pytest.raises(ValueError, match=r"task 'depth' needs .*train/depth, which is not there$"):
        NYUv2MTAN(root, "train", ["depth"])


@pytest.mark.parametrize(
    ("image", "found"),
    [
        (np.full((24, 32, 3), 255, np.uint8), r"uint8 \(24, 32, 3\) in 0\.\.255$"),
        (np.full((24, 32, 3), -0.5), r"float64 \(24, 32, 3\) in -0\.5\.\.0$"),
        (np.full((24, 32, 3), np.nan), r"float64 \(24, 32, 3\) in nan\.\.nan$"),
        (np.zeros((3, 24, 32)), r"float64 \(3, 24, 32\) in 0\.\.0$"),
    ],
)
def test_copies_with_other_images_are_refused(root: Path, image: np.ndarray, found: str) -> None:
    np.save(root / "train/image/9.npy", image)
    with pytest.raises(
        ValueError, match=rf"9\.npy: expected an image \(H, W, 3\) in 0\.\.1, got {found}"
    ):
        NYUv2MTAN(root, "train")[0]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            13,
            r"labels 13, expected -1 .* and 0\.\.12; "
            r"a copy that counts from 0 \(void\) to 13 must be lowered by 1$",
        ),
        (255, r"labels 255, expected -1 \(void\) and 0\.\.12$"),
        (2.5, r"labels 2\.5, expected"),
        (np.nan, r"labels nan, expected"),
    ],
)
def test_copies_with_other_labels_are_refused(root: Path, number: float, message: str) -> None:
    labels = np.zeros((24, 32))
    labels[3, 4] = number
    np.save(root / "train/label/9.npy", labels)
    with pytest.raises(ValueError, match=r"train/label/9\.npy: " + message):
        NYUv2MTAN(root, "train")[0]


def test_broken_files_are_named(root: Path) -> None:
    whole = (root / "train/normal/9.npy").read_bytes()
    (root / "train/normal/9.npy").write_bytes(whole[:200])
    with pytest.raises(ValueError, match=r"train/normal/9\.npy: broken \.npy file: "):
        NYUv2MTAN(root, "train", ["normals"])[0]
    np.save(root / "train/depth/9.npy", np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"train/depth/9\.npy: broken \.npy file: "):
        NYUv2MTAN(root, "train", ["depth"])[0]
    np.save(root / "train/depth/9.npy", np.ones((12, 16, 1)))
    with pytest.raises(ValueError, match=r"9: depth is 16x12, the image is 32x24$"):
        NYUv2MTAN(root, "train", ["depth"])[0]


def test_option(root: Path) -> None:
    up = dense(NYUv2MTAN(root, "train", ["normals"], normals_frame="y_up")[0], "normals")
    np.testing.assert_allclose(up.value[-1, 5], (0, 0, -1), atol=1e-6)  # what is a floor in z_up
    for wrong in ("opengl", ["z_up"], None):
        with pytest.raises(ValueError, match=r"^NYUv2MTAN: normals_frame: unknown value "):
            NYUv2MTAN(root, "train", normals_frame=wrong)


def test_other_packings_are_refused(
    tmp_path: Path,
    make_nyuv2_atrc: Callable[[Path], None],
    make_nyuv2_official: Callable[[Path], None],
) -> None:
    for name, make in {
        "nyuv2_atrc": make_nyuv2_atrc,
        "nyuv2_official": make_nyuv2_official,
    }.items():
        make(tmp_path / name)
        with pytest.raises(ValueError, match=rf"not NYUv2 in the MTAN packing .* use type {name}$"):
            NYUv2MTAN(tmp_path / name, "train")


def test_only_this_reader_matches(root: Path) -> None:
    assert [
        name
        for name, reader in DATASETS.items()
        if hasattr(reader, "matches") and reader.matches(root)
    ] == ["nyuv2_mtan"]
    assert identify(root) == "nyuv2_mtan"


@pytest.mark.skipif(
    not ARCHIVE.exists(),
    reason="no ../shared/meta/nyuv2, where the authors' labels of the test set lie",
)
def test_real_labels_of_the_test_set(tmp_path: Path) -> None:
    """All 654 label maps of 13 classes, at a quarter of their size, moved into this packing and
    read back.
    """
    for folder in ("train/image", "train/label", "train/normal", "val/image", "val/label"):
        (tmp_path / folder).mkdir(parents=True)
    positions, expected, rows = [], np.zeros(14, np.int64), np.zeros(14)
    height = np.broadcast_to(np.arange(120)[:, None] / 119, (120, 160))
    with tarfile.open(ARCHIVE) as archive:
        for member in archive:
            if not member.name.endswith(".png"):
                continue
            file = archive.extractfile(member)
            assert file is not None
            labels = np.asarray(Image.open(io.BytesIO(file.read())))[::4, ::4]
            expected += np.bincount(labels.ravel(), minlength=14)
            rows += np.bincount(labels.ravel(), weights=height.ravel(), minlength=14)
            positions.append(int(member.name[-8:-4]))
            np.save(tmp_path / f"val/label/{len(positions) - 1}.npy", labels.astype(np.float32) - 1)
            (tmp_path / f"val/image/{len(positions) - 1}.npy").touch()
    assert sorted(positions) == facts("nyuv2")["test"]

    dataset = NYUv2MTAN(tmp_path, "val", ["semseg"])
    counts, void = np.zeros(13, np.int64), 0
    for i in range(len(dataset)):
        target = dataset.read_target("semseg", dataset.sample_id(i), labels.shape)
        assert isinstance(target, DenseTarget)
        counts += np.bincount(target.value[target.valid], minlength=13)
        void += int(np.count_nonzero(~target.valid))
    assert [void, *counts] == expected.tolist()

    share = dict(zip(dataset.tasks[0].classes, counts / counts.sum(), strict=True))
    assert max(share, key=share.__getitem__) == "wall"
    assert share["wall"] == pytest.approx(0.284, abs=0.002)
    assert share["tv"] == pytest.approx(0.005, abs=0.001)
    mean_row = dict(zip(dataset.tasks[0].classes, rows[1:] / expected[1:], strict=True))
    order = sorted(mean_row, key=mean_row.__getitem__)
    assert order[:3] == ["ceiling", "picture", "window"]
    assert order[-1] == "floor"
