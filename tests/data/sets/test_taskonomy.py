from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionmtl.data.sets.taskonomy import FOLDERS, Taskonomy
from visionmtl.types import DenseTarget, Sample

Make = Callable[[Path], None]
FIRST = "allensville/point_0_view_1"


@pytest.fixture
def root(tmp_path: Path, make_taskonomy: Make) -> Path:
    make_taskonomy(tmp_path)
    return tmp_path


def dense(sample: Sample, task: str) -> DenseTarget:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target


def split_list(root: Path) -> Path:
    return root / "splits_taskonomy" / "train_val_test_fullplus.csv"


@pytest.mark.parametrize(
    ("split", "buildings"),
    [
        ("train", ["allensville", "hanson"]),
        ("val", ["corozal", "darden"]),
        ("test", ["ihlen", "mcdade"]),
    ],
)
def test_splits_go_by_building(root: Path, split: str, buildings: list[str]) -> None:
    (root / "rgb" / buildings[0] / "._point_0_view_1_domain_rgb.png").touch()  # left by macOS
    expected = [
        f"{name}/{view}" for name in buildings for view in ("point_0_view_1", "point_12_view_0")
    ]
    assert [sample.sample_id for sample in Taskonomy(root, split)] == expected  # type: ignore[attr-defined]


def test_tasks(root: Path) -> None:
    semseg, depth, normals = Taskonomy(root, "train", max_depth=10).tasks
    assert (semseg.num_classes, semseg.classes[0], semseg.classes[16]) == (17, "background", "vase")
    assert (depth.kind.max_depth, normals.kind.name) == (10, "normals")


def test_labels_without_the_uncertain_class(root: Path) -> None:
    target = dense(Taskonomy(root, "train")[0], "semseg")
    stored = np.arange(256).reshape(16, 16) % 18
    np.testing.assert_array_equal(target.valid, stored > 0)
    np.testing.assert_array_equal(target.value, np.maximum(stored - 1, 0))


def test_depth_in_metres(root: Path) -> None:
    target = dense(Taskonomy(root, "train")[0], "depth")
    assert target.value[0, :5].tolist() == [0, 1 / 512, 0, 0, 2]
    assert target.valid[0, :5].tolist() == [
        False,
        True,
        False,
        False,
        True,
    ]  # 16.002 m is beyond max_depth
    target = dense(Taskonomy(root, "train", max_depth=128)[0], "depth")
    assert target.value[0, 2:4].tolist() == [8193 / 512, 0]
    assert target.valid[0, 2:4].tolist() == [
        True,
        False,
    ]  # 65535 is no measurement, though it is 127.998 m


def test_normals_in_the_camera_frame(root: Path) -> None:
    target = dense(Taskonomy(root, "train")[0], "normals")
    assert target.valid[0, :4].tolist() == [False, True, True, True]  # grey
    np.testing.assert_allclose(
        target.value[0, 1:5], [[1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, -1]], atol=0.01
    )
    np.testing.assert_allclose(np.linalg.norm(target.value[0, 1:], axis=1), 1, rtol=1e-6)
    assert (target.value.dtype, target.value[0, 0].tolist()) == (np.float32, [0, 0, 0])


def test_normals_in_another_frame(root: Path) -> None:
    target = dense(Taskonomy(root, "train", normals_frame="y_down_z_back")[0], "normals")
    np.testing.assert_allclose(
        target.value[0, 1:5], [[1, 0, 0], [0, -1, 0], [0, 1, 0], [0, 0, 1]], atol=0.01
    )


def test_camera(root: Path) -> None:
    camera = Taskonomy(root, "train")[0].camera
    assert camera is not None
    assert camera.fx == camera.fy
    assert 2 * np.arctan(8 / camera.fx) == pytest.approx(1.0489180166567196)
    assert (camera.cx, camera.cy, camera.width, camera.height) == (8, 8, 16, 16)
    path = root / "point_info" / f"{FIRST}_domain_point_info.json"
    path.write_text('{"field_of_view_rads": 60}')
    with pytest.raises(ValueError, match=re.escape(f"{path}: field_of_view_rads: must be < 3.14")):
        Taskonomy(root, "train")[0]
    shutil.rmtree(root / "point_info")
    assert Taskonomy(root, "train")[0].camera is None


def test_the_folders_of_the_omnidata_tool(root: Path) -> None:
    before = Taskonomy(root, "train")[0]
    for folder in ("rgb", *FOLDERS.values()):
        (root / folder).rename(root / "taskonomy")
        (root / folder).mkdir()
        (root / "taskonomy").rename(root / folder / "taskonomy")
    after = Taskonomy(root, "train")[0]
    assert after.sample_id == before.sample_id
    for task in ("semseg", "depth", "normals"):
        np.testing.assert_array_equal(dense(after, task).value, dense(before, task).value)


def test_a_missing_label_file_means_not_annotated(root: Path) -> None:
    (root / "normal" / f"{FIRST}_domain_normal.png").unlink()
    data = Taskonomy(root, "train")
    assert set(data[0].targets) == {"semseg", "depth"}
    assert set(data[1].targets) == {"semseg", "depth", "normals"}


def test_tasks_without_a_folder(root: Path) -> None:
    shutil.rmtree(root / "segment_semantic")
    assert [spec.name for spec in Taskonomy(root, "train").tasks] == ["depth", "normals"]
    with pytest.raises(
        ValueError, match=r"task 'semseg' needs .*segment_semantic, which is not there"
    ):
        Taskonomy(root, "train", ["semseg"])


def test_the_split_list_may_lie_in_the_root(root: Path) -> None:
    split_list(root).rename(root / "train_val_test_tiny.csv")
    assert len(Taskonomy(root, "val", subset="tiny")) == 4
    with pytest.raises(
        ValueError,
        match=r"no split list train_val_test_medium\.csv, .*; there is one for subset tiny$",
    ):
        Taskonomy(root, "val", subset="medium")


def test_without_split_list_it_is_said_where_to_get_one(root: Path) -> None:
    split_list(root).unlink()
    with pytest.raises(
        ValueError,
        match=r"no split list train_val_test_fullplus\.csv, .*; splits_taskonomy\.zip is at https",
    ):
        Taskonomy(root, "train")


def test_none_of_the_buildings_is_there(root: Path) -> None:
    split_list(root).write_text("id,train,val,test\nmerom,1,0,0\nonaga,1,0,0\n")
    expected = (
        r"fullplus\.csv: none of the 2 buildings of 'train' is in .*rgb; "
        r"it has allensville, corozal, darden, hanson, "
    )
    with pytest.raises(ValueError, match=expected):
        Taskonomy(root, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected rows of id, train, val, test, got none"),
        (b"building,fold\nhanson,1\n", "expected rows of id, train, val, test, got building, fold"),
        (b"id,train\n\xff,1\n", "not a split list: 'utf-8' codec"),
    ],
)
def test_malformed_split_lists_are_named(root: Path, content: bytes, message: str) -> None:
    split_list(root).write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(f"{split_list(root)}: {message}")):
        Taskonomy(root, "train")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"subset": "small"},
            "subset: unknown value 'small'; known: tiny, medium, full, fullplus",
        ),
        ({"max_depth": 0}, "max_depth: must be > 0, got 0"),
        ({"max_depth": 129.0}, "max_depth: must be <= 128, got 129.0"),
        ({"max_depth": float("nan")}, "max_depth: must be finite, got nan"),
        ({"max_depth": "10"}, "max_depth: must be a number, got '10'"),
        ({"normals_frame": "opengl"}, "normals_frame: unknown value "),
    ],
)
def test_options_out_of_range_are_refused(
    root: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Taskonomy(root, "train", **options)


def test_labels_outside_the_table_are_named(root: Path) -> None:
    path = root / "segment_semantic" / f"{FIRST}_domain_segmentsemantic.png"
    Image.fromarray(np.full((16, 16), 18, np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: labels 18 are none of this packing's")
    ):
        Taskonomy(root, "train")[0]


def test_depth_of_eight_bits_is_refused(root: Path) -> None:
    path = root / "depth_zbuffer" / f"{FIRST}_domain_depth_zbuffer.png"
    Image.fromarray(np.full((16, 16), 18, np.uint8)).save(path)
    with pytest.raises(
        ValueError, match=re.escape(f"{path}: an 8-bit image (L) cannot hold depth")
    ):
        Taskonomy(root, "train")[0]


@pytest.mark.parametrize("folder", ["rgb", *FOLDERS.values()])
def test_broken_files_are_named(root: Path, folder: str) -> None:
    (path,) = (root / folder / "allensville").glob("point_0_*.png")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ValueError, match=re.escape(f"{path}: broken PNG file")):
        Taskonomy(root, "train")[0]
