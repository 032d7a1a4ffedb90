"""Files: read and checked with errors of one line that name them, written so that no half file is
ever visible.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

T = TypeVar("T")


@dataclass(frozen=True)
class FileEntry:
    """What a file must be: lower-case hexadecimal sha256, and size in bytes."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    @classmethod
    def of(cls, path: Path) -> FileEntry:
        """Describe a file on the disk."""
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)

    def fault(self, path: Path) -> str | None:
        """What is wrong with the file at ``path``, or None."""
        if not path.is_file():
            return "no such file"
        if (size := path.stat().st_size) != self.size:
            return f"{size} bytes, expected {self.size}"
        return None if FileEntry.of(path) == self else "damaged: wrong sha256"


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: names the file: it cannot be read, or it is not JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error


def validated(kind: type[T], values: Any, source: Path, key: str = "") -> T:
    """Plain values, or the bytes of a JSON document, as ``kind``, a pydantic model or a dataclass.

    Args:
        kind: what the values must be.
        values: parsed values, or JSON as bytes.
        source: the file that errors name.
        key: dotted key of ``values`` in that file.

    Raises:
        ValueError: one line with the file, the key of the first fault, what was expected and what
            came.
    """
    adapter = TypeAdapter(kind)
    try:
        return (
            adapter.validate_json(values)
            if isinstance(values, bytes)
            else adapter.validate_python(values)
        )
    except ValidationError as error:
        unknown = ("extra_forbidden", "unexpected_keyword_argument")
        # Unknown keys first: a misspelt key is also reported as a missing one.
        first = min(error.errors(include_url=False), key=lambda fault: fault["type"] not in unknown)
        reason = (
            "unknown key"
            if first["type"] in unknown
            else first["msg"].removeprefix("Value error, ")
        )
        if isinstance(first["input"], str | int | float | None) and first["type"] != "json_invalid":
            reason += f", got {first['input']!r:.80}"
        place = ".".join(filter(None, [key, *map(str, first["loc"])]))
        raise ValueError(f"{source}: {place + ': ' if place else ''}{reason}") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``data`` so that a reader, also after a crash, sees the old file or the new one and
    nothing between.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if os.name == "posix":  # the new name itself is durable only once the folder is
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
