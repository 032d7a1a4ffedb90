from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from visionmtl._yaml import MAX_BYTES, ConfigError, dump_yaml, load_yaml, parse_yaml


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, "a.yaml")
    line = str(caught.value)
    assert line.isprintable()
    assert len(line) <= 600
    return line.removeprefix("a.yaml: ")


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *[
            ("1e-3", 1e-3),
            ("1E-3", 1e-3),
            ("1.5e-3", 1.5e-3),
            (".5", 0.5),
            ("2.", 2.0),
            ("+1e+1", 10.0),
            ("1", 1),
        ],
        *[
            ("True", True),
            ("false", False),
            ("~", None),
            ("null", None),
            ("", None),
        ],
        *[("'off'", "off"), ("[1, a]", [1, "a"]), ("{b: {}}", {"b": {}})],
        *[(text, text) for text in ("010", "1:30", "2020-01-01", "0x10", "1_000", "v1.0.1")],
        *[(text, text) for text in ("off", "no", "on", "Yes")],
    ],
)
def test_values_are_read_as_people_write_them(written: str, expected: Any):
    value = parse_yaml(f"a: {written}", "a.yaml")["a"]
    assert value == expected
    assert type(value) is type(expected)
    assert parse_yaml(dump_yaml({"a": expected}), "a.yaml") == {"a": expected}


def test_an_empty_text_is_none():
    assert parse_yaml("", "a.yaml") is None
    assert parse_yaml("# nothing\n", "a.yaml") is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seed: 1\na: 1\nseed: 2\n", "line 3, column 1: duplicate key 'seed'"),
        ("a: {b: {c: 1, c: 1}}", "line 1, column 15: duplicate key 'c'"),
        ("a:\n\tb: 1\n", "line 2, column 1: tab found; YAML is indented with spaces"),
        ("a: 1\n\tb: 1\n", "line 2, column 1: tab found; YAML is indented with spaces"),
        ("a:\t1\n", "line 1, column 3: tab found; YAML is indented with spaces"),
        ("a: b: 1\n", "line 1, column 5: mapping values are not allowed here"),
        (
            "a: 1\n---\na: 2\n",
            "line 2, column 1: expected a single document in the stream but found another document",
        ),
        ("1: a\n", "line 1, column 1: key 1 is not a string; put it in quotes"),
        ("true: a\n", "line 1, column 1: key true is not a string; put it in quotes"),
        ("a: {{ b }}\n", "line 1, column 5: key {'b': None} is not a string; put it in quotes"),
        ("a: &x 1\n", "line 1, column 4: anchors (&) and aliases (*) are not allowed"),
        ("a: *x\n", "line 1, column 4: anchors (&) and aliases (*) are not allowed"),
        ("a: !mine 1\n", "line 1, column 4: tags (!) are not allowed"),
        ("a:\n  - ${oc.env:HOME}\n", "line 2, column 5: interpolation (${...}) is not allowed"),
        ("${oc.env:HOME}: 1\n", "line 1, column 1: interpolation (${...}) is not allowed"),
        ("a: " + "[" * 100_000, "line 1, column 35: more than 32 nested levels"),
        ("a: \0\n", "character 3 is not allowed in YAML"),
    ],
)
def test_yaml_that_is_not_plain(text: str, expected: str):
    assert message(text) == expected


def test_a_character_beyond_unicode_is_out_of_range() -> None:
    # The end of the line is Python's own, which differs between its versions.
    assert message('a: "\\UFFFFFFFF"').startswith("a value is out of range: ")


def test_integers_without_end_are_refused():
    assert message(f"seed: {'9' * 5000}").startswith("a value is out of range: ")


def test_a_bomb_of_aliases_costs_nothing():
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 30)]
    start = time.perf_counter()
    assert "anchors (&) and aliases (*)" in message("\n".join(["l0: &l0 [lol]", *levels]))
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.system", "!!python/object/new:os.system"]
)
def test_python_tags_run_nothing(tag: str, tmp_path: Path):
    trace = tmp_path / "trace"
    assert message(f"seed: {tag} ['touch {trace}']") == "line 1, column 7: tags (!) are not allowed"
    assert not trace.exists()


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("VISIONMTL_SECRET", "hidden")
    assert "hidden" not in message("output_dir: '${oc.env:VISIONMTL_SECRET}'")


def test_a_file_with_bom_and_windows_line_ends_is_read(tmp_path: Path):
    path = write(tmp_path / "a.yaml", b"\xef\xbb\xbfa: 1\r\nb: [x, y]\r\n")
    assert load_yaml(path) == load_yaml(str(path)) == {"a": 1, "b": ["x", "y"]}


def test_files_that_cannot_be_read(tmp_path: Path):
    latin = write(tmp_path / "latin.yaml", "output_dir: größe\n".encode("latin-1"))
    utf16 = write(tmp_path / "utf16.yaml", "a: 1".encode("utf-16"))
    for path, problem in (
        (tmp_path / "missing.yaml", "cannot be read (No such file or directory)"),
        (tmp_path, "cannot be read (Is a directory)"),
        (latin, "not UTF-8 text (byte 14)"),
        (utf16, "not UTF-8 text (byte 0)"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_yaml(path)
        assert str(caught.value) == f"{path}: {problem}"


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path):
    path = write(tmp_path / "huge.yaml", b"a: 1 # " + b"x" * 10 * MAX_BYTES)
    start = time.perf_counter()
    with pytest.raises(ConfigError, match="a YAML file has at most 128000 bytes"):
        load_yaml(path)
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("item", "end"), [("1, ", "]"), ("{a: 1}, ", "]"), ("[" * 28 + "]" * 28 + ", ", "]")]
)
def test_the_largest_file_is_read_in_bounded_time(item: str, end: str):
    text = "a: [" + item * ((MAX_BYTES - 8) // len(item)) + end
    start = time.perf_counter()
    parse_yaml(text, "a.yaml")
    assert time.perf_counter() - start < 30  # 5 on an idle machine


def test_several_mistakes_are_lines_of_one_error():
    error = ConfigError("a: one", "b: tw\no", *(f"{i}: more" for i in range(30)))
    lines = str(error).split("\n")
    assert lines[:2] == ["a: one", "b: tw\\no"]
    assert lines[-1] == "and 12 more mistakes"
    assert len(lines) == 21
