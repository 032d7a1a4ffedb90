"""The page of the config keys against the code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from visionmtl._options import options_model
from visionmtl._registry import Registry
from visionmtl.balancing import BALANCERS
from visionmtl.config.schema import Config
from visionmtl.config.sections import Choice
from visionmtl.data.base import DATASETS
from visionmtl.data.transforms.base import AUGMENTATIONS
from visionmtl.losses import LOSSES
from visionmtl.models.decoders import DECODERS
from visionmtl.models.heads import HEADS
from visionmtl.models.sharing import SHARING
from visionmtl.weighting import WEIGHTINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "configuration.md").read_text("utf-8")
REGISTRIES = [
    AUGMENTATIONS,
    BALANCERS,
    DATASETS,
    DECODERS,
    HEADS,
    LOSSES,
    SHARING,
    WEIGHTINGS,
]


def test_the_tables_are_those_of_the_code() -> None:
    """In a process of its own, where no test has registered anything."""
    command = [sys.executable, str(ROOT / "tools" / "make_reference.py"), "--print"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, capture_output=True, check=True, env=environment)
    assert done.stdout.decode() == PAGE, "run python tools/make_reference.py"


def test_every_key_is_on_the_page() -> None:
    """Of the sections that are no choices: those of a choice are in its table."""

    def check(section: type[BaseModel], prefix: str) -> None:
        for name, field in section.model_fields.items():
            kind = field.annotation
            if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
                assert f"| `{prefix}{name}` |" in PAGE
            elif not issubclass(kind, Choice):
                check(kind, f"{prefix}{name}.")

    check(Config, "")


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.what)
def test_every_choice_is_on_the_page_with_its_options(registry: Registry[object]) -> None:
    for name, cls in registry.items():
        rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
        for option in options_model(cls).model_fields:
            assert any(f"<br>`{option}`: " in row for row in rows), (name, option)
        assert rows
