"""The page of the weightings and balancers against the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import torch

from visionmtl.balancing import BALANCERS, PCGrad
from visionmtl.config.schema import BalancingConfig
from visionmtl.weighting import WEIGHTINGS

LINES = (Path(__file__).parents[2] / "docs" / "balancing.md").read_text("utf-8").splitlines()
METHODS: dict[str, type] = {**WEIGHTINGS, **BALANCERS}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_row_with_the_paper_of_its_docstring(name: str) -> None:
    (row,) = (line for line in LINES if line.startswith(f"| `{name}` |"))
    links = re.findall(r"https?://[^\s\),]+[\w]", inspect.getdoc(METHODS[name]) or "")
    assert not links or links[0] in row


def test_the_tables_have_no_other_methods() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", "\n".join(LINES), re.MULTILINE)
    logged = ["weights", "gradient_norm", "gradient_cosine", "conflict"]
    assert sorted(rows) == sorted([*METHODS, *logged])
    assert BalancingConfig.model_fields["scope"].default == "parameters"


def test_the_example() -> None:
    gradients = torch.tensor([[-4.0, 1.0, 1.0], [6.0, 1.0, 1.0]])
    torch.testing.assert_close(
        PCGrad()(gradients @ gradients.T), torch.tensor([2.2222, 1.5789]), atol=1e-4, rtol=0
    )
