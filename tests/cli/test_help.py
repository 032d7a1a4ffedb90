"""Help and parsing: quick, complete, and the same as ever."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from visionmtl.cli.arguments import COMMANDS
from visionmtl.cli.main import parse

HEAVY = ("torch", "numpy", "rich", "pydantic", "yaml", "timm", "cv2", "matplotlib")
USAGE = {
    "train": "CONFIG [key.sub=value ...] --output-dir D --resume --print-config --limit-batches N",
    "eval": "CONFIG --model --data --split S --tasks --json OUT --size N --batch-size --workers",
    "predict": "INPUT --model --output D --size N --score-threshold P --device NAME",
    "check-data": "ROOT|CONFIG --overview PNG",
    "convert-data": "ROOT|CONFIG DST --splits --tasks",
    "benchmark": "CONFIG [key.sub=value ...] --only A,B --balancing --repeats --json OUT --device",
    "compare": "RUN --baseline PATTERN --output MD --json OUT",
    "inspect": "CONFIG|MODEL [key.sub=value ...] --image FILE --output D",
    "plot": "RUN --output PNG",
    "zoo": "{list,show,verify} NAME",
}


def loaded_by(statement: str) -> list[str]:
    """The heavy libraries that are loaded after a statement in a new process."""
    code = f"""
import json, sys
try:
    {statement}
except SystemExit as stop:
    assert stop.code == 0, stop.code
print(json.dumps([name for name in {HEAVY} if name in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded: list[str] = json.loads(done.stdout.splitlines()[-1])
    return loaded


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([v, "--help"] for v in COMMANDS)])
def test_help_loads_no_library(words: list[str]) -> None:
    assert loaded_by(f"from visionmtl.cli.main import main; main({words})") == []


def test_the_test_of_help_can_fail() -> None:
    assert "rich" in loaded_by("import visionmtl.cli.zoo")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_module(command: str) -> None:
    module = import_module(f"visionmtl.cli.{command.replace('-', '_')}")
    assert callable(module.run)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_argument(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parse([command, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out.lower()
    for word in [*USAGE[command].lower().split(), "--plugin file"]:
        assert word in text
    assert " ".join(COMMANDS[command].summary.lower().split()) in " ".join(text.split())


def test_usage_lists_every_command() -> None:
    assert set(USAGE) == set(COMMANDS)


def test_plugins_are_a_list() -> None:
    assert parse(["zoo", "list"]).plugins == []
    assert parse(["zoo", "list", "--plugin", "a.py", "--plugin", "b.py"]).plugins == [
        "a.py",
        "b.py",
    ]


def test_overrides_may_stand_around_a_plugin() -> None:
    arguments = parse(["train", "c.yaml", "a=1", "--plugin", "p.py", "b=2"])
    assert arguments.overrides == ["a=1", "b=2"]
    assert arguments.plugins == ["p.py"]


@pytest.mark.parametrize("module", ["visionmtl", "visionmtl.cli", "visionmtl.cli.main"])
def test_modules_run_as_programs(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "zoo", "list"], capture_output=True, text=True, check=True
    )
    assert "rooms3d_efficientnet_lite0" in done.stdout
