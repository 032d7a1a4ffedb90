"""The Python on the pages runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "docs/models.md", "docs/python.md", "docs/balancing.md"]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after another, in the root of the project."""
    monkeypatch.chdir(ROOT)
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)
