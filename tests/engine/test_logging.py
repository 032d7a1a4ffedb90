from __future__ import annotations

from pathlib import Path

import pytest

from visionmtl.engine.logging import read_metrics


def test_a_last_line_that_a_crash_has_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "epoch": 0, "split": "train"}\n{"step": 2, "ep')
    assert read_metrics(path) == [{"step": 1, "epoch": 0, "split": "train"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"step": 1\n', "line 1 is not valid JSON"),
        ("[1]\n", "line 1 is no record with step, epoch and split"),
    ],
)
def test_lines_of_something_else(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(text)
    with pytest.raises(ValueError, match=rf"metrics\.jsonl: {message}$"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none: cannot be read \(No such file or directory\)"):
        read_metrics(tmp_path / "none")
