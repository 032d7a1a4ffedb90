"""The examples run, are short and use public names only."""

from __future__ import annotations

import math
import re
import runpy
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs an example; what it registers is taken out again."""
    from visionmtl.data import DATASETS
    from visionmtl.losses import LOSSES
    from visionmtl.models import HEADS
    from visionmtl.tasks import KINDS

    registries: list[Any] = [DATASETS, HEADS, KINDS, LOSSES]
    before = [set(registry) for registry in registries]
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def load(name: str) -> dict[str, Any]:
        torch.manual_seed(0)
        return runpy.run_path(str(EXAMPLES / name))

    yield load
    for registry, names in zip(registries, before, strict=True):
        for name in set(registry) - names:
            registry.unregister(name)
    if "own_kind" not in modules:
        sys.modules.pop("own_kind", None)


def test_training_from_python(run: Any, tmp_path: Path) -> None:
    run("train_from_python.py")["main"](tmp_path, samples=8, epochs=1)
    assert (tmp_path / "metrics.jsonl").exists()
    assert (tmp_path / "checkpoints" / "best.pt").exists()
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_loop_of_ones_own(run: Any) -> None:
    assert math.isfinite(run("own_loop.py")["main"](samples=8, epochs=1))


def test_a_callback_of_ones_own(run: Any) -> None:
    assert len(run("own_callback.py")["main"](minutes=0.0, epochs=3, samples=4)) == 1


def test_a_kind_of_ones_own_learns(run: Any) -> None:
    main = run("train_own_kind.py")["main"]
    before = main(epochs=1)
    after = main(epochs=8)
    assert after["within_0.1"] > before["within_0.1"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_is_short_and_imports_public_names(file: Path) -> None:
    text = file.read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) < 60
    found = re.findall(r"^from (visionmtl[\w.]*) import (\([^)]*\)|.*)$", text, re.MULTILINE)
    assert found
    for module, names in found:
        assert set(re.findall(r"\w+", names)) <= set(import_module(module).__all__)
