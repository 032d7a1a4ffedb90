from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from visionmtl.data.sets import matlab
from visionmtl.data.sets.matlab import read_mat

RNG = np.random.default_rng(0)
NUMBERS = [RNG.integers(0, 100, (3, 4)).astype(kind) for kind in "bBhHiIqQfd"]
VALUES: dict[str, Any] = {
    "numbers": np.array([*NUMBERS, None], object)[:-1],  # a cell array
    "solid": RNG.random((2, 3, 4)),
    "empty": np.zeros((0, 0)),
    "yes": np.array([[True, False]]),
    "text": "Ångström",
    "nothing": "",
    "nested": {"name": "a", "inner": {"size": 3.0, "names": np.array(["head", "torso"], object)}},
}


@pytest.fixture(params=[True, False], ids=["compressed", "plain"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    savemat(tmp_path / "a.mat", VALUES, do_compression=request.param)
    return tmp_path / "a.mat"


def test_numbers_equal_those_of_scipy(path: Path) -> None:
    for mine, written in zip(read_mat(path, "numbers"), NUMBERS, strict=True):
        np.testing.assert_array_equal(mine, written)
        assert mine.dtype == written.dtype
    for name in ("solid", "empty", "yes"):
        mine, theirs = read_mat(path, name), loadmat(path)[name]
        np.testing.assert_array_equal(mine, theirs)
        assert (mine.shape, mine.flags.writeable) == (theirs.shape, True)


def test_text_structs_and_cells(path: Path) -> None:
    assert (read_mat(path, "text"), read_mat(path, "nothing")) == ("Ångström", "")
    (nested,) = read_mat(path, "nested")
    assert nested["name"] == "a"
    assert nested["inner"] == [{"size": np.array([[3.0]]), "names": ["head", "torso"]}]


def test_arrays_of_structs_run_down_the_columns(tmp_path: Path) -> None:
    array = np.empty((2, 2), [("a", object), ("a_longer_name", object)])
    for i, j in np.ndindex(2, 2):
        array[i, j] = (f"{i}{j}", np.uint8([i, j]))
    savemat(tmp_path / "a.mat", {"s": array})
    found = read_mat(tmp_path / "a.mat", "s")
    assert [entry["a"] for entry in found] == ["00", "10", "01", "11"]
    assert found[1]["a_longer_name"].tolist() == [[1, 0]]


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    for content in (b"", b"\x89HDF\r\n" * 100, b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x02IM"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a.mat: not a MATLAB file of version 5 to 7 \(-v7.3"):
            read_mat(path, "x")
    with pytest.raises(ValueError, match=r"b.mat: No such file or directory$"):
        read_mat(tmp_path / "b.mat", "x")


def test_what_is_not_read_is_named(path: Path) -> None:
    with pytest.raises(ValueError, match=r"a.mat: no variable 'x'$"):
        read_mat(path, "x")
    savemat(path, {"z": np.array([1j, 2])})
    with pytest.raises(
        ValueError, match=r"a.mat: broken .* class 6, shape \(1, 2\) and 2 parts is not read$"
    ):
        read_mat(path, "z")
    savemat(path, {"rows": np.array(["one", "two"])})
    with pytest.raises(
        ValueError, match=r"a variable of class 4, shape \(2, 3\) and 1 parts is not read$"
    ):
        read_mat(path, "rows")


def read_or_message(path: Path, name: str) -> str:
    try:
        return f"value {read_mat(path, name)!r}"
    except ValueError as error:
        return str(error)


def test_damage_is_a_value_error_of_one_line(path: Path) -> None:
    good, source = path.read_bytes(), random.Random(0)
    intact = {name: read_or_message(path, name) for name in VALUES}
    for i in range(300):
        data = bytearray(good)
        if i % 3:
            data[source.randrange(128, len(data))] ^= 1 << source.randrange(8)
        else:
            del data[source.randrange(128, len(data)) :]
        path.write_bytes(data)
        for name in VALUES:
            found = read_or_message(path, name)
            if not found.startswith("value"):
                assert found.startswith(f"{path}: ")
                assert "\n" not in found
            elif good[128] == 15:  # compressed: the checksum finds every flipped bit
                assert found == intact[name]


def test_a_variable_that_grows_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matlab, "MAX_BYTES", 10_000)
    content = zlib.compress(bytes(100_000))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "a.mat").write_bytes(
        header + (15).to_bytes(4, "little") + len(content).to_bytes(4, "little") + content
    )
    with pytest.raises(
        ValueError, match=r"a compressed variable is cut off or has more than 10000 bytes$"
    ):
        read_mat(tmp_path / "a.mat", "x")


def test_structs_without_fields_do_not_count(tmp_path: Path) -> None:
    def element(kind: int, content: bytes) -> bytes:
        return struct.pack("<II", kind, len(content)) + content

    def saved(*shape: int) -> bytes:
        flags, no_fields = (
            struct.pack("<II", 2, 0),
            element(5, struct.pack("<i", 8)) + bytes(4) + element(1, b""),
        )
        body = (
            element(6, flags)
            + element(5, struct.pack("<ii", *shape))
            + element(1, b"objects\0")
            + no_fields
        )
        return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + element(14, body)

    (tmp_path / "a.mat").write_bytes(saved(1, 1))
    assert read_mat(tmp_path / "a.mat", "objects\0") == [{}]
    (tmp_path / "a.mat").write_bytes(saved(2**30, 2**30))
    with pytest.raises(
        ValueError, match=r"a.mat: broken .*: 0 values for \d{19} structs of 0 fields$"
    ):
        read_mat(tmp_path / "a.mat", "objects\0")
