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

from visionmtl._images import (
    decode_image,
    read_ids,
    read_image,
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


def test_ids_are_the_stored_numbers(tmp_path: Path) -> None:
    for dtype, highest in ((np.uint8, 255), (np.uint16, 65535)):
        ids = np.array([[0, 7, highest]], dtype)
        found = read_ids(png(ids, tmp_path / "a.png"))
        assert (found.dtype, found.tolist()) == (np.int32, ids.tolist())
    with pytest.raises(ValueError, match=r"b\.jpg: a JPEG file, expected PNG$"):
        read_ids(png(RGB, tmp_path / "b.jpg"))
