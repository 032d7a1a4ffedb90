"""Training checkpoints: one file each, written so that some complete one always loads."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from visionmtl._errors import RunError
from visionmtl._files import write_atomic

FORMAT_VERSION = 2
"""1 knew no callbacks; the network is read from both."""


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` atomically, with its sha256 beside it.

    While the file is being replaced the checksum file lists the old and the new sum, so that a
    crash at any moment leaves a checkpoint that verifies.

    Raises:
        RunError: it cannot be written, for example because the disk is full; the checkpoint before
            it is intact.
    """
    buffer = io.BytesIO()
    torch.save({"format_version": FORMAT_VERSION, **state}, buffer)
    data = buffer.getvalue()
    sums = _sums_path(path)
    line = _sum_line(data, path.name)
    try:
        if sums.exists():
            before = sums.read_bytes()
            if before.count(b"\n") > 1:  # a crash came between: one of the sums is that of the file
                before = _sum_line(path.read_bytes(), path.name)
            write_atomic(sums, before + line)
        write_atomic(path, data)
        write_atomic(sums, line)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written ({error.strerror}); the one before it is intact"
        ) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint on the CPU, without running any code from it (``weights_only``).

    Raises:
        ValueError: missing, damaged, from a newer version, or not a checkpoint of this project.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    sums = _sums_path(path)
    if sums.exists():
        rows = map(str.split, sums.read_text(errors="replace").splitlines())
        listed = [row[0] for row in rows if row]
        if hashlib.sha256(data).hexdigest() not in listed:
            raise ValueError(f"{path}: damaged (its sha256 is not the one in {sums.name})")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged file it may be nearly any
        raise ValueError(
            f"{path}: refused, not a checkpoint that loads without running code"
        ) from error
    version = state.get("format_version") if isinstance(state, dict) else None
    if not isinstance(version, int):
        raise ValueError(f"{path}: not a visionmtl checkpoint (no format_version)")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: format version {version} is newer than {FORMAT_VERSION}; update visionmtl"
        )
    assert isinstance(state, dict)
    return state


def remove_stray_files(*folders: Path) -> None:
    """Delete temporary files that a killed run left in these folders."""
    for folder in folders:
        for stray in folder.glob(".*.tmp"):
            stray.unlink(missing_ok=True)


def _sum_line(data: bytes, name: str) -> bytes:
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()


def _sums_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")
