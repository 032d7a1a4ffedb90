"""The public names: what each package introduces, and the page that lists them."""

from __future__ import annotations

import doctest
import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [
    "models",
    "losses",
    "metrics",
    "weighting",
    "balancing",
    "tasks",
    "data",
    "config",
    "prediction",
    "zoo",
    "engine",
    "analysis",
]
PROMISED = {
    "models": "MultiTaskModel create_model create_backbone SHARING DECODERS HEADS",
    "losses": "Criterion build_loss LOSSES",
    "metrics": "delta_m MultiTaskMetrics validation_score",
    "weighting": "UncertaintyWeighting WEIGHTINGS",
    "balancing": "PCGrad BALANCERS Balance",
    "tasks": "TaskSpec KINDS Depth SemSeg Normals Detection",
    "data": "FolderDataset RoomsDataset MixtureDataset make_loader",
    "config": "load_config Config",
    "prediction": "predict infer Result",
    "zoo": "load_model list_models save_model",
    "engine": "Trainer evaluate",
    "analysis": "check_dataset evaluate_model",
}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_names_of_a_package_are_there_and_documented(package: str) -> None:
    module = import_module(f"visionmtl.{package}")
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    assert set(PROMISED[package].split()) <= set(module.__all__)
    for name in module.__all__:
        value = getattr(module, name)
        assert callable(value) or name.isupper()  # a class, a function or a registry
        assert not callable(value) or value.__doc__


@pytest.mark.parametrize("package", ["", *PACKAGES, "cli"])
def test_the_example_of_a_package_runs(package: str) -> None:
    module = import_module(f"visionmtl.{package}".rstrip("."))
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def listed() -> dict[str, set[str]]:
    """Package -> names of the page, from its tables."""
    found: dict[str, set[str]] = {}
    package = ""
    for line in (ROOT / "docs" / "api.md").read_text().splitlines():
        if line.startswith("## "):
            package = line.strip("# `")
            found[package] = set()
        entry = re.match(r"\| `(\w+)` \| \S", line)
        if entry:
            assert entry[1] not in found[package]
            found[package].add(entry[1])
    return found


def test_the_page_lists_the_public_names() -> None:
    expected = {"visionmtl": set(import_module("visionmtl").__all__)}
    for package in PACKAGES:
        expected[f"visionmtl.{package}"] = set(import_module(f"visionmtl.{package}").__all__)
    assert listed() == expected
