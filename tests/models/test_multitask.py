from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from visionmtl.models.factory import create_model
from visionmtl.models.multitask import MultiTaskModel
from visionmtl.models.sharing import SHARING
from visionmtl.tasks import TaskSpec
from visionmtl.types import DetectionOutput, Prediction


@pytest.fixture
def model(specs: list[TaskSpec]) -> MultiTaskModel:
    torch.manual_seed(0)
    heads = {spec.name: {"channels": 16} for spec in specs}
    return create_model("test_resnet", specs, decoder_options={"channels": 16}, heads=heads).eval()


def random_images(*shape: int) -> Tensor:
    return torch.randint(
        0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def tensors(prediction: Prediction) -> list[Tensor]:
    if isinstance(prediction, DetectionOutput):
        return [
            prediction.class_logits,
            prediction.distances,
            prediction.centerness,
            prediction.points,
        ]
    return [prediction]


def assert_same(
    found: dict[str, Prediction], expected: dict[str, Prediction], tolerance: float = 0.0
) -> None:
    assert list(found) == list(expected)
    for task in found:
        for a, b in zip(tensors(found[task]), tensors(expected[task]), strict=True):
            torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit", "test_mambaout"])
@pytest.mark.parametrize("size", [(1, 1), (32, 32), (33, 47), (70, 130)])
def test_predictions_have_the_size_of_the_image(
    size: tuple[int, int], backbone: str, specs: list[TaskSpec]
) -> None:
    model = create_model(backbone, specs, decoder_options={"channels": 8}).eval()
    out = model(random_images(2, 3, *size))
    shapes = {task: tuple(tensors(prediction)[0].shape) for task, prediction in out.items()}
    assert shapes["semseg"] == (2, 3, *size)
    assert shapes["depth"] == (2, 1, *size)
    assert shapes["normals"] == (2, 3, *size)
    boxes = out["detection"]
    assert isinstance(boxes, DetectionOutput)
    assert boxes.size == size
    assert boxes.class_logits.shape[::2] == (2, 2)
    assert all(t.isfinite().all() for prediction in out.values() for t in tensors(prediction))


@torch.no_grad()
@pytest.mark.parametrize("sharing", SHARING)
@pytest.mark.parametrize("decoder", ["fpn", "bifpn"])
def test_every_combination_runs(sharing: str, decoder: str, specs: list[TaskSpec]) -> None:
    model = create_model(
        "test_convnext", specs, sharing, decoder, decoder_options={"channels": 8}
    ).eval()
    assert list(model(random_images(1, 3, 40, 50))) == ["semseg", "depth", "normals", "detection"]


@torch.no_grad()
def test_uint8_and_float_agree(model: MultiTaskModel) -> None:
    images = random_images(2, 3, 50, 70)
    assert_same(model(images), model(images.float()))


@torch.no_grad()
def test_padding_is_the_mean_colour(model: MultiTaskModel) -> None:
    images = random_images(1, 3, 50, 70)
    padded = model.mean.expand(1, 3, 64, 96).clone()
    padded[..., :50, :70] = images
    small, large = model(images), model(padded)
    for task in ("semseg", "depth", "normals"):
        torch.testing.assert_close(small[task], large[task][..., :50, :70])
    assert torch.equal(small["detection"].class_logits, large["detection"].class_logits)


@torch.no_grad()
def test_images_of_a_batch_do_not_mix(model: MultiTaskModel) -> None:
    images = random_images(2, 3, 64, 64)
    torch.testing.assert_close(model(images)["depth"][1:], model(images[1:])["depth"])


def test_pixels_are_normalised_inside(model: MultiTaskModel) -> None:
    assert model.mean.flatten().tolist() == pytest.approx(
        [255 * m for m in model.sharing.backbones[0].mean]
    )
    grey = model.mean.expand(1, 3, 32, 32)
    assert torch.equal(model.normalise(grey), torch.zeros(1, 3, 32, 32))
    torch.testing.assert_close(model.normalise(grey + model.std), torch.ones(1, 3, 32, 32))


@torch.no_grad()
def test_chosen_tasks_equal_the_full_forward(model: MultiTaskModel) -> None:
    images = random_images(1, 3, 64, 64)
    everything = model(images)
    assert_same(model(images, tasks=["depth"]), {"depth": everything["depth"]})
    assert list(model(images, tasks=["detection", "semseg"])) == ["semseg", "detection"]
    assert model(images, tasks=[]) == {}


def test_unknown_task_is_named(model: MultiTaskModel) -> None:
    message = (
        r"^unknown tasks \['edge'\]; the model has \['semseg', 'depth', 'normals', 'detection'\]$"
    )
    with pytest.raises(ValueError, match=message):
        model(random_images(1, 3, 32, 32), tasks=["depth", "edge"])
    with pytest.raises(ValueError, match=r"^unknown task 'edge'; the model has \['semseg', "):
        model.task_parameters("edge")


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3), (32, 32)])
def test_wrong_shape_is_named(shape: tuple[int, ...], model: MultiTaskModel) -> None:
    with pytest.raises(
        ValueError, match=rf"^images must be \(B, 3, H, W\) .* got shape \({shape[0]}, "
    ):
        model(torch.zeros(shape))


def test_task_order_is_the_caller_s(specs: list[TaskSpec]) -> None:
    order = [specs[2], specs[3], specs[0], specs[1]]
    model = create_model("test_resnet", order, decoder_options={"channels": 8})
    names = ["normals", "detection", "semseg", "depth"]
    assert [spec.name for spec in model.tasks] == list(model.heads) == names
    assert list(model(random_images(2, 3, 64, 64))) == names


def test_two_tasks_of_one_kind() -> None:
    specs = [
        TaskSpec.semseg(["a", "b"], name="parts"),
        TaskSpec.semseg(["x", "y", "z"], name="things"),
    ]
    model = create_model("test_resnet", specs, decoder_options={"channels": 8}).eval()
    out = model(random_images(1, 3, 32, 32))
    assert (out["parts"].shape[1], out["things"].shape[1]) == (2, 3)


@torch.no_grad()
def test_state_dict_round_trip(model: MultiTaskModel, specs: list[TaskSpec]) -> None:
    heads = {spec.name: {"channels": 16} for spec in specs}
    other = create_model("test_resnet", specs, decoder_options={"channels": 16}, heads=heads).eval()
    images = random_images(1, 3, 50, 70)
    assert not torch.equal(other(images)["depth"], model(images)["depth"])
    other.load_state_dict(model.state_dict())
    assert_same(other(images), model(images))


@torch.no_grad()
def test_deep_copy_is_independent(model: MultiTaskModel) -> None:
    images = random_images(1, 3, 32, 32)
    twin, before = copy.deepcopy(model), model(images)
    for p in twin.parameters():
        p.zero_()
    assert_same(model(images), before)
    assert len(twin.shared_parameters()) == len(model.shared_parameters())


def test_training_step_in_bfloat16(model: MultiTaskModel) -> None:
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(random_images(2, 3, 64, 64))
    flat = [t for prediction in out.values() for t in tensors(prediction)]
    assert {t.dtype for t in flat} == {torch.float32}
    sum((t.mean() for t in flat), torch.zeros(())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def test_bfloat16_is_near_float32(model: MultiTaskModel) -> None:
    images = random_images(1, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(images)
    torch.testing.assert_close(rough["depth"], model(images)["depth"], atol=0.1, rtol=0.02)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["test_resnet", "test_convnext"])
def test_channels_last_equals_contiguous(backbone: str, specs: list[TaskSpec]) -> None:
    model = create_model(backbone, specs, decoder_options={"channels": 16}).eval()
    images = random_images(2, 3, 64, 96)
    expected = model(images)
    model.to(memory_format=torch.channels_last)
    assert_same(model(images.to(memory_format=torch.channels_last)), expected, tolerance=1e-4)


def test_summary_can_be_read(model: MultiTaskModel) -> None:
    lines = model.summary().splitlines()
    total = sum(p.numel() for p in model.parameters()) / 1e6
    assert (
        lines[0]
        == f"test_resnet -> fpn (16 channels) -> 4 heads, hard sharing: {total:.2f} M parameters"
    )
    assert [line.split()[0] for line in lines[1:]] == [
        "shared",
        "semseg",
        "depth",
        "normals",
        "detection",
    ]
    assert sum(float(line.split()[1]) for line in lines[1:]) == pytest.approx(total, abs=5e-3)
    assert lines[2].endswith("M  reads strides [4, 8, 16, 32]  3 classes")
    assert lines[3].endswith("M  reads strides [4, 8, 16, 32]  0 to 8 m")
    assert lines[4].endswith("M  reads strides [4, 8, 16, 32]")
    assert lines[5].endswith("M  reads strides [8, 16, 32]  2 classes")
