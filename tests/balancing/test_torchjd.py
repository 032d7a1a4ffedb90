from __future__ import annotations

import copy
import io
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from visionmtl.balancing.torchjd import TorchJDBalancer, gramian_weightings

aggregation = pytest.importorskip("torchjd.aggregation")

OPTIONS: dict[str, dict[str, Any]] = {
    "CAGrad": {"c": 0.5},
    "Constant": {"weights": [1.0, 2.0, 3.0, 4.0]},
    "FairGrad": {"alpha": 1.0},
    "Krum": {"n_byzantine": 1},
}
PACKAGES = {
    "CAGrad": ["cvxpy"],
    "FairGrad": ["scipy"],
    "UPGrad": ["quadprog"],
    "DualProj": ["quadprog"],
}
NAMES = gramian_weightings(aggregation)


def gramian(seed: int, num_tasks: int = 4) -> Tensor:
    rows = torch.randn(num_tasks, 6, generator=torch.Generator().manual_seed(seed))
    return rows @ rows.T


def build(name: str, **options: Any) -> TorchJDBalancer:
    for package in PACKAGES.get(name, []):
        pytest.importorskip(package)
    return TorchJDBalancer(name=name, **{**OPTIONS.get(name, {}), **options})


def test_known_names() -> None:
    expected = "AlignedMTL CAGrad Constant DualProj FairGrad GradVac IMTLG"
    more = "Krum MGDA Mean PCGrad Random Sum UPGrad"
    assert {*expected.split(), *more.split()} <= set(NAMES)
    assert not {
        "NashMTL",
        "ExcessMTL",
        "MoDo",
        "SDMGrad",
        "CRMOGM",
        "GramianWeightedAggregator",
    } & set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_gives_the_weights_of_torchjd(name: str) -> None:
    balancer = build(name)
    options = {
        k: torch.tensor(v) if isinstance(v, list) else v for k, v in OPTIONS.get(name, {}).items()
    }
    weighting = getattr(aggregation, f"{name}Weighting")(**options)
    for seed in range(3):
        torch.manual_seed(seed)
        expected = weighting(gramian(seed))
        torch.manual_seed(seed)
        torch.testing.assert_close(balancer(gramian(seed)), expected, rtol=0, atol=0)


def test_both_spellings() -> None:
    weights = build("MGDA")(gramian(0))
    torch.testing.assert_close(build("MGDAWeighting")(gramian(0)), weights)


def test_options_reach_the_weighting() -> None:
    matrix = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weights = build("UPGrad", pref_vector=[0.2, 0.8])(matrix)
    assert weights.tolist() == pytest.approx([0.2, 0.8])


@pytest.mark.parametrize("name", ["PCGrad", "GradVac", "Random"])
def test_random_choices_follow_the_generator(name: str) -> None:
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = (build(name)(gramian(1), generator) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(77)
    torch.testing.assert_close(
        build(name)(gramian(1), torch.Generator().manual_seed(5)), first, rtol=0, atol=0
    )
    torch.manual_seed(5)  # one stream: as if the generator were torch's own
    torch.testing.assert_close(build(name)(gramian(1)), first, rtol=0, atol=0)
    torch.testing.assert_close(build(name)(gramian(1)), second, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["GradVac", "PCD"])
def test_state_survives_a_checkpoint(name: str) -> None:
    if name not in NAMES:
        pytest.skip(f"this TorchJD has no {name}")
    balancer, resumed = build(name), build(name)
    conflict = torch.tensor(
        [[4.0, -1.0, -2.0, 0.0], [-1.0, 2.0, 0.5, 1.0], [-2.0, 0.5, 3.0, 1.0], [0.0, 1.0, 1.0, 9.0]]
    )
    for seed in range(3):
        balancer(gramian(seed), torch.Generator().manual_seed(seed))
    file = io.BytesIO()
    torch.save(copy.deepcopy(balancer.state_dict()), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    expected, found, forgetful = (
        each(conflict, torch.Generator().manual_seed(9))
        for each in (balancer, resumed, build(name))
    )
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not torch.allclose(forgetful, expected)


def test_a_fresh_state_can_be_loaded() -> None:
    resumed = build("GradVac")
    resumed.load_state_dict(build("GradVac").state_dict())
    assert resumed(gramian(0)).shape == (4,)


def test_other_tasks_start_a_new_memory() -> None:
    used = build("GradVac")
    used(gramian(0), torch.Generator().manual_seed(0), [0, 1, 2, 3])
    generators = (torch.Generator().manual_seed(1), torch.Generator().manual_seed(1))
    expected = build("GradVac")(gramian(1), generators[0])
    torch.testing.assert_close(
        used(gramian(1), generators[1], [0, 1, 2, 5]), expected, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    "name", ["NashMTL", "ExcessMTLWeighting", "MoDo", "ConFIG", "CRMOGM", "TrimmedMean"]
)
def test_refuses_what_needs_more_than_the_gramian(name: str) -> None:
    needs = f"TorchJD weighting '{name}' needs more than the Gramian of one batch"
    message = f"{needs}; choose from AlignedMTL, CAGrad, "
    with pytest.raises(ValueError, match=message):
        TorchJDBalancer(name=name)


@pytest.mark.parametrize(
    "name", ["UpGrad", "", "Weighting", "__init__", "GramianWeightedAggregator"]
)
def test_unknown_name(name: str) -> None:
    with pytest.raises(
        ValueError, match=f"TorchJD weighting '{name}' .*; choose from AlignedMTL, CAGrad, "
    ):
        TorchJDBalancer(name=name)


def test_a_name_that_is_no_string() -> None:
    with pytest.raises(ValueError, match=r"^TorchJDBalancer: name: must be a string, got 3$"):
        TorchJDBalancer(name=3)


@pytest.mark.parametrize("options", [{}, {"n_byzantine": -1}, {"n_byzantine": 1, "colour": "red"}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"TorchJD weighting 'Krum': .*(n_byzantine|colour)"):
        TorchJDBalancer(name="Krum", **options)


def test_torchjd_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    with pytest.raises(
        ValueError, match=r"TorchJDBalancer needs TorchJD: pip install 'torchjd>=0\.18'"
    ):
        TorchJDBalancer(name="UPGrad")
