from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionmtl.analysis.check import check_sample
from visionmtl.data.base import DATASETS, identify
from visionmtl.data.sets.base import facts
from visionmtl.data.sets.nyuv2_mtan import NYUv2MTAN
from visionmtl.data.sets.pascal_context import PascalContext
from visionmtl.types import BoxTarget, DenseTarget, MultiTaskDataset

SIZE = (32, 40)
TASKS = ["semseg", "human_parts", "saliency", "edge", "normals", "detection"]
A, B = "2008_000003", "2008_000008"


@pytest.fixture
def root(tmp_path: Path, make_pascal_context: Callable[[Path], None]) -> Path:
    make_pascal_context(tmp_path / "PASCAL_MT")
    return tmp_path / "PASCAL_MT"


def dense(dataset: PascalContext, task: str, index: int = 0) -> DenseTarget:
    target = dataset[index].targets[task]
    assert isinstance(target, DenseTarget)
    return target


def boxes(dataset: PascalContext, index: int = 0) -> BoxTarget:
    target = dataset[index].targets["detection"]
    assert isinstance(target, BoxTarget)
    return target


def test_facts() -> None:
    known = facts("pascal")
    assert known["classes"][:2] + known["classes"][-2:] == [
        "background",
        "aeroplane",
        "train",
        "tvmonitor",
    ]
    assert len(known["classes"]) == 21
    assert known["classes"][known["person"]] == "person"
    assert len(known["parts"]) == 24
    assert set(known["parts"].values()) == set(range(1, len(known["part_classes"])))
    merged = {
        name: known["part_classes"][known["parts"][name]]
        for name in ("neck", "rhand", "lfoot", "hair", "ruarm")
    }
    assert list(merged.values()) == ["torso", "lower arms", "lower legs", "head", "upper arms"]
    assert len(known["normals_ids"]) == 170
    assert {284, 427, 72, 440} <= set(known["normals_ids"])  # person, tvmonitor, chair, wall
    assert not {187, 360, 420, 31, 98} & set(known["normals_ids"])  # grass, sky, tree, boat, cow


def test_tasks_splits_and_order(root: Path) -> None:
    (root / "ImageSets/Context/train.txt").write_text(f"{B}\r\n{A}\n\n")
    train, val = PascalContext(root, "train"), PascalContext(root, "val", ["edge", "semseg"])
    assert isinstance(train, MultiTaskDataset)
    assert [(spec.name, spec.kind.name, spec.num_classes) for spec in train.tasks] == [
        ("semseg", "semseg", 21),
        ("human_parts", "semseg", 7),
        ("saliency", "saliency", 0),
        ("edge", "edge", 0),
        ("normals", "normals", 0),
        ("detection", "detection", 20),
    ]
    assert [spec.name for spec in val.tasks] == ["edge", "semseg"]
    assert [train.sample_id(i) for i in range(len(train))] == [A, B]
    assert [val.sample_id(i) for i in range(len(val))] == ["2008_000002", "2010_000001"]
    for dataset in (train, val):
        for i in range(2):
            assert list(dataset[i].targets) == [spec.name for spec in dataset.tasks]
            assert dataset[i].image.shape == (*SIZE, 3)
    (root / "semseg/pascal-context" / f"{B}.png").write_bytes(b"never read")
    assert list(PascalContext(root, "train", ["saliency"])[1].targets) == ["saliency"]


def test_semseg_prefers_the_labels_of_voc12(root: Path) -> None:
    a, b = (dense(PascalContext(root, "train", ["semseg"]), "semseg", i) for i in range(2))
    assert a.value[0].tolist() == [15] * 19 + [0] * 2 + [4] * 19
    assert a.valid[0].tolist() == [True] * 19 + [False] * 2 + [True] * 19
    assert b.value[[0, 31]][:, [0, 39]].tolist() == [[15, 4], [15, 0]]
    assert b.valid.all()
    (root / "semseg/pascal-context" / f"{B}.png").unlink()
    assert PascalContext(root, "train", ["semseg"])[1].targets == {}
    Image.fromarray(np.full(SIZE, 59, np.uint8)).save(root / "semseg/VOC12" / f"{B}.png")
    with pytest.raises(
        ValueError, match=rf"VOC12/{B}.png: class ids 59, expected 0..20 or 255 \(ignored\)$"
    ):
        PascalContext(root, "train", ["semseg"])[1]


def test_human_parts_are_merged_in_the_order_of_the_file(root: Path) -> None:
    target = dense(PascalContext(root, "train", ["human_parts"]), "human_parts")
    assert target.value.dtype == np.uint8
    assert target.valid.all()
    expected = np.zeros(SIZE, np.uint8)
    expected[8:20, 4:16] = 2  # torso
    expected[2:10, 6:12] = 1  # head
    expected[9:11, 8:10] = 2  # neck
    expected[28:30, 4:8] = 6  # left foot
    np.testing.assert_array_equal(target.value, expected)


def test_images_without_marked_parts_are_not_annotated(
    root: Path,
    pascal_parts: Callable[..., np.ndarray],
    save_pascal_mat: Callable[[Path, str, np.ndarray], None],
) -> None:
    dataset = PascalContext(root, "train", ["human_parts", "saliency"])
    path = root / "human_parts" / f"{A}.mat"
    for parts in ({}, {"head": np.s_[0:0, 0:0]}):  # a boat alone, a person with an empty mask
        save_pascal_mat(path, "anno", pascal_parts(**parts))
        assert list(dataset[0].targets) == ["saliency"]
    path.unlink()
    assert list(dataset[0].targets) == ["saliency"]


def test_faults_of_human_parts_are_named(
    root: Path,
    pascal_parts: Callable[..., np.ndarray],
    save_pascal_mat: Callable[[Path, str, np.ndarray], None],
) -> None:
    dataset = PascalContext(root, "train", ["human_parts"])
    path = root / "human_parts" / f"{A}.mat"
    save_pascal_mat(path, "anno", pascal_parts(wing=np.s_[0:2, 0:2]))
    with pytest.raises(
        ValueError, match=rf"{A}.mat: not an .* person with a part 'wing', expected hair, head, .*$"
    ):
        dataset[0]
    save_pascal_mat(path, "anno", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=rf"{A}.mat: not an annotation of PASCAL-Part: "):
        dataset[0]
    save_pascal_mat(path, "labels", np.zeros((3, 3)))
    with pytest.raises(ValueError, match=rf"{A}.mat: no variable 'anno'$"):
        dataset[0]


def test_saliency_is_what_lies_above_one_half(root: Path) -> None:
    target = dense(PascalContext(root, "train", ["saliency"]), "saliency")  # 0, 127, 128, 255
    assert target.value[5].tolist() == [0] * 20 + [1] * 20
    assert (target.value.dtype, target.valid.all()) == (np.uint8, True)


def test_edges_are_thin_borders_of_the_context_classes(root: Path) -> None:
    target = dense(PascalContext(root, "train", ["edge"]), "edge")
    assert set(np.unique(target.value)) == {0, 1}
    assert target.valid.all()
    # person | boat or sky: one pixel a row, on either side of column 20; boat / sky: one pixel a
    # column, near row 16
    assert (target.value[2:13, 18:22].sum(axis=1) == 1).all()
    assert (target.value[19:30, 18:22].sum(axis=1) == 1).all()
    assert (target.value[14:18, 24:38].sum(axis=0) == 1).all()
    assert (
        target.value[:, :18].sum()
        == target.value[:13, 22:].sum()
        == target.value[19:, 22:].sum()
        == 0
    )


def test_laplacian_is_that_of_four_neighbours(
    root: Path,
    save_pascal_mat: Callable[[Path, str, np.ndarray], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = np.random.default_rng(0).integers(0, 460, SIZE).astype(np.uint16) * (
        np.arange(40) > 20
    ).astype(np.uint16)
    save_pascal_mat(root / "pascal-context/trainval" / f"{A}.mat", "LabelMap", labels)
    around = np.pad(labels.astype(np.int64), 1, mode="reflect")
    laplacian = (
        around[:-2, 1:-1]
        + around[2:, 1:-1]
        + around[1:-1, :-2]
        + around[1:-1, 2:]
        - 4 * around[1:-1, 1:-1]
    )
    monkeypatch.setattr("visionmtl.data.sets.pascal_context.thin", lambda borders: borders)
    target = dense(PascalContext(root, "train", ["edge"]), "edge")
    np.testing.assert_array_equal(target.value, laplacian != 0)


def test_normals_are_valid_on_classes_of_nyuv2(root: Path) -> None:
    target = dense(PascalContext(root, "train", ["normals"]), "normals")
    stored = np.array([128, 51, 229]) * 2 / 255 - 1
    np.testing.assert_allclose(target.value[0, 0], -stored / np.linalg.norm(stored), atol=1e-6)
    assert target.value[0, 0, 2] < 0  # towards the camera
    assert target.valid[:, :20].all()
    assert not target.valid[:, 20:].any()
    assert not target.value[:, 20:].any()
    up = dense(PascalContext(root, "train", ["normals"], normals_frame="y_up"), "normals")
    np.testing.assert_array_equal(up.value, target.value * np.float32([-1, 1, 1]))
    Image.fromarray(np.full((*SIZE, 3), 127, np.uint8)).save(root / "normals_distill" / f"{A}.png")
    assert not dense(PascalContext(root, "train", ["normals"]), "normals").valid.any()


def test_normals_need_the_context_labels(
    root: Path, save_pascal_mat: Callable[[Path, str, np.ndarray], None]
) -> None:
    dataset = PascalContext(root, "train", ["normals"])
    path = root / "pascal-context/trainval" / f"{A}.mat"
    save_pascal_mat(path, "LabelMap", np.ones((32, 41), np.uint16))
    with pytest.raises(ValueError, match=rf"{A}.mat: the labels are 41x32, the normals 40x32$"):
        dataset[0]
    save_pascal_mat(path, "LabelMap", np.ones((32, 40, 2), np.uint16))
    with pytest.raises(ValueError, match=rf"{A}.mat: LabelMap must be numbers \(H, W\)$"):
        dataset[0]
    path.unlink()
    with pytest.raises(ValueError, match=rf"{A}.mat: No such file or directory$"):
        dataset[0]
    for file in path.parent.iterdir():
        file.unlink()
    path.parent.rmdir()
    with pytest.raises(
        ValueError, match=r"task 'normals' needs .*pascal-context/trainval, which is not there$"
    ):
        PascalContext(root, "train", ["normals"])
    assert [spec.name for spec in PascalContext(root, "train").tasks] == [
        t for t in TASKS if t not in ("edge", "normals")
    ]


def test_boxes_have_pixel_edges_and_difficult_ones_are_counted(root: Path) -> None:
    dataset = PascalContext(root, "train", ["detection"])
    assert boxes(dataset).boxes.tolist() == [[4, 2, 20, 30]]
    assert boxes(dataset).labels.tolist() == [14]  # person, background is no class here
    assert dataset.tasks[0].classes[14] == "person"
    assert dataset.dropped_boxes == {"difficult": 2}
    kept = PascalContext(root, "train", ["detection"], difficult=True)
    assert boxes(kept).boxes.tolist() == [[4, 2, 20, 30], [30, 0, 40, 8]]
    assert boxes(kept).labels.tolist() == [14, 3]
    assert not kept.dropped_boxes
    (root / "Annotations" / f"{A}.xml").unlink()
    assert kept[0].targets == {}


@pytest.mark.parametrize("value", [-1.0, 0.5, 70000.0, np.nan])
def test_context_labels_are_whole_numbers(
    root: Path, save_pascal_mat: Callable[[Path, str, np.ndarray], None], value: float
) -> None:
    path = root / "pascal-context/trainval/2008_000003.mat"
    save_pascal_mat(path, "LabelMap", np.full((32, 40), value))
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: LabelMap must be whole numbers, got {value:g} to")
    ):
        PascalContext(root, "train", ["edge"])[0]


def test_samples_keep_the_contracts(root: Path) -> None:
    dataset = PascalContext(
        root, "val", ["semseg", "human_parts", "normals", "detection"], difficult=True
    )
    for i in range(len(dataset)):
        check_sample(dataset[i], dataset.tasks)


def test_labels_of_another_size_than_the_image(root: Path) -> None:
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(root / "sal_distill" / f"{A}.png")
    with pytest.raises(
        ValueError, match=rf"PASCAL_MT: {A}: saliency is 40x30, the image is 40x32$"
    ):
        PascalContext(root, "train", ["saliency"])[0]


def test_copies_without_some_labels(root: Path) -> None:
    (root / "Annotations").rename(root / "elsewhere")
    assert [spec.name for spec in PascalContext(root, "train").tasks] == TASKS[:-1]
    with pytest.raises(
        ValueError, match=r"task 'detection' needs .*PASCAL_MT/Annotations, which is not there$"
    ):
        PascalContext(root, "train", ["semseg", "detection"])
    with pytest.raises(
        ValueError,
        match=r"no task 'depth'; PASCAL-Context .* has semseg, human_parts, saliency, edge",
    ):
        PascalContext(root, "train", ["depth"])


def test_split_lists(root: Path) -> None:
    path = root / "ImageSets/Context/train.txt"
    path.write_text(f"{A}\n2009_1\n2009_2\n")
    with pytest.raises(
        ValueError, match=r"train.txt: no image JPEGImages/2009_1.jpg; missing: 2 of 3$"
    ):
        PascalContext(root, "train")
    path.write_text(f"{A}\n{A}\n")
    with pytest.raises(ValueError, match=rf"sample '{A}' is listed more than once$"):
        PascalContext(root, "train")
    path.write_text("")
    with pytest.raises(ValueError, match=r"split 'train' has no samples$"):
        PascalContext(root, "train")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"train.txt: not a list of image ids, one a line$"):
        PascalContext(root, "train")
    path.unlink()
    with pytest.raises(ValueError, match=r"train.txt: No such file or directory$"):
        PascalContext(root, "train")
    with pytest.raises(ValueError, match=r"no split 'test'; PASCAL-Context .* has train, val$"):
        PascalContext(root, "test")
    (root / "JPEGImages" / "2008_000002.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"JPEGImages/2008_000002.jpg: the file is empty$"):
        PascalContext(root, "val", ["edge"])[0]


def test_options_with_bad_values(root: Path) -> None:
    message = r"^PascalContext: normals_frame: unknown value 'up'"
    with pytest.raises(ValueError, match=message):
        PascalContext(root, "train", normals_frame="up")
    message = r"^PascalContext: difficult: must be true or false, got 1$"
    with pytest.raises(ValueError, match=message):
        PascalContext(root, "train", difficult=1)


def test_folders_of_other_packings_are_told_apart(root: Path, tmp_path: Path) -> None:
    assert identify(root) == "pascal_context"
    assert [
        name
        for name, reader in DATASETS.items()
        if hasattr(reader, "matches") and reader.matches(root)
    ] == ["pascal_context"]
    with pytest.raises(
        ValueError, match=r"it looks like PASCAL-Context .* use type pascal_context$"
    ):
        NYUv2MTAN(root, "train")
    with pytest.raises(
        ValueError,
        match=r"not PASCAL-Context .* has JPEGImages/ and ImageSets/Context/; .* no known",
    ):
        PascalContext(tmp_path, "train")
    with pytest.raises(ValueError, match=r"nowhere: no such folder$"):
        PascalContext(tmp_path / "nowhere", "train")
    (root / "ImageSets/Context").rename(root / "ImageSets/Main")  # the plain VOC devkit
    assert not PascalContext.matches(root)
