from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from visionmtl.analysis.benchmark import balancing
from visionmtl.analysis.benchmark.balancing import Workload, step_memory
from visionmtl.cli.benchmark import run
from visionmtl.cli.main import parse as parse_command

CPU = torch.device("cpu")
OURS = ["features", "parameters"]


@pytest.fixture(scope="module", autouse=True)
def small() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(balancing, "BATCH", 2)
        patch.setattr(balancing, "SIZE", (32, 64))
        patch.setattr(balancing, "BACKBONE", "test_resnet")
        yield


def parse(*options: str) -> argparse.Namespace:
    return parse_command(["benchmark", *options, "--device", "cpu", "--repeats", "2"])


def test_every_variant_gives_the_heads_the_same_gradient_and_the_trunk_one_of_its_own() -> None:
    workload = Workload(CPU)
    found = {}
    for name, gradients in workload.gradients().items():
        gradients()
        found[name] = {
            n: p.grad for n, p in workload.model.named_parameters() if p.grad is not None
        }
        workload.model.zero_grad()
    assert set(found) == {"equal", *OURS}
    equal = found.pop("equal")
    for gradients_ in found.values():
        assert set(gradients_) == set(equal)
        for name, gradient in gradients_.items():
            assert gradient.isfinite().all()
            if name.startswith("heads."):
                torch.testing.assert_close(gradient, equal[name], rtol=1e-3, atol=1e-5)


def test_a_step_trains_and_leaves_no_gradient() -> None:
    workload = Workload(CPU)
    start = [p.detach().clone() for p in workload.model.parameters()]
    workload.train(workload.gradients()["parameters"])
    assert all(p.grad is None for p in workload.model.parameters())
    assert not all(
        torch.equal(p, before) for p, before in zip(workload.model.parameters(), start, strict=True)
    )


def test_memory_is_what_is_held_at_a_time() -> None:
    def work() -> None:
        for _ in range(3):
            block = torch.empty(2**20, dtype=torch.uint8)
            more = torch.empty(2**19, dtype=torch.uint8)
            del block, more

    assert step_memory(work, CPU) == pytest.approx(1.5, abs=0.01)


def test_without_a_config_ratios_are_written_and_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert run(parse("--balancing", "--json", str(out))) == 0
    record = json.loads(out.read_text())
    assert set(record["balancing"]) == set(OURS)
    for name in OURS:
        low, high = record["quartiles"][name]
        assert 0 < low <= record["balancing"][name] <= high
        assert record["step_ms"][name] > 0
        assert record["memory_mib"][name] > 0
    assert record["step_ms"]["equal"] > 0
    assert record["repeats"] == 2
    assert record["environment"]["packages"]["torch"]
    printed = capsys.readouterr().out
    assert "step over equal weighting" in printed


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "benchmark: give a config"),
        (["tiny.yaml", "--balancing"], "--balancing: measures a network of its own"),
        (["--balancing", "--only", "size"], "--balancing: measures a network of its own"),
    ],
)
def test_a_config_or_balancing(options: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        run(parse(*options))
