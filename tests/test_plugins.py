"""Parts of a user's own, outside the package, in a run of seconds."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from visionmtl._plugins import load_plugins

PLUGINS = Path(__file__).parent / "plugins"
RUN = """
import json, sys
from pathlib import Path
import torch
from rich.console import Console
from visionmtl._plugins import load_plugins

config_file, folder, *files = sys.argv[1:]
load_plugins(files)
load_plugins(files)  # which does nothing
from visionmtl.config.load import load_config
from visionmtl.engine import run

config = load_config(config_file)
console = Console(quiet=True)
run.train(config, "mine", output_dir=Path(folder), device=torch.device("cpu"), console=console)
module = sys.modules["mine"]
print(json.dumps({"used": dict(module.USED), "config": config.model_dump(mode="json")}))
"""
"""What the train command does."""


def train(tmp_path: Path, *files: str, path: Path | None = None) -> dict[str, dict[str, int]]:
    """Train tests/plugins/run.yaml in a process of its own, which the registries of this one do not
    see.
    """
    arguments = [sys.executable, "-c", RUN, str(PLUGINS / "run.yaml"), str(tmp_path / "run")]
    search = [str(path)] if path else []
    search += filter(None, [os.environ.get("PYTHONPATH", str(PLUGINS.parents[1]))])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
    done = subprocess.run(
        [*arguments, *files], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, dict[str, int]] = json.loads(done.stdout.splitlines()[-1])
    assert (tmp_path / "run" / "model").is_dir()
    return found


def check(found: dict[str, dict[str, int]]) -> None:
    parts = ["head", "loss", "decoder", "weighting", "balancer", "augmentation", "data set"]
    assert sorted(found["used"]) == sorted(parts)
    config = found["config"]
    assert config["balancing"] == {
        "type": "my_balancer",
        "scope": "parameters",
        "every": 1,
        "share": 0.7,
    }
    assert config["losses"] == {"distance": {"type": "my_loss", "factor": 2.0}}


def test_one_of_each_from_a_file(tmp_path: Path) -> None:
    check(train(tmp_path, str(PLUGINS / "mine.py")))


def test_one_of_each_from_an_entry_point(tmp_path: Path) -> None:
    installed = tmp_path / "site"
    described = installed / "mine-1.0.dist-info"
    described.mkdir(parents=True)
    (installed / "mine.py").write_text((PLUGINS / "mine.py").read_text())
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[visionmtl.plugins]\nparts = mine\n")
    check(train(tmp_path, path=installed))


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write a plug-in, whose module is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules)

    def made(name: str, text: str) -> str:
        monkeypatch.delitem(sys.modules, Path(name).stem, raising=False)
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    yield made
    for path in tmp_path.glob("my_*.py"):
        sys.modules.pop(path.stem, None)


def test_a_file_is_imported_once(write) -> None:
    file = write("my_counter.py", "import sys\nsys.my_count = getattr(sys, 'my_count', 0) + 1\n")
    load_plugins([file])
    load_plugins([file, file])
    assert sys.my_count == 1  # type: ignore[attr-defined]
    del sys.my_count  # type: ignore[attr-defined]


def test_other_processes_can_unpickle_what_a_plugin_makes(write) -> None:
    load_plugins([write("my_thing.py", "class Thing:\n    value = 3\n")])
    thing = sys.modules["my_thing"].Thing()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(getattr, (thing, "value")) == 3


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("my_syntax.py", "def", r"my_syntax\.py: cannot be loaded: SyntaxError: "),
        ("my_error.py", "1 / 0", r"my_error\.py: cannot be loaded: ZeroDivisionError: division"),
        ("my_import.py", "import no_such", r"my_import\.py: cannot be loaded: ModuleNotFound"),
        (
            "my_taken.py",
            "from visionmtl.balancing.base import BALANCERS\n"
            "@BALANCERS.register('sum')\nclass Sum: ...\n",
            r"my_taken\.py: cannot be loaded: ValueError: balancer 'sum': Sum has this name",
        ),
        ("json.py", "", r"json\.py: there is a module 'json' already; give the file another name"),
        ("colorsys.py", "", r"colorsys\.py: there is a module 'colorsys' already"),
        ("my-file.py", "", r"my-file\.py: must be a Python file NAME\.py"),
        ("my_notes.txt", "", r"my_notes\.txt: must be a Python file NAME\.py"),
    ],
)
def test_files_that_cannot_be_loaded(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"^--plugin .*{message}") as caught:
        load_plugins([str(tmp_path / name)])
    assert "\n" not in str(caught.value)
    assert Path(name).stem not in sys.modules or name in ("json.py", "colorsys.py")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^--plugin .*none\.py: no such file$"):
        load_plugins([str(tmp_path / "none.py")])


def test_an_entry_point_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    described = tmp_path / "broken-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text("[visionmtl.plugins]\nparts = no_such_module\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=r"^plug-in parts = no_such_module: cannot be loaded: Mod"):
        load_plugins()
