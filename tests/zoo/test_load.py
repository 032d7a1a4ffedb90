from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from rich.console import Console
from torch import nn

from visionmtl._files import FileEntry
from visionmtl.models import factory
from visionmtl.tasks import TaskSpec
from visionmtl.zoo import fetch as fetching
from visionmtl.zoo import registry
from visionmtl.zoo import show as zoo
from visionmtl.zoo.checkpoints import save_checkpoint
from visionmtl.zoo.fetch import fetch
from visionmtl.zoo.folder import save_model
from visionmtl.zoo.load import list_models, load_model
from visionmtl.zoo.registry import ModelEntry, describe_files, read_registry

FACTORY = "visionmtl.zoo.folder.create_model_from_config"
SPECS = [TaskSpec.semseg(["wall", "door"]), TaskSpec.depth(5.0)]


FILES = ["README.md", "config.json", "model.safetensors"]


class Fake(nn.Module):
    def __init__(self, width: int = 300) -> None:
        super().__init__()
        self.config, self.tasks = {"width": width}, SPECS
        self.layer = nn.Linear(width, width)


class Downloads:
    """Stands for ``visionmtl.zoo.download.download``: takes the content from ``files`` and
    remembers the addresses.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.urls: list[str] = []

    def __call__(self, url: str, path: Path, expected: FileEntry) -> None:
        self.urls.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.files[url])
        assert expected.fault(path) is None


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FACTORY, lambda config: Fake(**config))
    for module in (fetching, registry):
        monkeypatch.setattr(module, "CHECKPOINTS", tmp_path / "models")
    monkeypatch.setenv("VISIONMTL_HOME", str(tmp_path / "home"))
    write_registry(tmp_path, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(Fake(), tmp_path / "models" / "rooms", card="# Rooms [/model]\n\nA *card*.")
    return tmp_path / "models" / "rooms"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> Downloads:
    recorded = Downloads()
    monkeypatch.setattr(fetching, "download", recorded)
    return recorded


@pytest.fixture
def remote(downloads: Downloads, folder: Path, tmp_path: Path) -> ModelEntry:
    downloads.files = {
        f"https://example.com/m/{path.name}": path.read_bytes() for path in folder.iterdir()
    }
    return entry_of(tmp_path, folder, source="https://example.com/m/")


def write_registry(root: Path, models: dict[str, Any], version: int = 1) -> Path:
    (root / "models").mkdir(exist_ok=True)
    path = root / "models" / "registry.json"
    path.write_text(json.dumps({"format_version": version, "models": models}))
    return path


def values_of(folder: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "source": "rooms",
        "files": describe_files(folder),
        "tasks": ["semseg", "depth"],
        "metrics": {"semseg/miou": 0.41234, "depth/rmse": 1},
        "licence": "Apache-2.0",
        "data": "procedural rooms [seed 0]",
        "command": "visionmtl train [/x] --a",
    }
    return {**values, **changes}


def entry_of(root: Path, folder: Path, name: str = "rooms-r18", **changes: Any) -> ModelEntry:
    write_registry(root, {name: values_of(folder, **changes)})
    return read_registry()[name]


def rendered(renderable: Any) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


# Local sources


def test_packaged_registry_is_valid_and_local_files_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for entry in read_registry().values():
        if not entry.source.startswith(("https://", "hf://")):
            fetch(entry)


def test_load_a_zoo_name(tmp_path: Path, folder: Path) -> None:
    entry_of(tmp_path, folder)
    model = load_model("rooms-r18")
    assert isinstance(model, Fake)
    assert not model.training
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "README.md"])
def test_one_wrong_byte_is_refused_and_named(tmp_path: Path, folder: Path, file: str) -> None:
    entry_of(tmp_path, folder)
    data = bytearray((folder / file).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / file).write_bytes(data)
    with pytest.raises(ValueError, match=f"{folder / file}: damaged: wrong sha256"):
        load_model("rooms-r18")
    (folder / file).write_bytes(data[:-1])
    with pytest.raises(
        ValueError, match=f"{folder / file}: {len(data) - 1} bytes, expected {len(data)}"
    ):
        load_model("rooms-r18")
    (folder / file).unlink()
    with pytest.raises(ValueError, match=f"{folder / file}: no such file"):
        load_model("rooms-r18")


def test_registry_of_other_tasks(tmp_path: Path, folder: Path) -> None:
    entry_of(tmp_path, folder, tasks=["depth", "semseg"])
    with pytest.raises(
        ValueError, match=r"rooms-r18: the registry lists the tasks \('depth', 'semseg'\)"
    ):
        load_model("rooms-r18")


# Paths


def test_load_folders(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(Fake(3), tmp_path / "run" / "model")
    assert load_model(folder).config["width"] == 300
    assert load_model(str(folder)).config["width"] == 300
    assert load_model(tmp_path / "run").config["width"] == 3
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_model("~/run").config["width"] == 3


def test_zoo_name_wins_over_a_folder_of_that_name_unless_a_path(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_of(tmp_path, folder)
    save_model(Fake(3), tmp_path / "rooms-r18")
    monkeypatch.chdir(tmp_path)
    assert load_model("rooms-r18").config["width"] == 300
    assert load_model(Path("rooms-r18")).config["width"] == 3


def test_something_else_says_what_was_looked_for(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_of(tmp_path, folder)
    with pytest.raises(
        ValueError,
        match=r"'rooms-r81': looked for a zoo name, .* does not exist; did you mean 'rooms-r18'\? zoo: ",
    ):
        load_model("rooms-r81")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is none of these; zoo: rooms-r18"):
        load_model(tmp_path / "empty")
    monkeypatch.chdir(folder)  # the empty string is not the current folder
    for name in ("", "../../x", "\0", "x" * 5000, "rooms-r18/../../../etc"):
        with pytest.raises(ValueError, match="does not exist"):
            load_model(name)


# Checkpoints


def checkpoint(of: Fake, **changes: Any) -> dict[str, Any]:
    tasks = [task.to_dict() for task in SPECS]
    return {
        "model_config": of.config,
        "tasks": tasks,
        "model": of.state_dict(),
        "ema": None,
        **changes,
    }


def test_load_checkpoint_prefers_ema(tmp_path: Path) -> None:
    model, path = Fake(3), tmp_path / "last.pt"
    ema = {key: value + 1 for key, value in model.state_dict().items()}
    save_checkpoint(path, checkpoint(model))
    assert torch.equal(load_model(path).layer.weight, model.layer.weight)
    for values in (checkpoint(model, ema=ema), checkpoint(model, ema=ema, model=None)):
        save_checkpoint(path, values)
        loaded = load_model(str(path))
        assert torch.equal(loaded.layer.weight, ema["layer.weight"])
        assert not loaded.training


def test_bad_checkpoints(tmp_path: Path) -> None:
    model, path = Fake(3), tmp_path / "last.pt"
    bad: tuple[dict[str, Any], ...] = (
        {"model": None},
        {"model": 3},
        {"model": [1]},
        {"model_config": None},
        {"model_config": []},
        {"tasks": None},
    )
    for values in ({"state_dict": {}}, *(checkpoint(model, **changes) for changes in bad)):
        save_checkpoint(path, values)
        with pytest.raises(ValueError, match=r"last\.pt: not a training checkpoint"):
            load_model(path)
    save_checkpoint(path, checkpoint(model, model=Fake(4).state_dict()))
    with pytest.raises(
        ValueError, match=r"last\.pt: the weights do not fit the model: 2 different \(layer\.weight"
    ):
        load_model(path)
    save_checkpoint(
        path, checkpoint(model, model={f"module.{k}": v for k, v in model.state_dict().items()})
    )
    with pytest.raises(ValueError, match=r"every key starts with 'module\.'"):
        load_model(path)


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_malicious_pickle_is_refused_and_not_executed(tmp_path: Path) -> None:
    torch.save(
        {"format_version": 1, **checkpoint(Fake(3), best=Malicious(tmp_path / "touched"))},
        tmp_path / "last.pt",
    )
    with pytest.raises(ValueError, match=r"last\.pt"):
        load_model(tmp_path / "last.pt")
    assert not (tmp_path / "touched").exists()


# Remote sources


def test_download_once_then_from_the_cache(
    remote: ModelEntry, downloads: Downloads, tmp_path: Path
) -> None:
    model = load_model("rooms-r18")
    assert not model.training
    assert sorted(p.name for p in tmp_path.glob("home/**/*") if p.is_file()) == FILES
    assert torch.equal(load_model("rooms-r18").layer.weight, model.layer.weight)
    assert sorted(downloads.urls) == [f"https://example.com/m/{name}" for name in FILES]


def test_cache_dir_argument(remote: ModelEntry, tmp_path: Path) -> None:
    assert fetch(remote, tmp_path / "elsewhere").is_relative_to(tmp_path / "elsewhere")
    assert not (tmp_path / "home").exists()


def test_damaged_cache_is_downloaded_again(remote: ModelEntry, downloads: Downloads) -> None:
    path = fetch(remote) / "model.safetensors"
    good = path.read_bytes()
    path.write_bytes(b"\0" + good[1:])
    fetch(remote)
    assert path.read_bytes() == good
    assert len(downloads.urls) == 4


def test_other_files_under_the_same_name_get_another_folder(
    remote: ModelEntry, downloads: Downloads, folder: Path, tmp_path: Path
) -> None:
    first = fetch(remote)
    save_model(Fake(), folder, card="# Second edition")
    downloads.files = {
        f"https://example.com/m/{path.name}": path.read_bytes() for path in folder.iterdir()
    }
    second = fetch(entry_of(tmp_path, folder, source=remote.source))
    assert first != second
    assert fetch(remote) == first


def test_a_server_on_this_machine(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *args: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        entry_of(tmp_path, folder, source=f"http://127.0.0.1:{server.server_port}")
        assert load_model("rooms-r18").config["width"] == 300
        server.shutdown()


# Hub


def test_hub_source(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(**kwargs: Any) -> str:
        calls.append(kwargs)
        return str(folder / kwargs["filename"])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    entry_of(tmp_path, folder, source="hf://owner/repo@v1/sub")
    assert load_model("rooms-r18").config["width"] == 300
    assert len(calls) == 3
    expected = {
        "repo_id": "owner/repo",
        "revision": "v1",
        "subfolder": "sub",
        "force_download": False,
    }
    assert expected.items() <= calls[0].items()


def test_hub_file_that_is_damaged_is_forced_once_then_refused(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = entry_of(tmp_path, folder, source="hf://owner/repo")
    (folder / "config.json").write_text("{}")
    forced = []

    def download(**kwargs: Any) -> str:
        forced.append((kwargs["filename"], kwargs["force_download"]))
        return str(folder / kwargs["filename"])

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ValueError, match=r"hf://owner/repo/config\.json: 2 bytes, expected"):
        fetch(entry)
    assert forced[-2:] == [("config.json", False), ("config.json", True)]


def test_hub_offline(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    entry = entry_of(tmp_path, folder, source="hf://owner/repo")
    with pytest.raises(OSError, match=r"hf://owner/repo/\S+: .") as caught:
        fetch(entry, tmp_path / "hub")
    assert "\n" not in str(caught.value)


# Command line


def test_zoo_list_show_verify(tmp_path: Path, folder: Path) -> None:
    write_registry(tmp_path, {"b": values_of(folder), "a": values_of(folder, source="gone")})
    table = rendered(zoo.zoo_list())
    assert table.index(" a ") < table.index(" b ")
    assert "semseg  miou 0.4123" in table
    assert "depth  rmse 1" in table
    shown = rendered(zoo.zoo_show("b"))
    sha256 = describe_files(folder)["config.json"]["sha256"]
    assert all(
        text in shown for text in ("Apache-2.0", "[seed 0]", "train [/x] --a", "A card.", sha256)
    )
    assert "no card: " in rendered(zoo.zoo_show("a"))
    with pytest.raises(ValueError, match="no model 'c' in the zoo; zoo: a, b"):
        zoo.zoo_show("c")
    problems = dict(zoo.zoo_verify())
    assert problems["b"] is None
    assert "no such file" in (problems["a"] or "")
    assert [name for name, _ in zoo.zoo_verify(["b", "c"])] == ["b", "c"]


def test_zoo_show_of_a_remote_model_fetches_the_card_only(
    remote: ModelEntry, downloads: Downloads
) -> None:
    assert "A card." in rendered(zoo.zoo_show("rooms-r18"))
    assert downloads.urls == ["https://example.com/m/README.md"]


def test_empty_zoo() -> None:
    assert list_models() == []
    assert zoo.zoo_verify() == []
    with pytest.raises(ValueError, match=r"zoo: \(empty\)"):
        load_model("x")


def test_real_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FACTORY, factory.create_model_from_config)
    model = factory.create_model("test_resnet", SPECS, decoder_options={"channels": 16}).eval()
    folder = tmp_path / "models" / "real"
    save_model(model, folder)
    entry_of(tmp_path, folder, name="real", source="real")
    loaded = load_model("real")
    images = torch.zeros(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images)["depth"], loaded(images)["depth"])
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() in str(
        describe_files(folder)
    )
