from __future__ import annotations

import json
import shlex
import sys

import pytest
import torch

from visionmtl.engine import environment as module
from visionmtl.engine.environment import command, environment, hardware


@pytest.mark.parametrize(
    ("argv", "orig_argv", "expected"),
    [
        (
            ["/venv/bin/visionmtl", "train", "a b.yaml"],
            ["python", "/venv/bin/visionmtl"],
            "visionmtl train 'a b.yaml'",
        ),
        (
            ["tools/train.py", "a.yaml"],
            ["python", "tools/train.py"],
            "python tools/train.py a.yaml",
        ),
        (
            ["/x/visionmtl/cli/main.py", "train", "a.yaml"],
            ["python", "-m", "visionmtl.cli.main"],
            "python -m visionmtl.cli.main train a.yaml",
        ),
        (
            ["/x/visionmtl/cli/__main__.py", "train", "a.yaml"],
            ["python", "-m", "visionmtl.cli"],
            "python -m visionmtl.cli train a.yaml",
        ),
        (
            ["/x/visionmtl/__main__.py", "train", "a.yaml"],
            ["python", "-u", "-m", "visionmtl"],
            "python -m visionmtl train a.yaml",
        ),
        (
            ["/x/pytest/__main__.py", "a.py"],
            ["python", "-m", "pytest"],
            "python /x/pytest/__main__.py a.py",
        ),
    ],
)
def test_command_as_it_was_typed(
    argv: list[str], orig_argv: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", [*orig_argv, *argv[1:]])
    assert command() == expected
    assert shlex.split(expected)[-1] == argv[-1]


def test_command_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["tools/train.py", "a.yaml"])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert command() == "torchrun --nproc-per-node 4 tools/train.py a.yaml"


def test_environment_is_plain() -> None:
    found = environment(torch.device("cpu"))
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert found["device"] == hardware(torch.device("cpu"))
    assert found["device"].endswith(" threads")
    assert "x86_64 CPU" not in found["device"]


def test_without_git_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package",))
    found = environment(torch.device("cpu"))
    assert found["commit"] is None
    assert found["packages"] == {"no-such-package": None}
