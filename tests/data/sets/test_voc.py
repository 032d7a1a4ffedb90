from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from visionmtl.data.sets.voc import MAX_BYTES, read_voc_boxes

CLASSES = ["cat", "dog"]


def write(path: Path, *objects: str, size: str = "<width>10</width><height>8</height>") -> Path:
    text = "".join(f"<object>{entry}</object>" for entry in objects)
    path.write_text(f"<annotation><size>{size}</size>{text}</annotation>")
    return path


def box(x1: object, y1: object, x2: object, y2: object, name: str = "dog") -> str:
    edges = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
    return f"<name>{name}</name><bndbox>{edges}</bndbox>"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.xml"


def test_corners_are_edges_of_pixels(path: Path) -> None:
    write(path, box(3, 3, 3, 3), box(1, 1, 10, 8, " cat "), box("0.5", "-3", "40.25", "7.5"))
    target, left_out = read_voc_boxes(path, CLASSES, (10, 8))
    assert target.boxes.tolist() == [[2, 2, 3, 3], [0, 0, 10, 8], [0, 0, 10, 7.5]]
    assert target.labels.tolist() == [1, 0, 1]
    assert (target.boxes.dtype, target.labels.dtype, left_out) == (np.float32, np.int64, 0)


def test_an_image_without_objects_is_annotated(path: Path) -> None:
    target, _ = read_voc_boxes(write(path), CLASSES, (10, 8))
    assert (target.boxes.shape, target.labels.shape) == ((0, 4), (0,))


def test_difficult_objects(path: Path) -> None:
    write(
        path,
        box(1, 1, 2, 2) + "<difficult>1</difficult>",
        box(1, 1, 3, 3) + "<difficult>0</difficult>",
    )
    target, left_out = read_voc_boxes(path, CLASSES, (10, 8))
    assert (target.boxes.tolist(), left_out) == ([[0, 0, 3, 3]], 1)
    target, left_out = read_voc_boxes(path, CLASSES, (10, 8), difficult=True)
    assert (len(target.boxes), left_out) == (2, 0)


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ([box(1, 1, 2, 2, "cow")], r"object of class 'cow'; classes of the task: cat, dog$"),
        (
            [box(5, 1, 3, 2)],
            r"dog with the box \[5.0, 1.0, 3.0, 2.0\] has no area inside the image$",
        ),
        ([box(11, 1, 12, 2)], r"dog with the box .* has no area inside the image$"),
        ([box("x", 1, 2, 2)], r"object/bndbox/xmin must be a number, got 'x'$"),
        ([box("nan", 1, 2, 2)], r"object/bndbox/xmin must be a number, got 'nan'$"),
        (["<name>dog</name>"], r"object/bndbox/xmin must be a number, got None$"),
    ],
)
def test_faults_are_named(path: Path, objects: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"a.xml: {message}"):
        read_voc_boxes(write(path, *objects), CLASSES, (10, 8))


def test_another_size(path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.xml: the size is 10x8, the image is 8x10$"):
        read_voc_boxes(write(path), CLASSES, (8, 10))
    with pytest.raises(
        ValueError, match=r"a.xml: annotation/size/width must be a number, got None$"
    ):
        read_voc_boxes(write(path, size=""), CLASSES, (10, 8))


BOMB = '<!DOCTYPE a [<!ENTITY b "bbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB.encode(), "XML with a document type is not read$"),
        (BOMB.encode("utf-16"), "not UTF-8 text$"),
        (b"\xff\xfe<\0", "not UTF-8 text$"),
        (b"", "broken XML: no element found"),
        (b"<annotation>", "broken XML: no element found"),
        (b"<a>" * 100_000, "broken XML: no element found"),
        (b" " * (MAX_BYTES + 1), "1000001 bytes are more than the limit of 1000000$"),
    ],
)
def test_hostile_and_broken_files(path: Path, content: bytes, message: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"a.xml: {message}"):
        read_voc_boxes(path, CLASSES, (10, 8))


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.xml: No such file or directory$"):
        read_voc_boxes(path, CLASSES, (10, 8))
