from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from visionmtl.models import factory
from visionmtl.tasks import TaskSpec
from visionmtl.zoo.folder import load_model_folder, save_model
from visionmtl.zoo.weights import load_weights

FACTORY = "visionmtl.zoo.folder.create_model_from_config"
SPECS = [TaskSpec.semseg(["wall", "door"]), TaskSpec.depth(5.0)]


class Fake(nn.Module):
    """Has what a model folder needs: config, tasks, BatchNorm buffers, tied and channels_last
    tensors.
    """

    def __init__(self, width: int = 4, tasks: list[dict[str, Any]] | None = None) -> None:
        super().__init__()
        self.tasks = [TaskSpec.from_dict(task) for task in tasks] if tasks else SPECS
        self.config = {"width": width, "tasks": [task.to_dict() for task in self.tasks]}
        self.conv = nn.Conv2d(3, width, 3).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.second.weight = self.first.weight

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(self.norm(self.conv(images)).mean((2, 3))))


@pytest.fixture(autouse=True)
def _fake_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FACTORY, lambda config: Fake(**config))


@pytest.fixture
def model() -> Fake:
    torch.manual_seed(0)
    fake = Fake()
    fake(torch.randn(4, 3, 8, 8))  # moves the running statistics and num_batches_tracked
    return fake


def edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def reseal(folder: Path) -> None:
    """Make config.json agree with weights that a test changed."""
    edit_config(
        folder,
        weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    )


def test_round_trip_is_exact(model: Fake, tmp_path: Path) -> None:
    save_model(model, tmp_path / "a" / "b", card="# Card\n", extra={"metrics": {"miou": 0.5}})
    loaded = load_model_folder(tmp_path / "a" / "b")
    assert not loaded.training
    for (name, value), (other, copy) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        assert value.dtype == copy.dtype
        assert torch.equal(value, copy)
    assert loaded.norm.num_batches_tracked == 1
    assert sorted(os.listdir(tmp_path / "a" / "b")) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    config = json.loads((tmp_path / "a" / "b" / "config.json").read_text())
    assert config["format_version"] == 2
    assert [task["name"] for task in config["tasks"]] == ["semseg", "depth"]
    assert config["metrics"] == {"miou": 0.5}
    assert (tmp_path / "a" / "b" / "README.md").read_text() == "# Card\n"


def test_tied_tensors_are_stored_once_and_stay_tied(model: Fake, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert "first.weight" in stored
    assert "second.weight" not in stored
    loaded = load_model_folder(tmp_path)
    assert loaded.first.weight is loaded.second.weight
    assert torch.equal(loaded.first.weight, model.first.weight)


def test_float16_keeps_vectors_exact(model: Fake, tmp_path: Path) -> None:
    model.norm.running_var[1] = 1e6
    save_model(model, tmp_path, dtype=torch.float16)
    assert torch.equal(load_model_folder(tmp_path).norm.running_var, model.norm.running_var)


def test_float16_halves_the_weights_only(model: Fake, tmp_path: Path) -> None:
    save_model(model, tmp_path, dtype=torch.float16)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored["conv.weight"].dtype == torch.float16
    assert stored["norm.num_batches_tracked"].dtype == torch.int64
    loaded = load_model_folder(tmp_path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    torch.testing.assert_close(loaded.conv.weight, model.conv.weight, atol=1e-3, rtol=1e-3)


def test_float16_overflow_names_the_tensor_and_writes_nothing(model: Fake, tmp_path: Path) -> None:
    with torch.no_grad():
        model.conv.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"'conv\.weight' overflows in torch\.float16.*1e\+06"):
        save_model(model, tmp_path / "x", dtype=torch.float16)
    assert not (tmp_path / "x").exists()
    save_model(model, tmp_path / "x", dtype=torch.bfloat16)


def test_save_refuses_wrappers_and_values_that_are_not_json(model: Fake, tmp_path: Path) -> None:
    wrapped = nn.DataParallel(model)
    wrapped.config, wrapped.tasks = model.config, model.tasks  # type: ignore[assignment]
    with pytest.raises(ValueError, match=r"'module\.conv\.weight' belongs to a wrapper"):
        save_model(wrapped, tmp_path)
    with pytest.raises(ValueError, match="must be plain JSON"):
        save_model(model, tmp_path, extra={"path": tmp_path})
    with pytest.raises(ValueError, match="must be plain JSON"):
        save_model(model, tmp_path, extra={"loss": float("nan")})
    with pytest.raises(ValueError, match="extra must not set tasks"):
        save_model(model, tmp_path, extra={"tasks": []})
    assert os.listdir(tmp_path) == []


def test_overwriting_keeps_a_loadable_folder(model: Fake, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    with torch.no_grad():
        model.conv.weight.zero_()
    save_model(model, tmp_path)
    assert not load_model_folder(tmp_path).conv.weight.any()
    assert len(os.listdir(tmp_path)) == 3


def test_crash_between_weights_and_config_is_noticed(model: Fake, tmp_path: Path) -> None:
    save_model(model, tmp_path / "old")
    save_model(Fake(), tmp_path / "new")
    (tmp_path / "new" / "model.safetensors").replace(tmp_path / "old" / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"old/model\.safetensors: damaged, or not the weights of its config\.json"
    ):
        load_model_folder(tmp_path / "old")


@pytest.mark.parametrize("position", [0, -1])
def test_flipped_bit_is_noticed(model: Fake, tmp_path: Path, position: int) -> None:
    save_model(model, tmp_path)
    data = bytearray((tmp_path / "model.safetensors").read_bytes())
    data[position] ^= 1
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors: damaged"):
        load_model_folder(tmp_path)


def test_weights_that_are_no_safetensors(model: Fake, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    reseal(tmp_path)
    with pytest.raises(ValueError, match=r"model\.safetensors: not a safetensors file"):
        load_model_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors: no such file"):
        load_model_folder(tmp_path)


def test_unfit_weights_are_listed(model: Fake, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["conv.weight"]
    state["head.weight"] = torch.zeros(1)
    state["norm.weight"] = torch.zeros(7)
    state["norm.num_batches_tracked"] = torch.tensor(1.0)
    save_file(state, tmp_path / "model.safetensors")
    reseal(tmp_path)
    with pytest.raises(ValueError, match="the weights do not fit the model") as caught:
        load_model_folder(tmp_path)
    message = str(caught.value)
    assert "1 missing (conv.weight)" in message
    assert "1 extra (head.weight)" in message
    assert "norm.weight (float32 (7,) for float32 (4,))" in message
    assert "norm.num_batches_tracked (float32 () for int64 ())" in message
    assert "\n" not in message


def test_module_prefix_is_explained_and_nothing_is_loaded(model: Fake) -> None:
    state = {f"module.{key}": value + 1 for key, value in model.state_dict().items()}
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"^last\.pt: .* 11 missing .*, \.\.\.\), 11 extra .*starts with 'module\.'",
    ):
        load_weights(model, state, Path("last.pt"))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "no whole-number 'format_version'"),
        ('{"architectures": ["Swin"]}', "no whole-number 'format_version'"),
        (
            '{"format_version": 99, "visionmtl_version": "7.1"}',
            r"format_version 99 of visionmtl '7\.1'; .*update",
        ),
        ('{"format_version": 1}', "'model' must be an object, got None"),
        ('{"format_version": 1, "model": {}, "tasks": {}}', "'tasks' must be a list"),
        (
            '{"format_version": 1, "model": {}, "tasks": [], "weights_sha256": 3}',
            "'weights_sha256' must be a string",
        ),
    ],
)
def test_malformed_config_gives_one_line(
    model: Fake, tmp_path: Path, content: str, message: str
) -> None:
    save_model(model, tmp_path)
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=rf"config\.json: .*{message}") as caught:
        load_model_folder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"width": 4, "colour": "red"}}, "describes no model: TypeError.*colour"),
        ({"model": {"width": -4}}, "describes no model: RuntimeError"),
        ({"tasks": [{"name": "semseg"}]}, "describes no model: ValueError.*kind"),
        ({"tasks": ["semseg"]}, "describes no model"),
        ({"tasks": [{"name": "x", "kind": "taste"}]}, "unknown kind of task 'taste'"),
        (
            {"tasks": [task.to_dict() for task in reversed(SPECS)]},
            "the listed tasks .* are not those of the model",
        ),
        ({"model": {"width": 5}}, "the weights do not fit the model: .* different"),
    ],
)
def test_config_of_another_model(
    model: Fake, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_model(model, tmp_path)
    edit_config(tmp_path, **changes)
    with pytest.raises(ValueError, match=f"{tmp_path}: .*{message}"):
        load_model_folder(tmp_path)


def test_a_folder_of_version_0_1_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FACTORY, factory.create_model_from_config)
    model = factory.create_model("test_resnet", SPECS, decoder_options={"channels": 16}).eval()
    save_model(model, tmp_path)
    old = {key: value for key, value in model.config.items() if key != "decoder_options"}
    edit_config(tmp_path, format_version=1, model={**old, "decoder_channels": 16})
    loaded = load_model_folder(tmp_path)
    assert loaded.config == model.config
    assert all(map(torch.equal, loaded.state_dict().values(), model.state_dict().values()))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing/config\.json: cannot be read \(No such file"):
        load_model_folder(tmp_path / "nothing")


def test_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FACTORY, factory.create_model_from_config)
    specs = [
        TaskSpec.semseg(["wall", "door"]),
        TaskSpec.normals(),
        TaskSpec.detection(["chair"]),
        TaskSpec.depth(5.0),
    ]
    model = factory.create_model("test_resnet", specs, decoder_options={"channels": 16}).eval()
    save_model(model, tmp_path, card="# test")
    loaded = load_model_folder(tmp_path)
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = model(images), loaded(images)
    assert loaded.tasks == specs
    assert list(found) == ["semseg", "normals", "detection", "depth"]
    assert torch.equal(expected["depth"], found["depth"])
    assert torch.equal(expected["detection"].class_logits, found["detection"].class_logits)
