from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionmtl.data.base import DATASETS, identify
from visionmtl.data.sets.nyuv2_atrc import NYUv2ATRC
from visionmtl.types import DenseTarget, Sample


@pytest.fixture
def root(tmp_path: Path, make_nyuv2_atrc: Callable[[Path], None]) -> Path:
    make_nyuv2_atrc(tmp_path)
    return tmp_path


def dense(sample: Sample, task: str) -> DenseTarget:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target


def make_older(root: Path) -> None:
    """Turns the fixture into the packing of MTL-PyTorch: images as jpg, normals and edges as
    arrays.
    """
    for path in [*(root / "images").iterdir()]:
        Image.open(path).save(path.with_suffix(".jpg"), quality=100)
    for path in [*(root / "normals").iterdir()]:
        np.save(
            path.with_suffix(".npy"), np.asarray(Image.open(path)).astype(np.float32) * 2 / 255 - 1
        )
    for path in [*(root / "edge").iterdir()]:
        np.save(path.with_suffix(".npy"), np.asarray(Image.open(path)) / np.float32(255))
    for folder in ("images", "normals", "edge"):
        for path in [*(root / folder).glob("*.png")]:
            path.unlink()


@pytest.mark.parametrize("older", [False, True])
def test_golden_sample(root: Path, nyu_scene: dict[str, np.ndarray], older: bool) -> None:
    if older:
        make_older(root)
    dataset = NYUv2ATRC(root, "train")
    assert [spec.name for spec in dataset.tasks] == ["semseg", "depth", "normals", "edge"]
    assert dataset.tasks[0].num_classes == 40
    assert [dataset.sample_id(i) for i in range(len(dataset))] == ["train_9", "train_10"]
    sample = dataset[1]
    np.testing.assert_allclose(
        sample.image, nyu_scene["image"].astype(float), atol=8 if older else 0
    )  # JPEG
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
        dense(sample, "normals").value[inside], nyu_scene["normals"][inside], atol=0.01
    )
    assert dense(sample, "edge").value[:, 5:10].tolist() == [[0, 0, 1, 0, 0]] * 24
    assert dense(sample, "edge").value.dtype == np.uint8
    assert dense(sample, "edge").valid.all()


def test_sentinels(root: Path) -> None:
    np.save(
        root / "depth/val_1.npy",
        np.tile(np.array([0, -1, np.inf, 11, 3.5, 10, np.nan, 1]), (24, 4))[..., None],
    )
    labels = np.tile(np.arange(4, dtype=np.uint8) * 13, (24, 8))  # 0, 13, 26, 39
    labels[:, 7] = 40
    Image.fromarray(labels).save(root / "segmentation/val_1.png")
    normals = np.full((24, 32, 3), 127, np.uint8)  # as near to (0, 0, 0) as 8 bits get
    normals[:, 1], normals[:, 2] = 0, (0, 127, 128)
    Image.fromarray(normals).save(root / "normals/val_1.png")
    sample = NYUv2ATRC(root, "val")[0]
    assert dense(sample, "depth").valid[2, :8].tolist() == [
        False,
        False,
        False,
        False,
        True,
        True,
        False,
        True,
    ]
    assert dense(sample, "semseg").valid[2, :4].tolist() == [False, True, True, True]
    assert dense(sample, "semseg").value[2, :8].tolist() == [0, 12, 25, 38, 0, 12, 25, 39]
    assert dense(sample, "normals").valid[2, :4].tolist() == [False, False, True, False]
    np.testing.assert_allclose(dense(sample, "normals").value[2, 2], (1, 0, 0), atol=0.01)


def test_edges_are_half_of_the_range_and_more(root: Path) -> None:
    for name, array in {
        "train_9": np.uint8([0, 127, 128, 255]),
        "train_10": np.uint8([0, 1, 1, 0]),
    }.items():
        Image.fromarray(np.tile(array, (24, 8))).save(root / f"edge/{name}.png")
    dataset = NYUv2ATRC(root, "train", ["edge"])
    assert dense(dataset[0], "edge").value[0, :4].tolist() == [0, 0, 1, 1]
    assert dense(dataset[1], "edge").value[0, :4].tolist() == [0, 1, 1, 0]
    make_older(root)
    np.save(root / "edge/train_9.npy", np.tile(np.float32([0, 0.4, 0.5, 1]), (24, 8))[..., None])
    np.save(root / "edge/train_10.npy", np.tile([False, True], (24, 16)))
    assert dense(dataset[0], "edge").value[0, :4].tolist() == [0, 0, 1, 1]
    assert dense(dataset[1], "edge").value[0, :4].tolist() == [0, 1, 0, 1]
    for wrong in (
        np.full((24, 32), np.nan),
        np.full((24, 32), -1.0),
        np.ones((24, 32, 2)),
        np.full((24, 32), 256),
    ):
        np.save(root / "edge/train_9.npy", wrong)
        with pytest.raises(
            ValueError,
            match=r"edge/train_9\.npy: expected edges \(H, W\) in 0\.\.1 or 0\.\.255, got",
        ):
            dataset[0]


def test_missing_label_is_no_annotation_and_missing_image_an_error(root: Path) -> None:
    (root / "edge/train_9.png").unlink()
    assert list(NYUv2ATRC(root, "train")[0].targets) == ["semseg", "depth", "normals"]
    (root / "images/train_9.png").unlink()
    with pytest.raises(
        ValueError, match=r"train\.txt: no image images/train_9\.png; missing: 1 of 2$"
    ):
        NYUv2ATRC(root, "train")
    assert len(NYUv2ATRC(root, "val")) == 2


def test_split_lists(root: Path) -> None:
    path = root / "gt_sets/train.txt"
    path.write_bytes(b"\xef\xbb\xbftrain_10\r\n\r\ntrain_9 \r\n")
    dataset = NYUv2ATRC(root, "train")
    assert [dataset.sample_id(i) for i in range(len(dataset))] == ["train_9", "train_10"]
    for text, message in {
        "train_9\ntrain_9\n": r"sample 'train_9' ",
        "../../etc/passwd\n": r"no image images/\.\./\.\./etc/passwd\.png; missing: 1 of 1$",
        "": r"split 'train' has no samples$",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            NYUv2ATRC(root, "train")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"train\.txt: not a list of image ids, one a line$"):
        NYUv2ATRC(root, "train")
    path.unlink()
    with pytest.raises(ValueError, match=r"gt_sets/train\.txt: No such file or directory$"):
        NYUv2ATRC(root, "train")


def test_broken_files_are_named(root: Path) -> None:
    dataset = NYUv2ATRC(root, "train")
    for folder in ("images", "segmentation", "normals", "edge"):
        path = root / folder / "train_9.png"
        whole = path.read_bytes()
        path.write_bytes(whole[:60])
        with pytest.raises(ValueError, match=rf"{folder}/train_9\.png: broken PNG file: "):
            dataset[0]
        path.write_bytes(whole)
    Image.fromarray(np.full((24, 32), 41, np.uint8)).save(root / "segmentation/train_9.png")
    with pytest.raises(
        ValueError, match=r"segmentation/train_9\.png: labels 41 are none of this packing's$"
    ):
        dataset[0]
    Image.fromarray(np.zeros((24, 30), np.uint8)).save(root / "segmentation/train_9.png")
    with pytest.raises(ValueError, match=r"train_9: semseg is 30x24, the image is 32x24$"):
        dataset[0]


def test_option(root: Path) -> None:
    up = dense(NYUv2ATRC(root, "train", ["normals"], normals_frame="y_up")[0], "normals")
    np.testing.assert_allclose(
        up.value[5, 5], (0, 0, -1), atol=0.01
    )  # a wall is one in either frame
    message = r"^NYUv2ATRC: normals_frame: unknown value 'opengl'"
    with pytest.raises(ValueError, match=message):
        NYUv2ATRC(root, "train", normals_frame="opengl")


def test_other_packings_are_refused(
    tmp_path: Path, root: Path, make_nyuv2_mtan: Callable[[Path], None]
) -> None:
    make_nyuv2_mtan(tmp_path / "mtan")
    with pytest.raises(ValueError, match=r"not NYUv2 in the ATRC packing .* use type nyuv2_mtan$"):
        NYUv2ATRC(tmp_path / "mtan", "train")
    assert [
        name
        for name, reader in DATASETS.items()
        if hasattr(reader, "matches") and reader.matches(root)
    ] == ["nyuv2_atrc"]
    (root / "segmentation/train_9.mat").touch()  # the archive of ASTMT
    assert identify(root) is None
    message = (
        r"which has images/, segmentation/ of \.png, depth/ of \.npy and gt_sets/; "
        r"it looks like no known packing$"
    )
    with pytest.raises(ValueError, match=message):
        NYUv2ATRC(root, "train")
