"""Safe reading of picture files: bytes, then the header's size, then the pixels.

Everything that comes from a user's disk goes through here, in training, evaluation, prediction and
serving alike, so they cannot disagree. The format is told from the first bytes, never from the file
name, and only the formats of ``FORMATS`` are touched. Every failure is a ``ValueError`` of one
line: the file's name, then the reason.

Pillow decodes all of it: OpenCV is up to 1.8 times faster on small JPEGs and gives the same pixels,
but its versions differ in what they do with truncated files, EXIF and palettes.
"""

from __future__ import annotations

import contextlib
import io
import stat
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

MAX_PIXELS = 200_000_000
"""Images beyond it are refused before they are decoded (600 MB of RGB)."""

MAX_BYTES = 2_000_000_000
"""Larger files are refused before they are read."""

FORMATS: dict[bytes, type[ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"RIFF": WebPImageFile,
    b"GIF8": GifImageFile,
    b"BM": BmpImageFile,
    b"II*\0": TiffImageFile,
    b"MM\0*": TiffImageFile,
}
"""First bytes of a file -> its reader. They are called directly, because ``PIL.Image.open`` has its
own size limit.
"""

# What Pillow's readers raise on hostile or broken bytes.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    AttributeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_CONVERTIBLE = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Reads a photograph as uint8 (H, W, 3) RGB; see ``decode_image`` for the rules.

    Raises:
        ValueError: missing, empty, truncated, too large or unreadable file.
    """
    return decode_image(read_bytes(path), str(path), max_pixels)


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decodes a photograph to uint8 (H, W, 3) RGB.

    EXIF orientation is applied; an unreadable EXIF block counts as none. Grey, 1-bit, palette,
    YCbCr and CMYK become RGB. Alpha is dropped: the stored colour counts, also where it is
    transparent. Of an animation or a file with pages the first one is taken. 16-bit channels give
    their high byte, which for widened 8-bit images is value / 257. 32-bit integer and float images
    are refused, because their range is unknown.

    Args:
        data: content of a JPEG, PNG, WebP, GIF, BMP or TIFF file.
        name: what error messages call it.
        max_pixels: limit of H * W, checked before decoding.

    Raises:
        ValueError: empty, truncated, too large or unreadable data.
    """
    image = _load(data, name, max_pixels)
    with contextlib.suppress(*_BROKEN):
        ImageOps.exif_transpose(image, in_place=True)
    if _is_grey16(image, data):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode not in _CONVERTIBLE:
        raise ValueError(
            f"{name}: images of mode {image.mode} are not read, expected 8 or 16 bits per channel"
        )
    image.info.pop("transparency", None)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def read_ids(path: Path) -> NDArray[np.int32]:
    """The numbers (H, W) of a grey or palette PNG of up to 8 bits, or of a 16-bit grey one.

    Palette indices count, whatever their colours; the numbers of 2- and 4-bit grey files are those
    that are stored.

    Raises:
        ValueError: unreadable file, not a PNG, a colour image.
    """
    data = read_bytes(path)
    image = _load(data, str(path), formats=("PNG",))
    if image.mode not in ("1", "L", "P") and not _is_grey16(image, data):
        raise ValueError(
            f"{path}: a colour image ({image.mode}), "
            "expected one class id per pixel, grey or palette"
        )
    ids = np.asarray(image).astype(np.int32)
    if image.mode == "L":
        ids //= 255 // (2 ** _bits(image, data) - 1)  # Pillow stretches 2- and 4-bit grey to 0..255
    return ids


def read_numbers(path: Path, what: str = "numbers") -> np.ndarray:
    """The numbers (H, W) of a 16-bit grey PNG, or of a 16-bit, 32-bit or float TIFF.

    Args:
        path: the file.
        what: the numbers are, for messages.

    Raises:
        ValueError: unreadable file, not a PNG or TIFF, 8 bits per channel.
    """
    image = _load(read_bytes(path), str(path), formats=("PNG", "TIFF"))
    if not image.mode.startswith(("I", "F")):
        raise ValueError(
            f"{path}: an 8-bit image ({image.mode}) cannot hold {what}, expected 16-bit grey"
        )
    return np.asarray(image)


def read_rgb(path: Path) -> NDArray[np.uint8]:
    """The bytes (H, W, 3) of an 8-bit RGB PNG, as they are stored.

    Raises:
        ValueError: unreadable file, not a PNG, not 8-bit RGB.
    """
    data = read_bytes(path)
    image = _load(data, str(path), formats=("PNG",))
    bits = _bits(image, data)
    if image.mode != "RGB" or bits != 8:
        raise ValueError(f"{path}: {bits}-bit {image.mode} image, expected 8-bit RGB")
    return np.asarray(image)


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        ValueError: missing, unreadable, not a regular file, or larger than ``max_bytes``.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: not a file")
        if status.st_size > max_bytes:
            raise ValueError(
                f"{path}: {status.st_size} bytes are more than the limit of {max_bytes}"
            )
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def is_there(path: Path) -> bool:
    """Whether there is something at ``path``. A link to nothing counts: its label is lost, not one
    that never was.
    """
    return path.exists() or path.is_symlink()


def _load(
    data: bytes, name: str, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] = ()
) -> ImageFile:
    """Decodes ``data`` with the reader that its first bytes ask for; ``formats`` narrows the
    choice.
    """
    if not data:
        raise ValueError(f"{name}: the file is empty")
    reader = next((reader for start, reader in FORMATS.items() if data.startswith(start)), None)
    if reader is None:
        raise ValueError(f"{name}: not a JPEG, PNG, WebP, GIF, BMP or TIFF file")
    if formats and reader.format not in formats:
        raise ValueError(f"{name}: a {reader.format} file, expected {' or '.join(formats)}")
    with _faults_named(name, reader.format):
        image = reader(io.BytesIO(data))
    if image.width * image.height > max_pixels:
        raise ValueError(
            f"{name}: {image.width}x{image.height} pixels are more than the limit of {max_pixels}"
        )
    with _faults_named(name, reader.format):
        if reader is PngImageFile:
            # Checksums and the end mark, which load() skips; the object is used up by it.
            image.verify()
            image = reader(io.BytesIO(data))
        image.load()
    return image


@contextlib.contextmanager
def _faults_named(name: str, kind: str | None) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{name}: broken {kind} file: {reason}") from error


def _bits(image: ImageFile, data: bytes) -> int:
    """Bits per channel as stored; Pillow's mode hides them."""
    if isinstance(image, PngImageFile):
        return data[24]  # the IHDR chunk always comes first
    if isinstance(image, TiffImageFile):
        return int(max(image.tag_v2.get(258, (1,))))
    return 8


def _is_grey16(image: ImageFile, data: bytes) -> bool:
    """Old Pillow versions open 16-bit grey PNGs in the 32-bit mode I."""
    return image.mode.startswith("I;16") or (image.mode == "I" and _bits(image, data) == 16)
