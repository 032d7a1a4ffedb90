"""Files: read and checked with errors of one line that name them, written so that no half file is
ever visible.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from visionmtl._faults import Place, dotted, problems

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
        size = path.stat().st_size
        if size != self.size:
            return f"{size} bytes, expected {self.size}"
        if FileEntry.of(path) != self:
            return "damaged: wrong sha256"
        return None


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
        if isinstance(values, bytes):
            return adapter.validate_json(values)
        return adapter.validate_python(values)
    except ValidationError as error:
        place, problem = _first_problem(error, values)
        where = filter(None, [key, dotted(place)])
        parts = filter(None, [str(source), ".".join(where), problem])
        raise ValueError(": ".join(parts)) from error


def _first_problem(error: ValidationError, values: Any) -> tuple[Place, str]:
    if isinstance(values, bytes):
        with suppress(ValueError, RecursionError):  # which is the problem then
            values = json.loads(values)
    found = problems(error, values)
    return next(iter(found.items()))


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
