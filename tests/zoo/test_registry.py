from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from visionmtl.zoo.registry import ModelEntry, describe_files, read_registry


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "rooms").mkdir()
    for name in ("README.md", "config.json", "model.safetensors", ".hidden"):
        (tmp_path / "rooms" / name).write_text(name)
    return tmp_path / "rooms"


def write_registry(root: Path, models: dict[str, Any], version: int = 1) -> Path:
    path = root / "registry.json"
    path.write_text(json.dumps({"format_version": version, "models": models}))
    return path


def values_of(folder: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "source": "rooms",
        "files": describe_files(folder),
        "tasks": ["semseg", "depth"],
        "metrics": {"semseg/miou": 0.41234, "depth/rmse": 1},
        "licence": "Apache-2.0",
        "data": "procedural rooms [seed 0]",
        "command": "visionmtl train [/x] --a",
    }
    return {**values, **changes}


def entry_of(root: Path, folder: Path, name: str = "rooms-r18", **changes: Any) -> ModelEntry:
    path = write_registry(root, {name: values_of(folder, **changes)})
    return read_registry(path)[name]


def test_registry_round_trip(tmp_path: Path, folder: Path) -> None:
    entry = entry_of(tmp_path, folder)
    assert entry.tasks == ("semseg", "depth")
    assert entry.files["config.json"].size == (folder / "config.json").stat().st_size
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "../x"}, r"models\.m\.source: .*must be a folder of the package"),
        ({"source": "/etc"}, r"models\.m\.source"),
        ({"source": "a/../../x"}, r"models\.m\.source"),
        ({"source": "http://example.com/m"}, r"models\.m\.source"),
        ({"source": "ftp://example.com/m"}, r"models\.m\.source"),
        ({"source": "file:///etc"}, r"models\.m\.source"),
        ({"source": "https:///m"}, r"models\.m\.source"),
        ({"source": "https://example.com/m?token=1"}, r"models\.m\.source"),
        ({"source": "hf://owner"}, r"models\.m\.source"),
        ({"source": "hf://owner/repo@main/../x"}, r"models\.m\.source"),
        ({"colour": "red"}, r"models\.m\.colour: unknown key$"),
        ({"tasks": []}, r"models\.m\.tasks"),
        ({"licence": 3}, r"models\.m\.licence: .*string, got 3"),
        ({"metrics": {"miou": "high"}}, r"models\.m\.metrics\.miou"),
        ({"files": {}}, r"models\.m\.files: .*lacks README\.md, config\.json, model\.safetensors"),
    ],
)
def test_bad_registry_values_are_named(
    tmp_path: Path, folder: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_registry(tmp_path, {"m": values_of(folder, **changes)})
    with pytest.raises(ValueError, match=message) as caught:
        read_registry(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "rooms",
        "a/b",
        "https://example.com/a/b",
        "hf://o/r",
        "hf://o/r@main",
        "hf://o/r@v1.0/sub/folder",
        "hf://o/r/sub",
    ],
)
def test_good_sources(tmp_path: Path, folder: Path, source: str) -> None:
    assert entry_of(tmp_path, folder, source=source).source == source


@pytest.mark.parametrize("name", ["../../x", "Upper", "", ".hidden", "a/b", "a" * 81, "a b", "a\n"])
def test_bad_model_names(tmp_path: Path, folder: Path, name: str) -> None:
    path = write_registry(tmp_path, {name: values_of(folder)})
    with pytest.raises(ValueError, match="name: must be a string that matches"):
        read_registry(path)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", ".hidden", "a/b", "..", "a\\b"])
def test_bad_file_names(tmp_path: Path, folder: Path, name: str) -> None:
    files = {**describe_files(folder), name: {"sha256": "0" * 64, "size": 1}}
    path = write_registry(tmp_path, {"m": values_of(folder, files=files)})
    with pytest.raises(ValueError, match=r"models\.m\.files"):
        read_registry(path)


def test_bad_file_entries_and_registry_files(tmp_path: Path, folder: Path) -> None:
    for bad in (
        {"sha256": "0" * 63, "size": 1},
        {"sha256": "0" * 64, "size": -1},
        {"sha256": "0" * 64, "size": 1.5},
    ):
        path = write_registry(
            tmp_path, {"m": values_of(folder, files={**describe_files(folder), "x": bad})}
        )
        with pytest.raises(ValueError, match=r"models\.m\.files\.x\.(sha256|size)"):
            read_registry(path)
    with pytest.raises(ValueError, match="format_version 2, expected 1"):
        read_registry(write_registry(tmp_path, {}, version=2))
    with pytest.raises(ValueError, match=r"models\.m must be an object"):
        read_registry(write_registry(tmp_path, {"m": 3}))
    path.write_text("[]")
    with pytest.raises(ValueError, match="must be an object with 'format_version' and 'models'"):
        read_registry(path)
