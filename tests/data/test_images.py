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

from visionmtl.data.images import (
    decode_image,
    read_depth,
    read_ids,
    read_image,
    read_labels,
    read_mask,
    read_normals,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # Pillow comments on broken TIFF tags

RNG = np.random.default_rng(0)
RGB = cv2.resize(RNG.integers(0, 256, (4, 6, 3), np.uint8), (30, 20), interpolation=cv2.INTER_CUBIC)


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


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_give_the_stored_pixels(kind: str) -> None:
    image = decode_image(encoded(Image.fromarray(RGB), kind), "x")
    assert image.dtype == np.uint8
    assert image.flags.writeable
    np.testing.assert_array_equal(image, RGB)


def test_jpeg_equals_opencv() -> None:
    data = encoded(Image.fromarray(RGB), "JPEG", quality=90)
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    assert np.abs(decode_image(data, "x").astype(int) - bgr[..., ::-1]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    upright = {
        1: RGB,
        2: RGB[:, ::-1],
        3: RGB[::-1, ::-1],
        4: RGB[::-1],
        5: RGB.transpose(1, 0, 2),
        6: np.rot90(RGB, -1),
        7: RGB[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(RGB, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(
        decode_image(encoded(Image.fromarray(RGB), kind, exif=exif), "x"), upright
    )


def test_unreadable_exif_counts_as_none() -> None:
    data = encoded(Image.fromarray(RGB), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff broken")
    assert decode_image(data, "x").shape == RGB.shape


def test_grey_palette_and_one_bit_become_rgb() -> None:
    grey = RGB[..., 0]
    np.testing.assert_array_equal(
        decode_image(encoded(Image.fromarray(grey), "PNG"), "x"), np.stack([grey] * 3, 2)
    )
    palette = Image.fromarray(RGB).quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(decode_image(encoded(palette, "PNG"), "x"), expected)
    np.testing.assert_array_equal(
        decode_image(encoded(palette, "PNG", transparency=b"\0\x80"), "x"), expected
    )
    bits = decode_image(encoded(Image.fromarray(grey > 128), "PNG"), "x")
    np.testing.assert_array_equal(bits[..., 1], np.where(grey > 128, 255, 0))


@pytest.mark.parametrize(("mode", "kind"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF")])
def test_alpha_is_dropped(mode: str, kind: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    image.putalpha(Image.fromarray(np.tile(np.array([0, 255], np.uint8), (20, 15))))
    expected = (
        RGB if mode == "RGBA" else np.asarray(Image.fromarray(RGB).convert("L").convert("RGB"))
    )
    np.testing.assert_array_equal(decode_image(encoded(image, kind), "x"), expected)


def test_cmyk_is_converted() -> None:
    image = decode_image(
        encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95), "x"
    )
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 8


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(
        encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options), "x"
    )
    np.testing.assert_array_equal(image, np.full((8, 8, 3), (255, 0, 0)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_gives_the_high_byte(kind: str) -> None:
    grey = RGB[..., 0].astype(np.uint16)
    image = decode_image(encoded(Image.fromarray(grey * 257), kind), "x")
    np.testing.assert_array_equal(image, np.repeat(RGB[..., :1], 3, axis=2))


def test_sixteen_bit_colour_gives_the_high_byte() -> None:
    data = cv2.imencode(".png", RGB[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_image(data, "x"), RGB)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_float_and_32_bit_images_are_refused(mode: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^x.tif: images of mode {mode} are not read, expected 8 or 16 bits"
    ):
        decode_image(encoded(Image.new(mode, (4, 4)), "TIFF"), "x.tif")


def test_missing_empty_text_and_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with pytest.raises(ValueError, match=r"a\.jpg: No such file or directory$"):
        read_image(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.jpg: the file is empty$"):
        read_image(path)
    path.write_text("not an image at all")
    with pytest.raises(ValueError, match=r"a\.jpg: not a JPEG, PNG, WebP, GIF, BMP or TIFF file$"):
        read_image(path)
    with pytest.raises(ValueError, match=r"not a file$"):
        read_image(tmp_path)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_truncation_is_one_line(kind: str) -> None:
    data = encoded(Image.fromarray(RGB), kind)
    for length in [*range(12, len(data) - 10, max(len(data) // 40, 1)), len(data) - 10]:
        with pytest.raises(ValueError, match=rf"^x: broken {kind} file: [^\n]+$"):
            decode_image(data[:length], "x")


def test_flipped_bit_in_a_png_is_noticed() -> None:
    data = bytearray(encoded(Image.fromarray(RGB), "PNG"))
    data[-30] ^= 1
    with pytest.raises(ValueError, match=r"^x: broken PNG file: "):
        decode_image(bytes(data), "x")


def test_random_damage_never_escapes() -> None:
    seeds = [
        encoded(Image.fromarray(RGB), kind)
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    ]
    for trial in range(600):
        data = bytearray(seeds[trial % len(seeds)])
        for position in RNG.integers(0, len(data), 4):
            data[position] = RNG.integers(0, 256)
        message = "x: read"
        try:
            assert decode_image(bytes(data), "x", max_pixels=100_000).shape[2] == 3
        except ValueError as error:
            message = str(error)
        assert message.startswith("x: ")
        assert len(message.splitlines()) == 1


def test_bomb_is_refused_before_decoding() -> None:
    bomb = raw_png(60_000, 60_000, 8, 2, b"")
    with pytest.raises(
        ValueError, match=r"^x: 60000x60000 pixels are more than the limit of 200000000$"
    ):
        decode_image(bomb, "x")
    with pytest.raises(ValueError, match=r"^x: 30x20 pixels are more than the limit of 599$"):
        decode_image(encoded(Image.fromarray(RGB), "PNG"), "x", max_pixels=599)
    assert (
        decode_image(encoded(Image.fromarray(RGB), "PNG"), "x", max_pixels=600).shape == RGB.shape
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
        png(np.array([[0, 1000]], np.uint16), tmp_path / "b.png"), 1000
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
        read_mask(path, 3, 2)
    with pytest.raises(
        ValueError, match=r"b\.png: a colour image \(RGB\), expected one class id per pixel"
    ):
        read_mask(png(RGB, tmp_path / "b.png"))


def test_ids_are_the_stored_numbers(tmp_path: Path) -> None:
    for dtype, highest in ((np.uint8, 255), (np.uint16, 65535)):
        ids = np.array([[0, 7, highest]], dtype)
        found = read_ids(png(ids, tmp_path / "a.png"))
        assert (found.dtype, found.tolist()) == (np.int32, ids.tolist())
    with pytest.raises(ValueError, match=r"b\.jpg: a JPEG file, expected PNG$"):
        read_ids(png(RGB, tmp_path / "b.jpg"))


def test_depth_offset(tmp_path: Path) -> None:
    """Cityscapes: (p - 1) / 256, where 0 means no measurement."""
    path = png(np.array([[0, 1, 2, 257, 65535]], np.uint16), tmp_path / "a.png")
    disparity = read_depth(path, 1 / 256, 0, 1000.0, offset=-1)
    assert disparity.value.tolist() == [[0, 0, 1 / 256, 1, 65534 / 256]]
    assert disparity.valid.tolist() == [[False, False, True, True, True]]
    shifted = read_depth(path, 1.0, 65535, 1000.0, offset=10)
    assert shifted.value.tolist() == [[10, 11, 12, 267, 0]]
    assert shifted.valid.tolist() == [[True, True, True, True, False]]


def test_depth_full_range_scale_and_masks(tmp_path: Path) -> None:
    path = png(np.array([[0, 1, 1234], [10000, 10001, 65535]], np.uint16), tmp_path / "a.png")
    depth = read_depth(path, 0.001, 0, 10.0)
    assert depth.value.dtype == np.float32
    np.testing.assert_array_equal(
        depth.value, np.array([[0, 0.001, 1.234], [10, 0, 0]], np.float32)
    )
    np.testing.assert_array_equal(depth.valid, [[False, True, True], [True, False, False]])
    assert read_depth(path, 1 / 256, 65535, 1000.0).valid.tolist() == [
        [False, True, True],
        [True, True, False],
    ]
    assert read_depth(path, 1 / 256, 0, 256.0).value[1, 2] == np.float32(65535 / 256)


def test_float_depth_masks_what_is_no_depth(tmp_path: Path) -> None:
    values = np.array([[1.5, -1, 0, np.nan, np.inf, -np.inf, 3e38]], np.float32)
    depth = read_depth(png(values, tmp_path / "a.tif"), 2.0, -1, 10.0)
    np.testing.assert_array_equal(depth.value, [[3, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(depth.valid, depth.value > 0)


@pytest.mark.parametrize("array", [RGB, RGB[..., 0]])
def test_eight_bit_depth_is_refused(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(
        ValueError, match=r"a\.png: an 8-bit image \(.*\) cannot hold depth, expected 16-bit grey$"
    ):
        read_depth(png(array, tmp_path / "a.png"), 0.001)


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
    with pytest.raises(ValueError, match=r"8-bit L image, expected normals in 8-bit RGB"):
        read_normals(png(RGB[..., 0], tmp_path / "a.png"))
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", RGB.astype(np.uint16) * 257)[1].tobytes())
    with pytest.raises(ValueError, match=r"16-bit RGB image, expected normals in 8-bit RGB"):
        read_normals(tmp_path / "a.png")
