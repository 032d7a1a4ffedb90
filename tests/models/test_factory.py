from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import visionmtl.models
from visionmtl import load_model
from visionmtl.models.backbone.pretrained import weights_options
from visionmtl.models.decoders import DECODERS
from visionmtl.models.factory import CONFIG_KEYS, create_model, create_model_from_config
from visionmtl.models.sharing import SHARING
from visionmtl.tasks import TaskSpec
from visionmtl.zoo.folder import save_model

DEPTH = TaskSpec.depth()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sharing": "soft"},
            rf"^unknown sharing scheme 'soft'; known: {', '.join(SHARING)}$",
        ),
        ({"decoder": "x"}, rf"^unknown decoder 'x'; known: {', '.join(DECODERS)}$"),
        ({"backbone": "resnet19"}, r"^backbone 'resnet19' is not a timm model"),
        (
            {"heads": {"edge": {}}},
            r"^model\.heads: unknown tasks \['edge'\]; the model has \['depth'\]$",
        ),
        (
            {"heads": {"depth": {"chanels": 8}}},
            r"^model\.heads\.depth\.chanels: unknown option; known: channels; .* 'channels'\?$",
        ),
        (
            {"heads": {"depth": {"strides": [1]}}},
            r"^model\.heads\.depth\.strides: unknown option; known: channels$",
        ),
        (
            {"heads": {"depth": {"channels": 0}}},
            r"^model\.heads\.depth\.channels: must be >= 1, got 0$",
        ),
        (
            {"heads": {"depth": {"channels": "wide"}}},
            r"^model\.heads\.depth\.channels: .* got 'wide'$",
        ),
        ({"heads": {"depth": {"channels": True}}}, r"^model\.heads\.depth\.channels: .* got true$"),
        (
            {"tasks": [TaskSpec.depth(name="samples")]},
            r"^task name 'samples' is a key of evaluation results",
        ),
        ({"tasks": []}, r"^tasks must be a non-empty list without repeated names, got \[\]$"),
        ({"tasks": [DEPTH, DEPTH]}, r"without repeated names, got \['depth', 'depth'\]$"),
        (
            {"tasks": [TaskSpec.depth(name="forward")]},
            r"^task names \['forward'\] are attributes of torch modules",
        ),
        (
            {"input_size": (32,)},
            r"^model\.input_size must be \(height, width\) in pixels, got \[32\]$",
        ),
        (
            {"input_size": (0, 32)},
            r"^model\.input_size must be \(height, width\) in pixels, got \[0, 32\]$",
        ),
        ({"pretrained": "nowhere.pth"}, r"^model\.backbone\.pretrained: no file 'nowhere\.pth'"),
    ],
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        create_model(**{"backbone": "test_resnet", "tasks": [DEPTH], **options})
    assert "\n" not in str(caught.value)


def test_head_options_reach_the_head() -> None:
    specs = [DEPTH, TaskSpec.detection(["chair"])]
    heads = {"depth": {"channels": 24}, "detection": {"channels": 16, "num_convs": 1}}
    model = create_model("test_resnet", specs, decoder_options={"channels": 8}, heads=heads)
    assert model.heads["depth"].predict.in_channels == 24
    assert len(model.heads["detection"].class_tower) == 3


@pytest.mark.parametrize("decoder", ["fpn", "bifpn"])
@pytest.mark.parametrize("sharing", SHARING)
def test_config_round_trip(sharing: str, decoder: str, specs: list[TaskSpec]) -> None:
    model = create_model(
        "test_resnet",
        specs,
        sharing,
        decoder,
        sharing_options={"alpha": 0.7} if sharing in ("cross_stitch", "nddr") else None,
        decoder_options={"channels": 8},
        heads={"depth": {"channels": 12}},
        input_size=(64, 96),
    ).eval()
    config = json.loads(json.dumps(model.config))
    assert tuple(config) == CONFIG_KEYS
    rebuilt = create_model_from_config(config).eval()
    assert rebuilt.config == model.config
    assert rebuilt.tasks == specs
    assert rebuilt.input_size == (64, 96)
    rebuilt.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 40, 50) * 255
    with torch.no_grad():
        assert torch.equal(rebuilt(images)["depth"], model(images)["depth"])


@pytest.mark.parametrize(
    ("sharing", "options", "message"),
    [
        ("hard", {"alpha": 0.9}, r"^model.sharing.alpha: unknown option; known: none$"),
        ("nddr", {"beta": 0.9}, r"^model.sharing.beta: unknown option; known: alpha, lr_scale$"),
        ("nddr", {"alpha": "0.9"}, r"^model.sharing.alpha: must be a number, got '0.9'$"),
        ("cross_stitch", {"alpha": True}, r"^model.sharing.alpha: must be a number, got true$"),
        ("cross_stitch", {"alpha": 2}, r"^model.sharing.alpha: must be <= 1, got 2$"),
    ],
)
def test_sharing_options_are_checked(sharing: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model("test_resnet", [DEPTH, TaskSpec.normals()], sharing, sharing_options=options)


@pytest.mark.parametrize("sharing", SHARING)
def test_a_saved_model_is_loaded(sharing: str, specs: list[TaskSpec], tmp_path: Path) -> None:
    model = create_model("test_resnet", specs, sharing, decoder_options={"channels": 8}).eval()
    save_model(model, tmp_path)
    loaded, images = load_model(tmp_path), torch.rand(1, 3, 40, 50) * 255
    with torch.no_grad():
        assert torch.equal(loaded(images)["depth"], model(images)["depth"])


def test_the_schemes_are_listed() -> None:
    names = ["cross_stitch", "hard", "independent", "mtan", "nddr"]
    assert sorted(visionmtl.models.SHARING) == names


def test_rebuilding_leaves_the_config_alone() -> None:
    config = create_model("test_resnet", [DEPTH]).config
    before = json.dumps(config)
    create_model_from_config(config)
    assert json.dumps(config) == before
    assert config["input_size"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pretrained": True},
            r"^model config: unknown keys \['pretrained'\]; known: backbone, tasks, sharing, ",
        ),
        ({"pretrained": False}, r"^model config: unknown keys \['pretrained'\]"),
        ({"weights": "x", 1: 2}, r"^model config: unknown keys \['1', 'weights'\]"),
        (
            {"tasks": [{"name": "depth", "kind": "depth", "max_depth": 5.0, "unit": "mm"}]},
            r"^task 'depth': unit: unknown option; known: max_depth$",
        ),
        ({"decoder": "unet"}, r"^unknown decoder 'unet'"),
    ],
)
def test_foreign_configs_are_refused(changes: dict[Any, Any], message: str) -> None:
    config = create_model("test_resnet", [DEPTH]).config
    with pytest.raises(ValueError, match=message):
        create_model_from_config({**config, **changes})


@pytest.mark.parametrize("key", ["backbone", "tasks"])
def test_missing_keys_are_named(key: str) -> None:
    config = create_model("test_resnet", [DEPTH]).config
    del config[key]
    with pytest.raises(ValueError, match=rf"^model config: missing keys \['{key}'\]$"):
        create_model_from_config(config)


def test_rebuilding_never_asks_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(name: str, pretrained: Any) -> dict[str, Any]:
        asked.append(pretrained)
        return weights_options(name, pretrained)

    monkeypatch.setattr("visionmtl.models.backbone.create.weights_options", spy)
    create_model_from_config(create_model("test_resnet", [DEPTH]).config)
    assert asked == [False, False]


def test_seed_decides_the_weights(specs: list[TaskSpec]) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(
            create_model("test_resnet", specs, decoder_options={"channels": 8}).state_dict()
        )
    assert all(
        torch.equal(a, b) for a, b in zip(states[0].values(), states[1].values(), strict=True)
    )
