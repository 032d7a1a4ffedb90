"""MATLAB files of version 5, as ``save`` writes them up to ``-v7``: numbers, text, structs and
cells.

scipy reads them too, but some damaged files end its process (1.17.1: segmentation fault). Here no
length is believed before it is checked, and the checksums of compressed variables are verified.
Source: MathWorks, "MAT-File Format", chapter "Level 5 MAT-File Format".
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from visionmtl._images import read_bytes

MAX_BYTES = 500_000_000
"""Larger variables are refused while they are decompressed."""

_NUMBERS = {
    1: "i1",
    2: "u1",
    3: "<i2",
    4: "<u2",
    5: "<i4",
    6: "<u4",
    7: "<f4",
    9: "<f8",
    12: "<i8",
    13: "<u8",
}
"""Type of an element -> numpy's name of it."""

_TEXT = {2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
"""Type of an element -> encoding, where it is text."""

# Types of elements that are no numbers.
_MATRIX = 14
_COMPRESSED = 15

# Classes of variables.
_CELL = 1
_STRUCT = 2
_CHAR = 4
_NUMERIC = range(6, 16)

# What damaged files raise.
_BROKEN = (ValueError, struct.error, zlib.error, LookupError, StopIteration, RecursionError)


def read_mat(path: Path, variable: str) -> Any:
    """One variable of a file.

    Returns:
        Numbers: an array of the variable's shape, in the type that the file stores, which may be a
            smaller one.
        Text: a string. A struct, or an array of them: a list of dicts. A cell array: a list; both
            run down the columns.

    Raises:
        ValueError: missing, damaged or other file, no such variable, sparse, complex and other
            kinds of variables.
    """
    data = read_bytes(path)
    if data[124:128] != b"\x00\x01IM":
        raise ValueError(f"{path}: not a MATLAB file of version 5 to 7 (-v7.3 is another format)")
    try:
        for kind, content in _elements(memoryview(data)[128:]):
            if kind == _COMPRESSED:
                kind, content = next(_elements(memoryview(_decompress(content))))
            if kind == _MATRIX and _header(content)[2] == variable:
                return _array(content)
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or "an element is missing"
        raise ValueError(f"{path}: broken or unusual MATLAB file: {reason}") from error
    raise ValueError(f"{path}: no variable {variable!r}")


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Type and content of one element after the other."""
    position = 0
    while position < len(data):
        kind, size = struct.unpack_from("<II", data, position)
        start = position + 8
        padding = -size % 8
        if kind == _COMPRESSED:
            padding = 0
        if kind >> 16:  # at most four bytes, in the place of the size
            size = kind >> 16
            kind &= 0xFFFF
            start = position + 4
            padding = 4 - size
        if start + size > len(data) or padding < 0:
            raise ValueError(f"an element of {size} bytes is cut off")
        yield kind, data[start : start + size]
        position = start + size + padding


def _decompress(data: memoryview) -> bytes:
    stream = zlib.decompressobj()
    content = stream.decompress(data, MAX_BYTES)
    if not stream.eof:
        raise ValueError(f"a compressed variable is cut off or has more than {MAX_BYTES} bytes")
    return content


def _header(content: memoryview) -> tuple[int, tuple[int, ...], str, list[tuple[int, memoryview]]]:
    """Class, shape and name of a variable, and the elements that hold its values."""
    (_, flags), (_, sides), (_, name), *rest = _elements(content)
    shape = tuple(np.frombuffer(sides, "<i4").tolist())
    return flags[0], shape, bytes(name).decode("ascii"), rest


def _array(content: memoryview) -> Any:
    if not content:  # how a struct holds []
        return np.zeros((0, 0))
    kind, shape, _, rest = _header(content)
    if kind == _STRUCT:
        return _structs(rest, math.prod(shape))
    if kind == _CELL:
        return [_array(value) for _, value in rest]
    if (kind not in _NUMERIC and (kind != _CHAR or shape[0] > 1)) or len(rest) != 1:
        raise ValueError(
            f"a variable of class {kind}, shape {shape} and {len(rest)} parts is not read"
        )
    stored, body = rest[0]
    if kind == _CHAR:
        return bytes(body).decode(_TEXT[stored])
    return np.frombuffer(body, _NUMBERS[stored]).reshape(shape, order="F").copy()


def _structs(rest: list[tuple[int, memoryview]], count: int) -> list[dict[str, Any]]:
    """The structs of an array: their field names, then the values of one after the other."""
    (_, length), (_, names), *values = rest
    width = max(struct.unpack("<i", length)[0], 1)
    padded = [bytes(names[start : start + width]) for start in range(0, len(names), width)]
    fields = [name.split(b"\0")[0].decode("ascii") for name in padded]
    fits = len(values) == count * len(fields)
    if not fits or count > max(len(values), 1):  # without fields any count would fit
        raise ValueError(f"{len(values)} values for {count} structs of {len(fields)} fields")
    arrays = iter([_array(value) for _, value in values])
    return [{field: next(arrays) for field in fields} for _ in range(count)]
