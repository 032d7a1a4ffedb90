"""Lists of sample ids."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from visionmtl._images import read_bytes


def read_id_list(path: Path, images: Path, suffixes: Sequence[str]) -> list[str]:
    """The ids in a text file, one a line, each with an image ``<images>/<id><suffix>``.

    Raises:
        ValueError: missing file, no text, an id without image.
    """
    try:
        listed = read_bytes(path).decode("utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a list of image ids, one a line") from error
    there = {image.stem for image in images.iterdir() if image.suffix in suffixes}
    missing = [sample_id for sample_id in listed if sample_id not in there]
    if missing:
        image = f"{images.name}/{missing[0]}{suffixes[0]}"
        raise ValueError(f"{path}: no image {image}; missing: {len(missing)} of {len(listed)}")
    return listed


def list_numbered(folder: Path) -> list[str]:
    """The ids of files ``0.npy``, ``1.npy``, ... ordered by value: 9 comes before 10.

    Raises:
        ValueError: a file name that is no number.
    """
    ids = sorted(path.stem for path in folder.glob("[!.]*.npy"))
    for name in ids:
        if not (name.isascii() and name.isdigit()):
            raise ValueError(f"{folder / name}.npy: expected files 0.npy, 1.npy, ...")
    return sorted(ids, key=int)


def in_order(ids: list[str]) -> list[str]:
    """Sorted, numbers by their value: neighbours in the recordings stay neighbours.

    >>> in_order(["train_10", "train_9", "val_1"])
    ['train_9', 'train_10', 'val_1']
    """
    return sorted(ids, key=_key)


def _key(sample_id: str) -> tuple[list[str | int], str]:
    """Text, number, text, ... of an id."""
    parts: list[str | int] = list(re.split(r"([0-9]+)", sample_id))
    parts[1::2] = map(int, parts[1::2])
    return parts, sample_id
