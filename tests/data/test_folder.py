from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionmtl.data.folder import FolderDataset, list_splits
from visionmtl.types import BoxTarget, Camera, DenseTarget, MultiTaskDataset, Sample, TaskSpec

YAML = """\
name: tiny
tasks:
  - {name: semseg, kind: semseg, classes: [floor, wall]}
  - {name: depth, kind: depth, unit: metre, scale: 1e-3, invalid_value: 0, max_depth: 10.0}
  - {name: normals, kind: normals}
  - {name: detection, kind: detection, classes: [cup, chair]}
camera: {fx: 8.0, fy: 8.0, cx: 4.0, cy: 3.0, width: 8, height: 6}
licence: CC0
"""
SIZE = (6, 8)
SHARED = Path(__file__).parents[2] / "../shared/data"


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def coco(*boxes: tuple[int, int, list[float]], ids: tuple[str, ...] = ("a", "b")) -> dict[str, Any]:
    """Boxes as (image id, category id, x y w h); the category ids are not the class ids."""
    return {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 8, "height": 6}
            for i, name in enumerate(ids)
        ],
        "annotations": [{"image_id": i, "category_id": c, "bbox": box} for i, c, box in boxes],
        "categories": [{"id": 7, "name": "chair"}, {"id": 3, "name": "cup"}],
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Samples a (all tasks), b (no semseg, no boxes) and c (nothing; not listed in
    detection.json).
    """
    (tmp_path / "dataset.yaml").write_text(YAML)
    train = tmp_path / "train"
    for i, name in enumerate("cab"):
        save(train / f"rgb/{name}.png", np.full((*SIZE, 3), 10 * i, np.uint8))
    save(train / "semseg/a.png", np.tile(np.array([0, 1, 255, 0], np.uint8), (6, 2)))
    for name in "ab":
        save(train / f"depth/{name}.png", np.full(SIZE, 1500, np.uint16))
        save(train / f"normals/{name}.png", np.full((*SIZE, 3), (128, 128, 1), np.uint8))
    write(tmp_path, coco((0, 7, [1, 2, 3, 2]), (0, 3, [6, 4, 9, 9])))
    return tmp_path


def write(root: Path, values: dict[str, Any]) -> None:
    (root / "train/detection.json").write_text(json.dumps(values))


def boxes_of(sample: Sample) -> BoxTarget:
    target = sample.targets["detection"]
    assert isinstance(target, BoxTarget)
    return target


def dense(sample: Sample, task: str) -> DenseTarget:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target


def test_tasks_ids_and_samples(root: Path) -> None:
    dataset = FolderDataset(root, "train")
    assert isinstance(dataset, MultiTaskDataset)
    assert dataset.tasks == [
        TaskSpec.semseg(["floor", "wall"]),
        TaskSpec.depth(10.0),
        TaskSpec.normals(),
        TaskSpec.detection(["cup", "chair"]),
    ]
    assert (dataset.name, dataset.licence, len(dataset)) == ("tiny", "CC0", 3)
    assert [dataset.sample_id(i) for i in range(3)] == ["a", "b", "c"]
    a, b, c = (dataset[i] for i in range(3))
    assert [list(sample.targets) for sample in (a, b, c)] == [
        ["semseg", "depth", "normals", "detection"],
        ["depth", "normals", "detection"],
        [],
    ]
    assert (a.sample_id, int(a.image[0, 0, 0])) == ("a", 10)
    assert dense(a, "semseg").value[0].tolist() == [0, 1, 0, 0] * 2
    assert dense(a, "semseg").valid[0].tolist() == [True, True, False, True] * 2
    assert dense(a, "depth").value[0, 0] == np.float32(1.5)
    assert dense(a, "normals").value[0, 0].tolist() == [0, 0, -1]
    assert boxes_of(a).boxes.tolist() == [[1, 2, 4, 4], [6, 4, 8, 6]]
    assert boxes_of(a).boxes.dtype == np.float32
    assert boxes_of(a).labels.tolist() == [1, 0]
    assert boxes_of(a).labels.dtype == np.int64
    assert boxes_of(b).boxes.shape == (0, 4)
    assert boxes_of(b).labels.shape == (0,)
    with pytest.raises(IndexError):
        dataset[3]


def test_selection_and_order_of_tasks(root: Path) -> None:
    dataset = FolderDataset(root, "train", ["detection", "depth"])
    assert [spec.name for spec in dataset.tasks] == ["detection", "depth"]
    (root / "train/semseg/a.png").write_bytes(b"never read")
    assert list(dataset[0].targets) == ["detection", "depth"]
    with pytest.raises(
        ValueError, match=r"no task 'edge'; known: semseg, depth, normals, detection$"
    ):
        FolderDataset(root, "train", ["depth", "edge"])
    with pytest.raises(ValueError, match=r"task 'depth' is listed more than once$"):
        FolderDataset(root, "train", ["depth", "depth"])


def test_missing_folder_and_file_mean_not_annotated(root: Path) -> None:
    save(root / "val/rgb/x.jpg", np.zeros((*SIZE, 3), np.uint8))
    dataset = FolderDataset(root, "val")
    assert len(dataset.tasks) == 4
    assert dataset[0].targets == {}


def test_camera_follows_the_image_size(root: Path) -> None:
    assert FolderDataset(root, "train")[0].camera == Camera(8, 8, 4, 3, 8, 6)
    save(root / "val/rgb/x.png", np.zeros((12, 16, 3), np.uint8))
    save(root / "val/rgb/y.png", np.zeros((12, 8, 3), np.uint8))
    val = FolderDataset(root, "val")
    assert val[0].camera == Camera(16, 16, 8, 6, 16, 12)
    with pytest.raises(
        ValueError, match=r"y\.png: the aspect ratio of 8x12 is not that of the 8x6 of the camera"
    ):
        val[1]
    (root / "dataset.yaml").write_text(YAML.replace("camera:", "#"))
    assert FolderDataset(root, "val")[1].camera is None


def test_pickled_data_set_gives_the_same(root: Path) -> None:
    dataset = FolderDataset(root, "train")
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy[0].targets["detection"].boxes, boxes_of(dataset[0]).boxes)


def test_splits(root: Path) -> None:
    assert list_splits(root) == ["train"]
    for split in ("test", "", ".", "../train", "/etc"):
        with pytest.raises(
            ValueError, match=rf"no split '{split}'; splits with a folder rgb: train$"
        ):
            FolderDataset(root, split)
    (root / "empty/rgb").mkdir(parents=True)
    with pytest.raises(
        ValueError, match=r"empty/rgb: no images; splits with a folder rgb: empty, train$"
    ):
        FolderDataset(root, "empty")


def test_boxes_that_cannot_be_used_are_counted(root: Path) -> None:
    assert FolderDataset(root, "train").dropped_boxes == {}
    write(root, coco((0, 3, [1, 1, 0, 3])))
    assert FolderDataset(root, "train").dropped_boxes == {"no area": 1}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "kind: normals",
            "kind: flow",
            r"dataset\.yaml: tasks\.2\.kind: unknown value 'flow'; known: depth, .*, semseg$",
        ),
        (
            "scale: 1e-3",
            "sclae: 1e-3",
            r"dataset\.yaml: tasks\.1\.sclae: unknown key; known: .*; did you mean 'scale'\?$",
        ),
        ("scale: 1e-3", "scale: -1", r"dataset\.yaml: tasks\.1\.scale: must be > 0, got -1$"),
        ("scale: 1e-3, ", "", r"dataset\.yaml: tasks\.1\.scale: required key is missing$"),
        (
            "unit: metre",
            "unit: mm",
            r"dataset\.yaml: tasks\.1\.unit: unknown value 'mm'; known: metre$",
        ),
        (
            "[floor, wall]",
            "[true, false]",
            r"yaml: tasks\.0: task 'semseg': classes must be a list of names, got \[True, False\]$",
        ),
        (
            "[floor, wall]",
            "[wall, wall]",
            r"dataset\.yaml: tasks\.0: task 'semseg': repeated classes \['wall'\]$",
        ),
        (
            "[floor, wall]}",
            "[a, b], ignore_value: 0}",
            r"ignore_value 0 is also the id of class 'a'$",
        ),
        ("name: normals", "name: depth", r"dataset\.yaml: task 'depth' is listed more than once$"),
        (
            "name: normals",
            "name: ../up",
            r"dataset\.yaml: tasks\.2\.name: must be a string that matches .*, got '\.\./up'$",
        ),
        (
            "licence:",
            "lisence:",
            r"dataset\.yaml: lisence: unknown key; known: name, .*; did you mean 'licence'\?$",
        ),
        ("width: 8", "width: 0", r"dataset\.yaml: camera\.width: must be > 0, got 0$"),
        ("licence: CC0", "name: twice", r"dataset\.yaml: line 8, column 1: duplicate key 'name'$"),
        (
            "licence: CC0",
            "licence: *tiny",
            r"line 8, column 10: anchors \(&\) and aliases \(\*\) are not",
        ),
        (
            "licence: CC0",
            "licence: !!python/object/apply:os.getcwd []",
            r"dataset\.yaml: line 8, column 10: tags",
        ),
        (
            "licence: CC0",
            "\tx: 1",
            r"dataset\.yaml: line 8, column 1: tab found; YAML is indented with spaces$",
        ),
        ("licence: CC0", "licence: 2001", r"dataset\.yaml: licence: must be a string, got 2001$"),
        (YAML, "", r"dataset\.yaml: must be a mapping, got null$"),
        (YAML, "[" * 10_000, r"dataset\.yaml: "),
        (YAML, "#" * 128_001, r"dataset\.yaml: a YAML file has at most 128000 bytes$"),
    ],
)
def test_faults_of_dataset_yaml(root: Path, old: str, new: str, message: str) -> None:
    (root / "dataset.yaml").write_text(YAML.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        FolderDataset(root, "train")
    assert len(str(caught.value).splitlines()) == 1


def test_yes_and_no_are_names(root: Path) -> None:
    (root / "dataset.yaml").write_text(YAML.replace("[floor, wall]", "[yes, no]"))
    assert FolderDataset(root, "train").tasks[0] == TaskSpec.semseg(["yes", "no"])


def test_missing_root(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"nowhere/dataset\.yaml: cannot be read \(No such file or directory\)$"
    ):
        FolderDataset(tmp_path / "nowhere", "train")


def test_mask_of_another_size_names_both(root: Path) -> None:
    save(root / "train/depth/a.png", np.ones((3, 4), np.uint16))
    with pytest.raises(ValueError, match=r"depth/a\.png: size is 4x3, the image is 8x6$"):
        FolderDataset(root, "train")[0]


@pytest.mark.parametrize("name", ["a.jpg", "A.png", "a.PNG"])
def test_ids_must_differ_by_more_than_case_and_suffix(root: Path, name: str) -> None:
    save(root / "train/rgb" / name, np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(ValueError, match=r"train/rgb: .* have the same id, up to case$"):
        FolderDataset(root, "train")


def test_other_files(root: Path) -> None:
    for name in (".DS_Store", "._a.png", "notes.txt"):
        (root / "train/rgb" / name).write_text("x")
    assert len(FolderDataset(root, "train")) == 3
    (root / "train/depth/a.npy").write_text("x")
    with pytest.raises(ValueError, match=r"depth/a\.npy: expected \.png files$"):
        FolderDataset(root, "train")


def test_file_name_that_is_not_text(root: Path) -> None:
    with open(os.fsencode(root / "train/rgb") + b"/\xff.png", "wb"):
        pass
    with pytest.raises(
        ValueError, match=r"file name '\\udcff\.png' is not printable UTF-8$"
    ) as caught:
        FolderDataset(root, "train")
    str(caught.value).encode()


def test_labels_that_belong_to_no_image(root: Path) -> None:
    save(root / "train/depth/z.png", np.ones(SIZE, np.uint16))
    write(root, coco(ids=("a", "gone")))
    assert FolderDataset(root, "train").unused_labels == {
        "semseg": [],
        "depth": ["z"],
        "normals": [],
        "detection": ["gone"],
    }
    (root / "train/semseg/a.png").rename(root / "train/semseg/a_label.png")
    with pytest.raises(
        ValueError, match=r"train/semseg: belongs to no image; it has 'a_label', not 'a'$"
    ):
        FolderDataset(root, "train")


def test_links_that_lead_out_are_refused_unless_allowed(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    save(outside / "d.png", np.zeros((*SIZE, 3), np.uint8))
    (root / "train/rgb/d.png").symlink_to(outside / "d.png")
    with pytest.raises(
        ValueError, match=r"rgb/d\.png: leads out of .*; allow_outside_root=True permits it$"
    ):
        FolderDataset(root, "train")
    assert len(FolderDataset(root, "train", allow_outside_root=True)) == 4
    (root / "train/rgb/d.png").unlink()
    (root / "train/rgb/d.png").symlink_to("a.png")
    assert len(FolderDataset(root, "train")) == 4
    (root / "val").symlink_to(root / "train")
    assert len(FolderDataset(root, "val")) == 4
    (root / "test").mkdir()
    (root / "test/rgb").symlink_to(outside)
    with pytest.raises(ValueError, match=r"test/rgb: leads out of"):
        FolderDataset(root, "test")


def test_broken_and_looping_links_are_named(root: Path) -> None:
    (root / "train/rgb/d.png").symlink_to("nothing.png")
    (root / "train/rgb/e.png").symlink_to("e.png")
    dataset = FolderDataset(root, "train")
    with pytest.raises(ValueError, match=r"d\.png: No such file or directory$"):
        dataset[3]
    with pytest.raises(ValueError, match=r"e\.png: Too many levels of symbolic links$"):
        dataset[4]


# Disparity, saliency and edges


MASKS = """\
name: masks
tasks:
  - {name: disparity, kind: disparity, scale: 0.00390625, max_disparity: 128.0}
  - {name: saliency, kind: saliency}
  - {name: edge, kind: edge, positive_value: 255, ignore_value: null}
"""


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text(MASKS)
    save(tmp_path / "train/rgb/a.png", np.zeros((*SIZE, 3), np.uint8))
    disparity = np.full(SIZE, 256, np.uint16)
    disparity[0, :3] = [0, 128 * 256, 128 * 256 + 1]
    save(tmp_path / "train/disparity/a.png", disparity)
    save(tmp_path / "train/saliency/a.png", np.tile(np.array([0, 1, 255, 1], np.uint8), (6, 2)))
    save(tmp_path / "train/edge/a.png", np.tile(np.array([0, 255], np.uint8), (6, 4)))
    return tmp_path


def test_disparity_saliency_and_edges(masks: Path) -> None:
    dataset = FolderDataset(masks, "train")
    assert dataset.tasks == [TaskSpec.disparity(128), TaskSpec.saliency(), TaskSpec.edge()]
    assert dataset.codecs["disparity"].options() == {"scale": 1 / 256, "invalid_value": 0.0}
    sample = dataset[0]
    disparity, saliency, edge = (dense(sample, task) for task in ("disparity", "saliency", "edge"))
    assert disparity.value[0, :4].tolist() == [0, 128, 0, 1]
    assert disparity.value.dtype == np.float32
    assert disparity.valid[0, :4].tolist() == [False, True, False, True]
    assert saliency.value[0].tolist() == [0, 1, 0, 1] * 2
    assert saliency.valid[0].tolist() == [True, True, False, True] * 2
    assert edge.value[0].tolist() == [0, 1] * 4
    assert edge.valid.all()
    assert {target.value.dtype for target in (saliency, edge)} == {np.dtype(np.uint8)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("scale: 0.00390625, ", "", r"tasks\.0\.scale: required key is missing$"),
        (
            "max_disparity: 128.0",
            "max_depth: 9.0",
            r"tasks\.0\.max_depth: unknown key; known: max_disparity, .*; .* 'max_disparity'\?$",
        ),
        (
            "max_disparity: 128.0",
            "max_disparity: 0",
            r"tasks\.0\.max_disparity: must be > 0, got 0$",
        ),
        (
            "max_disparity: 128.0",
            "max_disparity: .inf",
            r"tasks\.0\.max_disparity: must be finite, got inf$",
        ),
        (
            "kind: saliency",
            "kind: saliency, positive_value: 0",
            r"tasks\.1\.positive_value: must be >= 1, got 0$",
        ),
        (
            "kind: saliency",
            "kind: saliency, classes: [a]",
            r"tasks\.1\.classes: unknown key; known: positive_value, ignore_value, name, kind$",
        ),
        (
            "kind: saliency",
            "kind: saliency, positive_value: 255",
            r"task 'saliency': ignore_value 255 means yes or no too; null is none$",
        ),
        (
            "kind: saliency",
            "kind: saliency, ignore_value: 0",
            r"'saliency': ignore_value 0 means yes or no too; null",
        ),
        (
            "ignore_value: null",
            "ignore_value: no",
            r"tasks\.2\.ignore_value: must be an integer, got 'no'$",
        ),
    ],
)
def test_faults_of_masks_and_disparity(masks: Path, old: str, new: str, message: str) -> None:
    (masks / "dataset.yaml").write_text(MASKS.replace(old, new))
    with pytest.raises(ValueError, match=rf"dataset\.yaml: .*{message}") as caught:
        FolderDataset(masks, "train")
    assert len(str(caught.value).splitlines()) == 1


def test_faults_of_label_files_of_masks(masks: Path) -> None:
    save(masks / "train/saliency/a.png", np.full(SIZE, 2, np.uint8))
    with pytest.raises(
        ValueError,
        match=r"saliency/a\.png: values 2, expected 0 \(no\), 1 \(yes\), 255 \(ignored\)$",
    ):
        FolderDataset(masks, "train")[0]
    save(masks / "train/saliency/a.png", np.zeros((3, 8), np.uint8))
    with pytest.raises(ValueError, match=r"saliency/a\.png: size is 8x3, the image is 8x6$"):
        FolderDataset(masks, "train")[0]


# Normals that are derived from depth


STORED = "  - {name: normals, kind: normals}\n"


@pytest.fixture
def tilted(root: Path) -> Path:
    """Without stored normals; a has the depth of a tilted plane, b none."""
    (root / "dataset.yaml").write_text(YAML.replace(STORED, ""))
    x = (np.arange(8) + 0.5 - 4.0) / 8.0
    depth = 1 / (0.5 + 0.25 * np.tile(x, (6, 1)))  # metres
    save(root / "train/depth/a.png", (1000 * depth).round().astype(np.uint16))
    (root / "train/depth/b.png").unlink()
    return root


def test_derived_normals(tilted: Path) -> None:
    assert "normals" not in [spec.name for spec in FolderDataset(tilted, "train").tasks]
    dataset = FolderDataset(tilted, "train", derive_normals=True)
    assert [spec.name for spec in dataset.tasks] == ["semseg", "depth", "detection", "normals"]
    assert dataset.tasks[3] == TaskSpec.normals()
    a, b, c = (dataset[i] for i in range(3))
    assert list(a.targets) == ["semseg", "depth", "detection", "normals"]
    normals = dense(a, "normals")
    assert (normals.value.shape, normals.value.dtype) == ((*SIZE, 3), np.float32)
    assert normals.valid.mean() > 0.5
    expected = -np.array([0.25, 0, 0.5]) / np.linalg.norm([0.25, 0, 0.5])
    np.testing.assert_allclose(
        normals.value[normals.valid], np.tile(expected, (normals.valid.sum(), 1)), atol=5e-3
    )
    assert list(b.targets) == ["detection"]
    assert c.targets == {}


def test_derived_normals_do_not_depend_on_the_other_tasks(tilted: Path) -> None:
    whole = dense(FolderDataset(tilted, "train", derive_normals=True)[0], "normals")
    for tasks in (["normals"], ["normals", "depth"], ["detection", "normals", "semseg"]):
        dataset = FolderDataset(tilted, "train", tasks, derive_normals=True)
        assert [spec.name for spec in dataset.tasks] == tasks
        assert list(dataset[0].targets) == tasks
        np.testing.assert_array_equal(dense(dataset[0], "normals").value, whole.value)
        assert list(dataset.codecs) == tasks
    assert list(FolderDataset(tilted, "train", ["depth"], derive_normals=True)[0].targets) == [
        "depth"
    ]
    with pytest.raises(ValueError, match=r"no task 'normals'; known: semseg, depth, detection$"):
        FolderDataset(tilted, "train", ["normals"])


def test_normals_are_derived_with_the_camera_of_the_picture(tilted: Path) -> None:
    """A picture of twice the size shows the same plane."""
    big = Image.open(tilted / "train/depth/a.png").resize((16, 12), Image.Resampling.NEAREST)
    big.save(tilted / "train/depth/b.png")
    save(tilted / "train/rgb/b.png", np.zeros((12, 16, 3), np.uint8))
    write(tilted, coco(ids=("a",)))
    sample = FolderDataset(tilted, "train", ["normals"], derive_normals=True)[1]
    normals = dense(sample, "normals")
    mean = normals.value[normals.valid].mean(axis=0)
    np.testing.assert_allclose(mean / np.linalg.norm(mean), [-0.447, 0, -0.894], atol=0.05)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("camera:", "#", "1 depth tasks and no camera"),
        ("{name: depth, kind: depth, unit: metre, scale: 1e-3, invalid_value: 0, max_depth: 10.0}",
         "{name: depth, kind: normals}", "0 depth tasks and a camera"),
        ("{name: detection, kind: detection, classes: [cup, chair]}",
         "{name: far, kind: depth, scale: 1.0, max_depth: 9.0}", "2 depth tasks and a camera"),
    ],
)  # fmt: skip
def test_what_normals_cannot_be_derived_from(tilted: Path, old: str, new: str, found: str) -> None:
    (tilted / "dataset.yaml").write_text(YAML.replace(STORED, "").replace(old, new))
    message = rf"dataset\.yaml: derive_normals needs one depth task and the camera, it has {found}$"
    with pytest.raises(ValueError, match=message):
        FolderDataset(tilted, "train", derive_normals=True)


def test_stored_normals_are_not_derived_too(root: Path) -> None:
    with pytest.raises(
        ValueError, match=r"dataset\.yaml: derive_normals: it has a task 'normals' already$"
    ):
        FolderDataset(root, "train", derive_normals=True)


def test_depth_of_other_images_gives_no_normals(tilted: Path) -> None:
    (tilted / "train/depth/a.png").rename(tilted / "train/depth/a_depth.png")
    with pytest.raises(
        ValueError, match=r"train/depth: belongs to no image; it has 'a_depth', not 'a'$"
    ):
        FolderDataset(tilted, "train", ["normals"], derive_normals=True)
    (tilted / "train/depth/a_depth.png").unlink()
    (tilted / "train/depth").rmdir()
    assert FolderDataset(tilted, "train", ["normals"], derive_normals=True)[0].targets == {}


def test_the_stamp_follows_files_split_and_options(tilted: Path) -> None:
    def stamp(*arguments: Any, **options: Any) -> str:
        return FolderDataset(tilted, "train", *arguments, **options).stamp()

    assert stamp() == stamp()
    stamps = [stamp(), stamp(["depth"]), stamp(["semseg"]), stamp(["normals"], derive_normals=True)]
    assert len(set(stamps)) == 4
    os.utime(tilted / "train/depth/a.png", ns=(5, 5))  # normals are made of it
    assert [
        stamp(["semseg"]) == stamps[2],
        stamp(["normals"], derive_normals=True) == stamps[3],
    ] == [True, False]


@pytest.mark.skipif(
    not (SHARED / "rooms3d").is_dir(), reason="needs ../shared/data/rooms3d beside the project"
)
def test_rooms3d() -> None:
    dataset = FolderDataset(SHARED / "rooms3d", "val")
    assert (len(dataset), dataset.dropped_boxes) == (60, {})
    sample = dataset[0]
    assert list(sample.targets) == ["semseg", "depth", "normals", "detection"]
    assert sample.image.shape == (240, 320, 3)
    assert dense(sample, "depth").valid.mean() > 0.9
