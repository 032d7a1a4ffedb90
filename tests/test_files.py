from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from visionmtl._files import FileEntry, read_json, validated, write_atomic


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    count: int
    name: str = ""


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    items: list[Inner]


def test_a_file_is_described_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    entry = FileEntry.of(path)
    assert entry == FileEntry(hashlib.sha256(b"content").hexdigest(), 7)
    assert entry.fault(path) is None
    path.write_bytes(b"contenT")
    assert entry.fault(path) == "damaged: wrong sha256"
    path.write_bytes(b"conten")
    assert entry.fault(path) == "6 bytes, expected 7"
    assert entry.fault(tmp_path / "other") == "no such file"
    assert entry.fault(tmp_path) == "no such file"


def test_json_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(ValueError, match=r"a\.json: cannot be read \(No such file"):
        read_json(path)
    for text in ("", "{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"a\.json: not valid JSON \("):
            read_json(path)
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"items": [{"count": 1}, {"count": "2"}]},
            "items.1.count: must be an integer, got '2'",
        ),
        ({"items": [{"cuont": 1}]}, "items.0.cuont: unknown key"),
        ({"items": [{}]}, "items.0.count: required key is missing"),
        ({}, "items: required key is missing"),
        (None, "must be a mapping, got null"),
        ({"items": "x" * 1000}, f"items: must be a list, got '{'x' * 56}..."),
    ],
)
def test_the_first_fault_is_one_line(values: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(f'a.yaml: {message}')}$"):
        validated(Outer, values, Path("a.yaml"))


def test_json_documents_and_keys_of_their_place() -> None:
    assert validated(Outer, b'{"items": [{"count": 3}]}', Path("a.json")).items[0].count == 3
    with pytest.raises(ValueError, match=r"^a\.json: models\.x\.items: required key is missing$"):
        validated(Outer, json.dumps({}).encode(), Path("a.json"), "models.x")
    with pytest.raises(ValueError, match=r"^a\.json: not valid JSON \([^\n]{,100}\)$"):
        validated(Outer, b"[" * 10_000, Path("a.json"))


def test_failed_write_leaves_the_old_file_and_no_temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
