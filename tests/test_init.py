from __future__ import annotations

import re
import subprocess
import sys

import pytest

import visionmtl


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_is_light() -> None:
    heavy = [
        "torch",
        "timm",
        "torchvision",
        "scipy",
        "matplotlib",
        "albumentations",
        "cv2",
        "torchmetrics",
    ]
    assert run(f"import sys, visionmtl; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_public_names_are_found() -> None:
    code = (
        "import visionmtl; print([callable(getattr(visionmtl, n)) for n in visionmtl.__all__ * 2])"
    )
    assert run(code) == str([True] * len(visionmtl.__all__) * 2)


def test_no_submodule_hides_a_public_name() -> None:
    code = (
        "import importlib, pkgutil, visionmtl\n"
        "for m in pkgutil.iter_modules(visionmtl.__path__): importlib.import_module(f'visionmtl.{m.name}')\n"
        "print([callable(getattr(visionmtl, n)) for n in visionmtl.__all__])"
    )
    assert run(code) == str([True] * len(visionmtl.__all__))


def test_public_names_are_listed_before_they_are_loaded() -> None:
    assert set(visionmtl.__all__) | {"__version__"} <= set(dir(visionmtl))
    assert visionmtl.__all__ == sorted(visionmtl.__all__)
    assert set(visionmtl.__all__) == set(visionmtl._PUBLIC)


def test_unknown_attribute() -> None:
    with pytest.raises(
        AttributeError, match=r"^module 'visionmtl' has no attribute 'create_modle'$"
    ):
        _ = visionmtl.create_modle
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from visionmtl import nothing  # noqa: F401


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", visionmtl.__version__)
