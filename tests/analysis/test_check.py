from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from visionmtl.analysis.check import Report, check_dataset, check_sample, find_overlap, overview
from visionmtl.data.folder import FolderDataset
from visionmtl.data.sets.base import PackedDataset
from visionmtl.tasks.boxes import BoxReport
from visionmtl.tasks.range import RangeReport
from visionmtl.tasks.semseg import SemSegReport
from visionmtl.types import BoxTarget, DenseTarget, Sample, Target, TaskSpec

SEMSEG, DEPTH, NORMALS = (
    TaskSpec.semseg(["floor", "wall", "sky"]),
    TaskSpec.depth(10.0),
    TaskSpec.normals(),
)
DETECTION = TaskSpec.detection(["cup", "chair"])
DISPARITY, SALIENCY, EDGE = TaskSpec.disparity(64.0), TaskSpec.saliency(), TaskSpec.edge()
SIZE = (4, 6)
ALL = np.ones(SIZE, bool)


class Listed:
    """A data set over a list; an exception in the list is raised when it is read."""

    def __init__(self, items: list[Sample | Exception], tasks: list[TaskSpec]) -> None:
        self.items, self.tasks = items, tasks

    def __len__(self) -> int:
        return len(self.items)

    def sample_id(self, index: int) -> str:
        return f"s{index}"

    def __getitem__(self, index: int) -> Sample:
        item = self.items[index]
        if isinstance(item, Exception):
            raise item
        return item


def sample(**targets: Target) -> Sample:
    return Sample(np.zeros((*SIZE, 3), np.uint8), targets, "s")


def boxes(*rows: list[float], label: int = 0) -> BoxTarget:
    return BoxTarget(np.array(rows, np.float32).reshape(-1, 4), np.full(len(rows), label, np.int64))


def depth(low: float, high: float, invalid: int = 0) -> DenseTarget:
    """The first half low, the second half high, the first pixels invalid."""
    value = np.where(np.arange(24) < 12, low, high).astype(np.float32)
    value[:invalid] = 0
    return DenseTarget(value.reshape(SIZE), value.reshape(SIZE) > 0)


def text(report: Report) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report.render())
    return console.export_text()


def test_counts_ranges_and_shares() -> None:
    ids = DenseTarget(
        np.repeat([[0, 0, 0, 1, 1, 0]], 4, 0).astype(np.uint8),
        np.repeat([[1, 1, 1, 1, 1, 0]], 4, 0) > 0,
    )
    normal = np.zeros((*SIZE, 3), np.float32)
    normal[..., 2] = -1
    normal[0, 0] = (0, 0, 1)
    items: list[Sample | Exception] = [
        sample(
            semseg=ids,
            depth=depth(1, 3),
            normals=DenseTarget(normal, ALL),
            detection=boxes([0, 0, 2, 4]),
        ),
        sample(
            depth=depth(0.5, 8, invalid=6), detection=boxes([0, 0, 6, 1], [1, 1, 2, 2], label=1)
        ),
        sample(detection=boxes()),
    ]
    report = check_dataset(Listed(items, [SEMSEG, DEPTH, NORMALS, DETECTION]), progress=False)
    semseg, metres, normals, detection = report.tasks
    assert isinstance(semseg, SemSegReport)
    assert isinstance(metres, RangeReport)
    assert isinstance(detection, BoxReport)
    assert report.ok
    assert [task.annotated for task in report.tasks] == [1, 2, 1, 3]
    assert semseg.counts.tolist() == [12, 8, 0]
    assert semseg.invalid_share == pytest.approx(1 / 6)
    assert (metres.low, metres.high, metres.invalid_share) == (0.5, 8, 1 / 8)
    assert metres.counts.sum() == 42
    assert metres.median() == pytest.approx(3, abs=0.02)
    assert normals.counts.tolist() == [23, 1]
    assert detection.counts.tolist() == [1, 2]
    assert (detection.low, detection.high, detection.empty) == (1, 6, 1)
    assert report.sizes == {(6, 4): 3}
    assert report.notes == ["semseg: classes without an example: sky"]
    shown = text(report)
    for part in (
        "0.50 .. 3.00 .. 8.00 m",
        "95.8% towards the camera",
        "3 boxes of 1 .. 6 px, 1 images without",
        "1/3",
    ):
        assert part in shown
    assert "3 of 3 samples can be used" in shown


def test_disparity_has_a_range_without_a_unit() -> None:
    items: list[Sample | Exception] = [
        sample(disparity=depth(2, 30)),
        sample(disparity=depth(0.5, 60, invalid=6)),
    ]
    report = check_dataset(Listed(items, [DISPARITY]), progress=False)
    assert report.ok
    assert re.search(r"0\.50 \.\. (29\.9|30\.0)\d \.\. 60\.00 \(min, median, max\)", text(report))
    sparse = check_dataset(
        Listed([sample(disparity=depth(1, 1, invalid=20))], [DISPARITY]), progress=False
    )
    assert sparse.notes == [
        "disparity: 83% of the pixels are invalid; are scale and max_disparity right?"
    ]


def test_masks_have_a_share_of_positives() -> None:
    value = np.zeros(SIZE, np.uint8)
    value[0] = 1
    items: list[Sample | Exception] = [
        sample(
            saliency=DenseTarget(value, ALL), edge=DenseTarget(np.zeros(SIZE, np.uint8), value == 0)
        )
    ]
    report = check_dataset(Listed(items, [SALIENCY, EDGE]), progress=False)
    assert [task.contents() for task in report.tasks] == ["25.00% positive", "0.00% positive"]
    assert report.notes == [
        "edge: no pixel is positive; files with 0 and 255 need positive_value: 255 and ignore_value: null"
    ]


def test_bad_samples_are_collected_with_their_reason() -> None:
    bad = DenseTarget(np.full(SIZE, 3, np.uint8), ALL)
    items: list[Sample | Exception] = [
        ValueError("a.png: broken"),
        sample(),
        OSError("gone"),
        sample(semseg=bad),
    ]
    report = check_dataset(Listed(items, [SEMSEG]), progress=False)
    assert not report.ok
    assert report.problems == [
        ("s0", "a.png: broken"),
        ("s2", "gone"),
        ("s3", "semseg: class id 3 is not in 0..2"),
    ]
    assert report.examples == [1]
    assert report.tasks[0].annotated == 0
    assert "1 of 4 samples can be used" in text(report)


def test_other_exceptions_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        check_dataset(Listed([ZeroDivisionError()], [SEMSEG]), progress=False)


def test_notes_on_suspicious_data() -> None:
    away = np.zeros((*SIZE, 3), np.float32)
    away[..., 2] = 1
    items: list[Sample | Exception] = [
        sample(depth=depth(1, 1, invalid=20), normals=DenseTarget(away, ALL), detection=boxes())
    ]
    notes = check_dataset(Listed(items, [SEMSEG, DEPTH, NORMALS, DETECTION]), progress=False).notes
    assert notes == [
        "semseg: annotated on no sample",
        "depth: 83% of the pixels are invalid; are scale and max_depth right?",
        "normals: most point away from the camera; expected x right, y down, z forward",
        "detection: annotated on 1 samples, and no value on any",
    ]


def test_empty_data_set() -> None:
    report = check_dataset(Listed([], [DEPTH, DETECTION]), progress=False)
    assert report.ok
    assert report.examples == []
    assert "0 samples, images none" in text(report)


def test_examples_are_spread() -> None:
    dataset = Listed([sample() for _ in range(100)], [SEMSEG])
    assert check_dataset(dataset, progress=False, max_overview=4).examples == [0, 25, 50, 75]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            {"albedo": boxes()},
            r"a target for task 'albedo'; tasks: semseg, depth, normals, detection, disparity, edge",
        ),
        (
            {"semseg": DenseTarget(np.zeros((3, 6), np.uint8), ALL)},
            r"semseg: value uint8 \(3, 6\) and valid bool",
        ),
        ({"semseg": DenseTarget(np.zeros(SIZE, np.int64), ALL)}, r"semseg: value int64"),
        (
            {"depth": DenseTarget(np.full(SIZE, np.nan, np.float32), ALL)},
            r"depth: depth is not in 0..10.0 m",
        ),
        (
            {"depth": DenseTarget(np.full(SIZE, 11, np.float32), ALL)},
            r"depth: depth is not in 0..10.0 m",
        ),
        (
            {"depth": DenseTarget(np.full(SIZE, 1, np.float32), ~ALL)},
            r"depth: invalid pixels do not hold 0",
        ),
        (
            {"normals": DenseTarget(np.ones((*SIZE, 3), np.float32), ALL)},
            r"normals: normals are not of unit length",
        ),
        (
            {"detection": boxes([0, 0, 7, 1])},
            r"detection: boxes without area or not in 0..\(6, 4\)",
        ),
        ({"detection": boxes([1, 1, 1, 2])}, r"detection: boxes without area"),
        ({"detection": boxes([0, 0, np.nan, 1])}, r"detection: boxes without area"),
        ({"detection": boxes([0, 0, 1, 1], label=2)}, r"detection: labels 2..2 are not in 0..1"),
        (
            {"detection": BoxTarget(np.zeros((0, 4), np.float32), np.zeros((0, 1), np.int64))},
            r"labels int64 \(0, 1\)",
        ),
        (
            {"disparity": DenseTarget(np.full(SIZE, 65, np.float32), ALL)},
            r"disparity is not in 0..64.0 everywhere",
        ),
        (
            {"edge": DenseTarget(np.full(SIZE, 255, np.uint8), ALL)},
            r"edge: value 255 is not 0 or 1",
        ),
        ({"edge": DenseTarget(np.ones(SIZE, np.float32), ALL)}, r"edge: value float32 \(4, 6\)"),
        ({"depth": boxes()}, r"depth: a BoxTarget for a depth task"),
        ({"detection": depth(1, 2)}, r"detection: a DenseTarget for a detection task"),
    ],
)
def test_contract_of_a_sample(targets: dict[str, Target], message: str) -> None:
    tasks = [SEMSEG, DEPTH, NORMALS, DETECTION, DISPARITY, EDGE]
    with pytest.raises(ValueError, match=message):
        check_sample(sample(**targets), tasks)


def test_contract_of_the_image() -> None:
    with pytest.raises(
        ValueError, match=r"the image is float32 of shape \(4, 6\), expected uint8 \(H, W, 3\)"
    ):
        check_sample(Sample(np.zeros(SIZE, np.float32), {}, "s"), [])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two splits of two images, all different."""
    (tmp_path / "dataset.yaml").write_text(
        "name: tiny\ntasks:\n- {name: depth, kind: depth, scale: 0.001, max_depth: 10}\n"
        "- {name: detection, kind: detection, classes: [cup]}\n"
    )
    for i, name in enumerate(("train/a", "train/b", "val/c", "val/d")):
        split, stem = name.split("/")
        for folder, array in (
            ("rgb", np.full((*SIZE, 3), 40 * i, np.uint8)),
            ("depth", np.full(SIZE, 1000 + i, np.uint16)),
        ):
            path = tmp_path / split / folder / f"{stem}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    return tmp_path


def test_folder_is_reported_with_all_its_faults(root: Path) -> None:
    (root / "train/rgb/a.png").write_bytes(b"")
    (root / "train/depth/b.png").write_text("text")
    (root / "train/depth/z.png").write_text("no image")
    note = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 0, 3]}
    listed = [{"id": 1, "file_name": "a.png", "width": 6, "height": 4}]
    instances = {"images": listed, "annotations": [note], "categories": [{"id": 1, "name": "cup"}]}
    (root / "train/detection.json").write_text(json.dumps(instances))
    report = check_dataset(FolderDataset(root, "train"), progress=False)
    assert [sample_id for sample_id, _ in report.problems] == ["a", "b"]
    assert report.problems[0][1].endswith("rgb/a.png: the file is empty")
    assert report.problems[1][1].endswith(
        "depth/b.png: not a JPEG, PNG, WebP, GIF, BMP or TIFF file"
    )
    assert "1 boxes dropped: no area" in report.notes
    assert "depth: 1 labels without image, such as 'z'" in report.notes


def test_overlap_of_splits(root: Path) -> None:
    assert find_overlap(FolderDataset(root, "train"), FolderDataset(root, "val")) == []
    shutil.copy(root / "train/rgb/b.png", root / "val/rgb/e.png")
    shutil.copy(root / "val/rgb/c.png", root / "val/rgb/a.png")
    (root / "val/rgb/f.png").symlink_to("nothing.png")
    found = find_overlap(FolderDataset(root, "train"), FolderDataset(root, "val"))
    assert found == [
        ("a", "the id is in val too"),
        ("b", f"the image is the same as {root / 'val/rgb/e.png'}"),
    ]


class Named(PackedDataset):
    """Ids in two splits; images that are files of their own, or entries of arrays."""

    def __init__(self, split: str, *ids: str, files: bool = True) -> None:
        self.split, self._ids, self._files = split, list(ids), files

    def image_file(self, index: int) -> Path | None:
        return Path(self._ids[index]) if self._files else None


def test_overlap_of_lists_of_ids() -> None:
    assert find_overlap(Named("train", "a", "b"), Named("val", "b")) == [
        ("b", "the id is in val too")
    ]
    assert find_overlap(Named("train", "0", "1", files=False), Named("val", "0", files=False)) == []


def test_overview_is_one_row_per_sample(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("visionmtl.tasks.drawing")
    dataset = FolderDataset(root, "train")
    overview(dataset, tmp_path / "one.png", [0])
    overview(dataset, tmp_path / "two.png")
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert one.width == two.width
        assert one.width >= 3 * SIZE[1]
        assert two.height > one.height
