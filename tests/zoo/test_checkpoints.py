from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import random
import re
import time
import zipfile
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from visionmtl._errors import RunError
from visionmtl.zoo.checkpoints import (
    FORMAT_VERSION,
    load_checkpoint,
    remove_stray_files,
    save_checkpoint,
)


def make_state(number: int) -> dict[str, Any]:
    return {
        "number": number,
        "model": {"w": torch.full((50_000,), float(number))},
        "results": {"a": float("nan")},
    }


def unverified(path: Path) -> Path:
    """Without its checksum file nothing but the content itself protects it."""
    path.with_name(path.name + ".sha256").unlink()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "last.pt", make_state(1))
    return tmp_path / "last.pt"


def test_round_trip(path: Path) -> None:
    state = load_checkpoint(path)
    assert state["format_version"] == FORMAT_VERSION
    assert state["number"] == 1
    assert torch.equal(state["model"]["w"], torch.ones(50_000))
    assert sorted(os.listdir(path.parent)) == ["last.pt", "last.pt.sha256"]


def _save_for_ever(path: Path) -> None:
    torch.set_num_threads(1)
    number = load_checkpoint(path)["number"]
    while True:
        number += 1
        save_checkpoint(path, make_state(number))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_while_saving(path: Path) -> None:
    rng = random.Random(0)
    number = 1
    for _ in range(6):
        saver = multiprocessing.get_context("fork").Process(target=_save_for_ever, args=(path,))
        saver.start()
        time.sleep(0.15 + rng.random() * 0.2)
        saver.kill()
        saver.join()
        state = load_checkpoint(path)
        assert state["number"] >= number
        assert torch.equal(state["model"]["w"], make_state(state["number"])["model"]["w"])
        number = state["number"]
        assert len((path.parent / "last.pt.sha256").read_text().splitlines()) <= 2
        remove_stray_files(path.parent)
        assert sorted(os.listdir(path.parent)) == ["last.pt", "last.pt.sha256"]
    assert number > 1


def test_only_stray_files_are_removed(tmp_path: Path) -> None:
    for name in (".last.pt.0123.tmp", "notes.tmp", ".hidden", "last.pt"):
        (tmp_path / name).touch()
    remove_stray_files(tmp_path, tmp_path / "missing")
    assert sorted(os.listdir(tmp_path)) == [".hidden", "last.pt", "notes.tmp"]


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("with_sums", [True, False])
def test_full_disk_leaves_a_checkpoint(
    path: Path, call: int, with_sums: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_sums:
        unverified(path)
    calls = []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    problem = re.escape(
        f"{path}: cannot be written (No space left on device); the one before it is intact"
    )
    failing = call <= (6 if with_sums else 4)  # each of three or two files, and its folder
    with pytest.raises(RunError, match=f"^{problem}$") if failing else nullcontext():
        save_checkpoint(path, make_state(2))
    assert load_checkpoint(path)["number"] in (1, 2)
    assert not list(path.parent.glob(".*.tmp"))


def test_flipped_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"last.pt: damaged \(its sha256 is not the one in last.pt.sha256\)"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize("keep", [0, 1, 100, 100_000, -1])
def test_truncated(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"last.pt: damaged"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=r"last.pt: refused"):
        load_checkpoint(unverified(path))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_garbage_without_checksum_is_a_value_error(path: Path) -> None:
    rng = random.Random(0)
    good = unverified(path).read_bytes()
    small, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"format_version": 1, "w": torch.ones(2)}, small)
    torch.save(
        {"format_version": 1, "w": torch.ones(2)}, legacy, _use_new_zipfile_serialization=False
    )
    for _ in range(600):
        data = bytearray(
            rng.choice(
                [good[:2000], small.getvalue(), legacy.getvalue(), pickle.dumps({"a": 1}, 2)]
            )
        )
        for _ in range(4):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        with suppress(ValueError):  # most are errors, some are still a pickle
            load_checkpoint(path)


class _Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, legacy: bool, plain: bool) -> None:
    evil = {"format_version": 1, "model": _Malicious(f"touch {tmp_path}/executed")}
    path = tmp_path / "evil.pt"
    if plain:
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ValueError, match=r"evil.pt: refused, not a checkpoint that loads without running code"
    ):
        load_checkpoint(path)
    assert not (tmp_path / "executed").exists()


def test_newer_format(path: Path) -> None:
    torch.save({"format_version": FORMAT_VERSION + 1}, unverified(path))
    with pytest.raises(ValueError, match=r"format version 3 is newer than 2; update visionmtl"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "content", [{"state_dict": {}}, [1, 2], torch.zeros(2), {"format_version": "1"}]
)
def test_something_else(path: Path, content: Any) -> None:
    torch.save(content, unverified(path))
    with pytest.raises(
        ValueError, match=r"last.pt: not a visionmtl checkpoint \(no format_version\)"
    ):
        load_checkpoint(path)


def test_zip_of_something_else(path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    unverified(path).write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"last.pt: refused"):
        load_checkpoint(path)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.pt: cannot be read \(No such file or directory\)"):
        load_checkpoint(tmp_path / "none.pt")
    with pytest.raises(ValueError, match=r"cannot be read \(Is a directory\)"):
        load_checkpoint(tmp_path)
