"""Files that commands write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from visionmtl._files import write_atomic


def check_file(option: str, path: Path | None) -> None:
    """Find out before the work starts whether a file can be written.

    Raises:
        ValueError: ``path`` is a folder, or lies in none.
    """
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"{option}: {str(path)!r} is not a file in an existing folder")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write plain values as JSON that people can read."""
    text = json.dumps(values, indent=2) + "\n"
    write_atomic(path, text.encode())
