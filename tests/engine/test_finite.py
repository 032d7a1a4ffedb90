from __future__ import annotations

import math

import pytest
import torch

from visionmtl._errors import NonFiniteLossError
from visionmtl.engine import finite as module
from visionmtl.engine.finite import FiniteCheck

CPU = torch.device("cpu")
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


def test_names_every_bad_task_the_step_and_the_samples() -> None:
    check = FiniteCheck(["semseg", "depth", "normals"], CPU, immediate=False)
    check.check_losses(torch.tensor([1.0, 2.0, 0.0]), 6, ["a"])
    with pytest.raises(NonFiniteLossError) as caught:
        check.check_losses(torch.tensor([1.0, math.nan, -math.inf]), 7, ["kitchen_1", "hall_2"])
    assert (
        str(caught.value)
        == "step 7: loss of depth is nan, loss of normals is -inf; samples: kitchen_1, hall_2"
    )


def test_gradient_norm() -> None:
    check = FiniteCheck(["depth"], CPU, immediate=True)
    check.check_gradient(torch.tensor(3.0), 1, ["a"])
    with pytest.raises(NonFiniteLossError, match="step 2: gradient norm is inf; samples: a, b"):
        check.check_gradient(torch.tensor(math.inf), 2, ["a", "b"])


class Arrived:
    def synchronize(self) -> None: ...


@pytest.fixture(params=["pretended", pytest.param("real", marks=NEEDS_CUDA)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where the numbers are; the delay itself can be tested without a GPU."""
    if request.param == "pretended":
        monkeypatch.setattr(module, "_to_host", lambda values: (values.clone(), Arrived()))
        return CPU
    return torch.device("cuda")


def test_cuda_is_checked_one_step_later_and_before_a_checkpoint(device: torch.device) -> None:
    bad = torch.tensor([math.nan], device=device)
    cuda = torch.device("cuda")
    check = FiniteCheck(["depth"], cuda, immediate=False)
    check.check_losses(bad, 1, ["a"])
    check.check_losses(bad, 1, ["b"])  # the next micro-batch of the step
    check.check_gradient(bad[0], 1, ["a", "b"])
    with pytest.raises(NonFiniteLossError, match=r"step 1: loss of depth is nan; samples: a$"):
        check.check_losses(bad, 2, ["c"])
    check = FiniteCheck(["depth"], cuda, immediate=False)
    check.check_gradient(bad[0], 1, ["a"])
    with pytest.raises(NonFiniteLossError, match="step 1: gradient norm is nan"):
        check.flush()
    check.flush()
    with pytest.raises(NonFiniteLossError, match="step 1"):
        FiniteCheck(["depth"], cuda, immediate=True).check_losses(bad, 1, ["a"])
