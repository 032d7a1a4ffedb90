"""Label files and codes of every kind, value by value."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from visionmtl._images import read_numbers
from visionmtl.tasks import Depth, Disparity, Normals, Saliency, SemSeg
from visionmtl.tasks.mask import MaskCodec
from visionmtl.tasks.normals import VectorCodec
from visionmtl.tasks.range import RangeCodec
from visionmtl.tasks.semseg import LabelCodec
from visionmtl.types import DenseTarget

RNG = np.random.default_rng(0)
RGB = cv2.resize(RNG.integers(0, 256, (4, 6, 3), np.uint8), (30, 20), interpolation=cv2.INTER_CUBIC)


def read_labels(path: Path, num_classes: int, ignore_value: int = 255) -> DenseTarget:
    kind = SemSeg([f"c{i}" for i in range(num_classes)])
    return LabelCodec(kind, ignore_value=ignore_value).read(path)


def read_mask(path: Path, **options: Any) -> DenseTarget:
    return MaskCodec(Saliency(), **options).read(path)


def read_depth(path: Path, largest: float, scale: float, invalid_value: float = 0) -> DenseTarget:
    return RangeCodec(Depth(largest), scale=scale, invalid_value=invalid_value).read(path)


def read_normals(path: Path) -> DenseTarget:
    return VectorCodec(Normals()).read(path)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(array: np.ndarray, path: Path) -> Path:
    Image.fromarray(array).save(path)
    return path


def raw_png(width: int, height: int, bits: int, colour_type: int, rows: bytes) -> bytes:
    """A PNG made by hand, for depths that Pillow cannot write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_labels_keep_grey_values_and_palette_indices(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette(RNG.integers(0, 256, 768, np.uint8).tobytes())
    palette.save(tmp_path / "palette.png")
    png(ids, tmp_path / "grey.png")
    png(ids.astype(np.uint16), tmp_path / "grey16.png")
    for name in ("palette", "grey", "grey16"):
        target = read_labels(tmp_path / f"{name}.png", 5)
        assert target.value.dtype == np.uint8
        np.testing.assert_array_equal(target.value, [[0, 1, 2], [3, 4, 0]])
        np.testing.assert_array_equal(target.valid, [[True] * 3, [True, True, False]])


def test_labels_of_few_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(4, 1, 4, 0, b"\0\x01\x23"))
    np.testing.assert_array_equal(read_labels(path, 4).value, [[0, 1, 2, 3]])
    path.write_bytes(raw_png(4, 1, 2, 0, b"\0" + bytes([0b00011011])))
    np.testing.assert_array_equal(read_labels(path, 4).value, [[0, 1, 2, 3]])
    path.write_bytes(raw_png(4, 1, 1, 0, b"\0" + bytes([0b01100000])))
    np.testing.assert_array_equal(read_labels(path, 2).value, [[0, 1, 1, 0]])


def test_label_faults(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    png(np.array([[0, 7, 9, 255]], np.uint8), path)
    with pytest.raises(
        ValueError, match=r"a\.png: class ids 7, 9, expected 0\.\.4 or 255 \(ignored\)$"
    ):
        read_labels(path, 5)
    with pytest.raises(ValueError, match=r"class ids 255, expected 0\.\.9 or 254"):
        read_labels(path, 10, ignore_value=254)
    png(np.array([[0, 65535]], np.uint16), path)
    assert read_labels(path, 5, ignore_value=65535).valid.tolist() == [[True, False]]
    png(RGB, path)
    with pytest.raises(
        ValueError,
        match=r"a colour image \(RGB\), expected one class id per pixel, grey or palette$",
    ):
        read_labels(path, 5)
    path.write_bytes(encoded(Image.fromarray(RGB[..., 0]), "JPEG"))
    with pytest.raises(ValueError, match=r"a\.png: a JPEG file, expected PNG$"):
        read_labels(path, 5)


def test_masks_of_yes_and_no(tmp_path: Path) -> None:
    ids = np.array([[0, 1, 255, 1]], np.uint8)
    palette = Image.fromarray(ids, "P")
    palette.putpalette([9] * 768)
    palette.save(tmp_path / "palette.png")
    for path in (png(ids, tmp_path / "grey.png"), tmp_path / "palette.png"):
        target = read_mask(path)
        assert (target.value.dtype, target.valid.dtype, target.known) == (np.uint8, bool, None)
        assert target.value.tolist() == [[0, 1, 0, 1]]
        assert target.valid.tolist() == [[True, True, False, True]]


def test_a_mask_of_0_and_255(tmp_path: Path) -> None:
    path = png(np.array([[0, 255]], np.uint8), tmp_path / "a.png")
    default = read_mask(path)  # 255 is ignored: nothing is positive
    assert (default.value.tolist(), default.valid.tolist()) == ([[0, 0]], [[True, False]])
    asked = read_mask(path, positive_value=255, ignore_value=None)
    assert (asked.value.tolist(), asked.valid.tolist()) == ([[0, 1]], [[True, True]])
    with pytest.raises(ValueError, match=r"a\.png: values 255, expected 0 \(no\), 1 \(yes\)$"):
        read_mask(path, ignore_value=None)


def test_masks_of_few_and_many_bits(tmp_path: Path) -> None:
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "one.png")  # stored with 1 bit
    assert read_mask(tmp_path / "one.png").value.tolist() == [[0, 1]]
    assert read_mask(
        png(np.array([[0, 1000]], np.uint16), tmp_path / "b.png"), positive_value=1000
    ).value.tolist() == [[0, 1]]


def test_mask_faults(tmp_path: Path) -> None:
    path = png(np.array([[0, 1, 3, 2, 255]], np.uint8), tmp_path / "a.png")
    with pytest.raises(
        ValueError, match=r"a\.png: values 2, 3, expected 0 \(no\), 1 \(yes\), 255 \(ignored\)$"
    ):
        read_mask(path)
    with pytest.raises(
        ValueError, match=r"a\.png: values 1, 255, expected 0 \(no\), 3 \(yes\), 2 \(ignored\)$"
    ):
        read_mask(path, positive_value=3, ignore_value=2)
    with pytest.raises(
        ValueError, match=r"b\.png: a colour image \(RGB\), expected one class id per pixel"
    ):
        read_mask(png(RGB, tmp_path / "b.png"))


def test_codes_with_an_offset(tmp_path: Path) -> None:
    """Cityscapes: (p - 1) / 256, where 0 means no measurement."""
    path = png(np.array([[0, 1, 2, 257, 65535]], np.uint16), tmp_path / "a.png")
    codes = read_numbers(path).astype(np.int32) - 1
    disparity = RangeCodec(Disparity(1000.0), scale=1 / 256).decode(codes)
    assert disparity.value.tolist() == [[0, 0, 1 / 256, 1, 65534 / 256]]
    assert disparity.valid.tolist() == [[False, False, True, True, True]]


def test_depth_full_range_scale_and_masks(tmp_path: Path) -> None:
    path = png(np.array([[0, 1, 1234], [10000, 10001, 65535]], np.uint16), tmp_path / "a.png")
    depth = read_depth(path, 10.0, 0.001)
    assert depth.value.dtype == np.float32
    np.testing.assert_array_equal(
        depth.value, np.array([[0, 0.001, 1.234], [10, 0, 0]], np.float32)
    )
    np.testing.assert_array_equal(depth.valid, [[False, True, True], [True, False, False]])
    assert read_depth(path, 1000.0, 1 / 256, 65535).valid.tolist() == [
        [False, True, True],
        [True, True, False],
    ]
    assert read_depth(path, 256.0, 1 / 256).value[1, 2] == np.float32(65535 / 256)


def test_float_depth_masks_what_is_no_depth(tmp_path: Path) -> None:
    values = np.array([[1.5, -1, 0, np.nan, np.inf, -np.inf, 3e38]], np.float32)
    depth = read_depth(png(values, tmp_path / "a.tif"), 10.0, 2.0, -1)
    np.testing.assert_array_equal(depth.value, [[3, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(depth.valid, depth.value > 0)


@pytest.mark.parametrize("array", [RGB, RGB[..., 0]])
def test_eight_bit_depth_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(
        ValueError,
        match=r"a\.png: an 8-bit image \(.*\) cannot hold depth, expected 16-bit grey$",
    ):
        read_depth(png(array, tmp_path / "a.png"), 10.0, 0.001)


def test_normals_are_unit_or_invalid(tmp_path: Path) -> None:
    raw = np.array(
        [
            [[0, 0, 0], [128, 128, 1], [128, 128, 128], [255, 1, 128]],
            [[128, 150, 128], [1, 128, 128]] * 2,
        ]
    )
    normals = read_normals(png(raw.astype(np.uint8), tmp_path / "a.png"))
    assert normals.value.dtype == np.float32
    half = np.sqrt(0.5)
    expected = np.array(
        [[[0, 0, 0], [0, 0, -1], [0, 0, 0], [half, -half, 0]], [[0, 0, 0], [-1, 0, 0]] * 2]
    )
    np.testing.assert_allclose(normals.value, expected, atol=1e-6)
    np.testing.assert_array_equal(normals.valid, np.abs(expected).any(axis=2))


def test_normals_round_trip(tmp_path: Path) -> None:
    vectors = RNG.normal(size=(16, 16, 3))
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    normals = read_normals(png(np.round(vectors * 127 + 128).astype(np.uint8), tmp_path / "a.png"))
    assert normals.valid.all()
    assert np.degrees(np.arccos(np.clip((normals.value * vectors).sum(axis=2), -1, 1))).max() < 0.5


def test_normals_of_another_depth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"8-bit L image, expected 8-bit RGB"):
        read_normals(png(RGB[..., 0], tmp_path / "a.png"))
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", RGB.astype(np.uint16) * 257)[1].tobytes())
    with pytest.raises(ValueError, match=r"16-bit RGB image, expected 8-bit RGB"):
        read_normals(tmp_path / "a.png")
